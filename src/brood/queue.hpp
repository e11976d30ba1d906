// Layer: channel
// First in, first out, between processes.
// Length: one class, most of it what its calls promise.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/codec.hpp>
#include <brood/channel/handle_codec.hpp>
#include <brood/channel/queue_core.hpp>
#include <brood/channel/watch.hpp>
#include <brood/errors.hpp>
#include <brood/lease.hpp>

namespace brood {

struct QueueOptions {
  std::size_t maxsize = 0;       ///< messages at most; 0: as many as there is memory for
  bool wait_for_memory = false;  ///< when shared memory is full, put waits instead of throwing
};

/// A queue of values between processes: any number put, any number get, in the order in which
/// they were put.
///
/// A handle: copies are the same queue; it travels as an argument, in a message, in a container.
/// At once: any process, any thread; one handle object by several threads too, but for assignment.
/// Bytes: in the family's shared memory. Up to 52 bytes lie in the queue itself, more in a block
///   beside it; what is shared already (a Value, an array) is not copied. An object that is named
///   in a message lives as long as the message, whoever put it; one that names its own queue, for
///   ever.
/// Death: a put that was killed has put all of it or nothing. One that returned is delivered to
///   exactly one consumer that lives to have it: who is killed in the middle of a get, or with a
///   lease, had nothing, and another gets it. Nobody is blocked by the dead. A stopped process is
///   not dead: what it holds for a moment it keeps.
/// Across fork: nothing special.
/// Order: first in, first out, over all producers. A message that came back has lost its place.
///   What was done before put() is visible after get().
/// Errors: QueueClosed from put, and from get at the end; SharedMemoryFull; DecodeError when the
///   bytes are damaged (the message is gone then). Waiting costs no processor time.
///
///     void work(brood::Queue<std::string> jobs) {
///       for (const std::string& job : jobs) std::puts(job.c_str());  // until it is closed
///     }
///     brood::Queue<std::string> jobs(100);
///     brood::Process worker(work, jobs);
///     worker.start();
///     jobs.put("sweep");
///     jobs.close();
template <class T>
class Queue {
 public:
  using value_type = T;
  class Iterator;

  explicit Queue(std::size_t maxsize = 0) : Queue(QueueOptions{.maxsize = maxsize}) {}
  explicit Queue(QueueOptions options) : Queue(kObjectType, options) {
    detail::require_sendable<T>();
  }

  // Putting: waits while the queue is full. The timed ones say whether it is put.
  void put(const T& value) const { put_until_deadline(value, detail::Deadline::never()); }
  [[nodiscard]] bool try_put(const T& value) const {
    return put_until_deadline(value, detail::Deadline::now());
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_put_for(const T& value, std::chrono::duration<Rep, Period> time) const {
    return put_until_deadline(value, detail::Deadline::after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_put_until(const T& value,
                                   std::chrono::time_point<Clock, Duration> when) const {
    return put_until_deadline(value, detail::Deadline::until(when));
  }
  /// One after the other, others' may come in between; who is killed in it has put the first ones.
  /// Small plain values go in batches, which is faster than put() for each.
  template <std::ranges::input_range Range>
  void put_many(Range&& values) const;

  // Getting: waits while the queue is empty.
  /// Throws QueueClosed at the end.
  [[nodiscard]] T get() const {
    Core::Held held;
    if (core_.take(held, false, detail::Deadline::never()) != Core::Taken::message) {
      throw QueueClosed("the end of the queue: it is closed, and nothing is left");
    }
    return take_out(held);
  }
  /// Nothing at the end.
  [[nodiscard]] std::optional<T> next() const {
    return get_until_deadline(detail::Deadline::never());
  }
  /// Nothing when nothing is there (in time), and at the end; closed() and empty() tell which.
  [[nodiscard]] std::optional<T> try_get() const {
    return get_until_deadline(detail::Deadline::now());
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> try_get_for(std::chrono::duration<Rep, Period> time) const {
    return get_until_deadline(detail::Deadline::after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<T> try_get_until(
      std::chrono::time_point<Clock, Duration> when) const {
    return get_until_deadline(detail::Deadline::until(when));
  }
  /// Waits for one, and takes what else is there, `most` at most. Empty at the end.
  [[nodiscard]] std::vector<T> get_many(std::size_t most) const;

  // Leases: see Lease.
  /// Nothing at the end. Whoever holds a lease when the queue is closed is waited for by those who
  /// hold none.
  [[nodiscard]] std::optional<Lease<T>> lease() const {
    return lease_until_deadline(detail::Deadline::never());
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<Lease<T>> try_lease_for(
      std::chrono::duration<Rep, Period> time) const {
    return lease_until_deadline(detail::Deadline::after(time));
  }
  /// As lease(), but what has been taken more than `most_deliveries` times, as it kills its
  /// consumers, is put into `dead_letters` instead.
  [[nodiscard]] std::optional<Lease<T>> lease(const Queue& dead_letters,
                                              unsigned most_deliveries) const {
    for (;;) {
      std::optional<Lease<T>> found = lease();
      if (!found || found->deliveries() <= most_deliveries) return found;
      dead_letters.put(found->value());
      found->ack();
    }
  }

  /// Nobody puts any more; what is inside can still be taken. Wakes all. Again is harmless.
  void close() const { core_.close(); }
  [[nodiscard]] bool closed() const { return core_.ring().closing(); }

  /// Exact when nobody alive is in the middle of a call. What the dead had in hand, once they are
  /// joined, counts if it was taken, and does not if it was being put.
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(core_.size()); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] bool full() const { return core_.full(); }
  [[nodiscard]] std::size_t maxsize() const { return core_.maxsize(); }

  /// Takes from the queue until its end: for (const T& value : queue).
  [[nodiscard]] Iterator begin() const { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

  friend bool operator==(const Queue& a, const Queue& b) noexcept { return a.handle_ == b.handle_; }

 protected:
  friend detail::HandleAccess;
  friend detail::WatchAccess;
  [[nodiscard]] std::shared_ptr<detail::Watch> watch() const { return core_.watch(); }
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<T>(detail::ObjectKind::queue);
  static constexpr std::size_t kLeastBytes = detail::Ring<>::header_bytes();
  static constexpr bool kImage =
      detail::kCrossing<T> == detail::Crossing::image && sizeof(T) <= detail::Ring<>::kPayload;
  using Core = detail::QueueCore;
  Queue(detail::ObjectType type, QueueOptions options)
      : core_(type, {.maxsize = options.maxsize, .wait_for_memory = options.wait_for_memory}),
        handle_(core_.handle()) {}
  explicit Queue(detail::Handle handle) : core_(std::move(handle)), handle_(core_.handle()) {}

  bool put_until_deadline(const T& value, detail::Deadline deadline) const;
  std::optional<T> get_until_deadline(detail::Deadline deadline) const;
  std::optional<Lease<T>> lease_until_deadline(detail::Deadline deadline) const;
  T decode_held(const Core::Held& held) const;
  T take_out(const Core::Held& held) const;

  Core core_;
  detail::Handle handle_;
};

/// Goes through a queue, taking; an input iterator.
template <class T>
class Queue<T>::Iterator {
 public:
  using value_type = T;
  using difference_type = std::ptrdiff_t;
  using iterator_concept = std::input_iterator_tag;

  explicit Iterator(const Queue& queue) : queue_(&queue), value_(queue.next()) {}
  const T& operator*() const { return *value_; }
  const T* operator->() const { return &*value_; }
  Iterator& operator++() {
    value_ = queue_->next();
    return *this;
  }
  void operator++(int) { ++*this; }
  friend bool operator==(const Iterator& it, std::default_sentinel_t) { return !it.value_; }

 private:
  const Queue* queue_;
  std::optional<T> value_;
};

template <class T>
bool Queue<T>::put_until_deadline(const T& value, detail::Deadline deadline) const {
  if constexpr (kImage) {
    const std::optional<Core::Held> held = core_.claim(deadline);
    if (held) core_.put_image(*held, &value, sizeof(T));
    return held.has_value();
  } else {
    for (unsigned round = 0;; ++round) {
      detail::QueueMessageSink message(core_.heap());
      try {
        detail::encode(message, value);
        message.seal();
      } catch (const SharedMemoryFull&) {
        if (!core_.waits_for_memory() || deadline.passed()) throw;
        core_.wait_for_memory(round, deadline);
        continue;
      }
      const std::optional<Core::Held> held = core_.claim(deadline);
      if (held) core_.put(*held, message);
      return held.has_value();
    }
  }
}

template <class T>
template <std::ranges::input_range Range>
void Queue<T>::put_many(Range&& values) const {
  if constexpr (!kImage) {
    for (auto&& value : values) put(value);
  } else if constexpr (std::ranges::contiguous_range<Range> && std::ranges::sized_range<Range> &&
                       std::is_same_v<std::ranges::range_value_t<Range>, T>) {
    core_.put_images(std::ranges::data(values), std::ranges::size(values), sizeof(T));
  } else {
    // Gathered first: what the range does must not be done with slots in hand.
    std::array<std::byte, Core::kBatch * sizeof(T)> batch;
    std::size_t count = 0;
    for (auto&& each : values) {
      const T value = static_cast<T>(each);
      std::memcpy(batch.data() + count * sizeof(T), &value, sizeof(T));
      if (++count == Core::kBatch)
        core_.put_images(batch.data(), std::exchange(count, 0), sizeof(T));
    }
    core_.put_images(batch.data(), count, sizeof(T));
  }
}

template <class T>
T Queue<T>::decode_held(const Core::Held& held) const {
  detail::ByteSource source = core_.bytes(held);
  return detail::decode<T>(source);
}

template <class T>
std::optional<T> Queue<T>::get_until_deadline(detail::Deadline deadline) const {
  Core::Held held;
  if (core_.take(held, false, deadline) != Core::Taken::message) return std::nullopt;
  return take_out(held);
}

template <class T>
T Queue<T>::take_out(const Core::Held& held) const {
  try {
    T value(decode_held(held));
    core_.release(held);
    return value;
  } catch (...) {
    core_.release(held);  // nobody else would fare better
    throw;
  }
}

template <class T>
std::vector<T> Queue<T>::get_many(std::size_t most) const {
  std::vector<T> values;
  std::vector<Core::Held> held(std::min<std::size_t>(most, 256));
  std::size_t got = 0;
  if (held.empty() ||
      core_.take({held}, got, false, detail::Deadline::never()) != Core::Taken::message) {
    return values;
  }
  values.reserve(got);
  std::size_t done = 0;
  try {
    for (; done != got; ++done) {
      values.push_back(decode_held(held[done]));
      core_.release(held[done]);
    }
  } catch (...) {
    core_.release(held[done]);
    while (++done != got) core_.give_back(held[done]);
    throw;
  }
  return values;
}

template <class T>
std::optional<Lease<T>> Queue<T>::lease_until_deadline(detail::Deadline deadline) const {
  Core::Held held;
  if (core_.take(held, true, deadline) != Core::Taken::message) return std::nullopt;
  try {
    return Lease<T>(core_, held, decode_held(held));
  } catch (...) {
    core_.release(held);
    throw;
  }
}

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::Queue<T>> = true;
template <class T>
struct std::hash<brood::Queue<T>> : brood::detail::HandleHash<brood::Queue<T>> {};
