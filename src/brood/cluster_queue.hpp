// Layer: cluster
// First in, first out, between machines.
// Length: one class, most of it what its calls promise.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include <brood/cluster/stored_value.hpp>
#include <brood/cluster/stream_queue.hpp>
#include <brood/cluster_options.hpp>
#include <brood/errors.hpp>

namespace brood {

struct ClusterQueueOptions {
  std::size_t maxsize = 0;  ///< values at most; 0: as many as the server has room for
};

template <class T>
class ClusterLease;

/// A queue of values on the server of a cluster: any number put, any number get, on any machines,
/// with the calls of a Queue.
///
///     brood::ClusterQueue<std::string> jobs("jobs", {.url = "nats://head:4222"});
///     jobs.put("sweep");
///     ...
///     while (auto job = jobs.lease()) {   // in another program, on another machine
///       work(job->value());
///       job->ack();                       // killed before this, another gets it
///     }
///
/// Who says the same name, on the same server, in a cluster of the same name, has the same queue;
/// it stays on the server until unlink(), closed or not, whatever becomes of the programs. A
/// handle: copies are the same queue. It travels as an argument of tasks and processes, which have
/// what they need besides from their environment, as agents' workers do: the key,
/// BROOD_CLUSTER_KEY, and where the URL has a password, BROOD_CLUSTER_URL.
///
/// At once: any process, any thread; one handle object by several threads too, but for assignment.
///   NATS has threads, so StartMethod::fork is refused once there is a handle that is connected.
/// Bytes: in the server's store, signed with the key of the cluster; up to its max_payload, 1 MiB
///   unless it is told otherwise.
/// Death: a put that was killed has put all of it or nothing. One that returned is there as long as
///   the server has what it has: one that loses its store loses the queue, and calls throw
///   EngineError then; one that is killed may lose what it was given in the last moments, unless
///   `replicas` are on others. What a consumer held that was killed, or cut off, in a lease or in
///   the middle of a get, goes to another when ClusterOptions::lease has ended.
/// Once: a value is delivered to one consumer. To a second one as well if the first was lost with
///   it, was stopped for longer than its lease, or if the server went away between the two; put()
///   tries again with the same name for its message, so that it is there once, unless the server
///   was away for minutes in the middle of it.
/// Order: first in, first out, of each producer, and over all producers. What came back has lost
///   its place.
/// Across fork: not there.
/// Errors: QueueClosed, as Queue; EngineError when the server does not answer for
///   ClusterOptions::patience, or till the deadline of the call, or has lost the queue;
///   AuthenticationError for another key; TypeMismatch for another T, which costs no value;
///   ArgumentError for a handle to shared memory; MessageTooLarge; DecodeError, and
///   AuthenticationError for what a stranger has put there: it is gone then.
///
/// Not as in a Queue: a close() is noticed by who waits within half a second; size() counts what is
/// in leases; no wait() for it among other things. Values are copied by way of the server: some
/// thousands each second.
template <class T>
class ClusterQueue {
 public:
  using value_type = T;
  class Iterator;

  /// Makes it, or finds the one that is there. `name`: letters, digits, - and _. Throws
  /// ArgumentError, also if it is there with another maxsize; EngineError; AuthenticationError and
  /// TypeMismatch if it was made with another key or T.
  explicit ClusterQueue(std::string name, ClusterOptions cluster = {},
                        ClusterQueueOptions options = {})
      : queue_((detail::require_storable<T>(),
                std::make_shared<detail::StreamQueue>(detail::place_of(std::move(cluster)),
                                                      setup(std::move(name), options.maxsize)))) {}

  [[nodiscard]] const std::string& name() const { return queue_->name(); }

  // Putting: waits while the queue is full, not in any order. The timed ones say whether it is put.
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
  template <std::ranges::input_range Range>
  void put_many(Range&& values) const {
    for (auto&& value : values) put(value);
  }

  // Getting: waits while the queue is empty. The server is told that the value is had before it is
  // returned: who is killed later has lost it, see lease().
  /// Throws QueueClosed at the end.
  [[nodiscard]] T get() const {
    std::optional<T> value = next();
    if (!value) throw QueueClosed("the end of the queue: it is closed, and nothing is left");
    return std::move(*value);
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
  /// Waits for one, and takes what else the server knows of by then, `most` at most, some hundreds.
  /// Much faster than get() for each. Empty at the end.
  [[nodiscard]] std::vector<T> get_many(std::size_t most) const;

  // Leases: see ClusterLease.
  /// Nothing at the end. Whoever holds a lease when the queue is closed is waited for by those who
  /// hold none.
  [[nodiscard]] std::optional<ClusterLease<T>> lease() const {
    return lease_until_deadline(detail::Deadline::never());
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<ClusterLease<T>> try_lease_for(
      std::chrono::duration<Rep, Period> time) const {
    return lease_until_deadline(detail::Deadline::after(time));
  }
  /// As lease(), but what has been taken more than `most_deliveries` times, as it kills its
  /// consumers, is put into `dead_letters` instead.
  [[nodiscard]] std::optional<ClusterLease<T>> lease(const ClusterQueue& dead_letters,
                                                     unsigned most_deliveries) const;
  /// Until all that was put has been got or acknowledged: JoinableQueue's join(), where
  /// ClusterLease::ack() is task_done().
  void join() const { static_cast<void>(queue_->join(detail::Deadline::never())); }
  /// False when it is not in time.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> time) const {
    return queue_->join(detail::Deadline::after(time));
  }

  /// Nobody puts any more; what is inside can still be taken. Again is harmless. It stays closed:
  /// unlink() it to begin anew under the same name.
  void close() const { queue_->close(); }
  [[nodiscard]] bool closed() const { return queue_->closed(); }
  /// Takes it from the server, with what is in it. Handles to it find it gone.
  void unlink() const { queue_->remove(); }

  /// What is waiting, and what is in leases or on its way to a consumer. As of a moment ago.
  [[nodiscard]] std::size_t size() const { return queue_->size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] bool full() const { return maxsize() != 0 && size() >= maxsize(); }
  [[nodiscard]] std::size_t maxsize() const { return queue_->maxsize(); }

  /// Takes from the queue until its end: for (const T& value : queue).
  [[nodiscard]] Iterator begin() const { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

  friend bool operator==(const ClusterQueue& a, const ClusterQueue& b) {
    return a.name() == b.name() && a.queue_->place() == b.queue_->place();
  }

 private:
  friend struct detail::Codec<ClusterQueue>;
  using Deliveries = std::vector<detail::StreamQueue::Delivery>;
  explicit ClusterQueue(std::shared_ptr<detail::StreamQueue> queue) : queue_(std::move(queue)) {}
  static detail::StreamQueue::Setup setup(std::string name, std::size_t maxsize) {
    return {.name = std::move(name), .maxsize = maxsize, .type = detail::stored_type<T>()};
  }

  bool put_until_deadline(const T& value, detail::Deadline deadline) const;
  std::optional<T> get_until_deadline(detail::Deadline deadline) const;
  std::optional<ClusterLease<T>> lease_until_deadline(detail::Deadline deadline) const;
  std::vector<T> values_of(const Deliveries& deliveries) const;
  void acknowledge(const Deliveries& deliveries) const;

  std::shared_ptr<detail::StreamQueue> queue_;
};

/// A value that was taken from a ClusterQueue and not yet acknowledged. If the process dies, or the
/// lease goes without ack(), it goes back to the queue and to another consumer.
///
/// Belongs to one thread, as std::unique_ptr does. A thread of the queue renews it as long as the
/// process runs, so work may take as long as it takes. ack() after the work is done; who is killed
/// after the work and before ack() has it done twice.
template <class T>
class ClusterLease {
 public:
  ClusterLease(ClusterLease&& other) noexcept = default;
  ClusterLease& operator=(ClusterLease other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(id_, other.id_);
    std::swap(value_, other.value_);
    std::swap(deliveries_, other.deliveries_);
    return *this;
  }
  ~ClusterLease() { give_back(); }

  [[nodiscard]] T& value() { return value_; }
  T& operator*() { return value_; }
  T* operator->() { return &value_; }
  /// How often it has been taken: 1 the first time.
  [[nodiscard]] unsigned deliveries() const { return deliveries_; }
  /// The value is done with, and the server knows. Throws StateError when it was said before;
  /// EngineError when the server does not answer: another may get the value then.
  void ack() {
    if (!queue_) throw StateError("this lease was acknowledged or given back before");
    const std::uint64_t id = id_;
    static_cast<void>(std::exchange(queue_, nullptr)->ack({&id, 1}));
  }
  /// Another shall have it.
  void give_back() noexcept {
    if (queue_) std::exchange(queue_, nullptr)->give_back(id_);
  }

 private:
  friend class ClusterQueue<T>;
  ClusterLease(std::shared_ptr<detail::StreamQueue> queue, std::uint64_t id, unsigned deliveries,
               T value)
      : queue_(std::move(queue)), id_(id), deliveries_(deliveries), value_(std::move(value)) {}

  std::shared_ptr<detail::StreamQueue> queue_;
  std::uint64_t id_;
  unsigned deliveries_;
  T value_;
};

/// Goes through a queue, taking; an input iterator.
template <class T>
class ClusterQueue<T>::Iterator {
 public:
  using value_type = T;
  using difference_type = std::ptrdiff_t;
  using iterator_concept = std::input_iterator_tag;

  explicit Iterator(const ClusterQueue& queue) : queue_(&queue), value_(queue.next()) {}
  const T& operator*() const { return *value_; }
  const T* operator->() const { return &*value_; }
  Iterator& operator++() {
    value_ = queue_->next();
    return *this;
  }
  void operator++(int) { ++*this; }
  friend bool operator==(const Iterator& it, std::default_sentinel_t) { return !it.value_; }

 private:
  const ClusterQueue* queue_;
  std::optional<T> value_;
};

template <class T>
bool ClusterQueue<T>::put_until_deadline(const T& value, detail::Deadline deadline) const {
  using Put = detail::StreamQueue::Put;
  const Put put = queue_->put(detail::stored_bytes(value), deadline);
  if (put == Put::closed) throw QueueClosed("put into a queue that is closed");
  return put == Put::done;
}

/// All or none: when one cannot be read, the others go back. That one too, if it is this handle
/// that is wrong, as the queue was made anew with another type or key; if not, nobody can read it,
/// and it goes.
template <class T>
std::vector<T> ClusterQueue<T>::values_of(const Deliveries& deliveries) const {
  std::vector<T> values;
  values.reserve(deliveries.size());
  for (const auto& delivery : deliveries) {
    try {
      values.push_back(detail::stored_value<T>(queue_->open(delivery.message)));
    } catch (...) {
      for (const auto& each : deliveries) {
        if (each.id != delivery.id) queue_->give_back(each.id);
      }
      if (queue_->is_ours()) {
        static_cast<void>(queue_->ack({&delivery.id, 1}));
      } else {
        queue_->give_back(delivery.id);
      }
      throw;
    }
  }
  return values;
}

template <class T>
void ClusterQueue<T>::acknowledge(const Deliveries& deliveries) const {
  std::vector<std::uint64_t> ids;
  for (const auto& delivery : deliveries) ids.push_back(delivery.id);
  try {
    static_cast<void>(queue_->ack(ids));
  } catch (const EngineError&) {  // NOLINT(bugprone-empty-catch)
    // Perhaps the server knows, so the values must not be dropped; perhaps another gets them too.
  }
}

template <class T>
std::optional<T> ClusterQueue<T>::get_until_deadline(detail::Deadline deadline) const {
  const Deliveries deliveries = queue_->take(1, deadline);
  if (deliveries.empty()) return std::nullopt;
  std::vector<T> values = values_of(deliveries);
  acknowledge(deliveries);
  return std::optional<T>(std::move(values.front()));
}

template <class T>
std::vector<T> ClusterQueue<T>::get_many(std::size_t most) const {
  const Deliveries deliveries = queue_->take(most, detail::Deadline::never());
  std::vector<T> values = values_of(deliveries);
  acknowledge(deliveries);
  return values;
}

template <class T>
std::optional<ClusterLease<T>> ClusterQueue<T>::lease_until_deadline(
    detail::Deadline deadline) const {
  const Deliveries deliveries = queue_->take(1, deadline);
  if (deliveries.empty()) return std::nullopt;
  std::vector<T> values = values_of(deliveries);
  queue_->hold(deliveries.front().id);
  return ClusterLease<T>(queue_, deliveries.front().id, deliveries.front().times,
                         std::move(values.front()));
}

template <class T>
std::optional<ClusterLease<T>> ClusterQueue<T>::lease(const ClusterQueue& dead_letters,
                                                      unsigned most_deliveries) const {
  for (;;) {
    std::optional<ClusterLease<T>> found = lease();
    if (!found || found->deliveries() <= most_deliveries) return found;
    dead_letters.put(found->value());
    found->ack();
  }
}

/// As the name of the queue, and where it is: see PlaceName.
template <class T>
struct detail::Codec<ClusterQueue<T>> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const ClusterQueue<T>& queue) {
    to.put(queue.queue_->place());
    to.put(queue.name());
    to.put(stored_type<T>().print);
  }
  static ClusterQueue<T> read(Decoder& from) {
    auto place = from.get<PlaceName>();
    auto name = from.get<std::string>();
    require_print<T>(from.get<std::uint64_t>(), "queue", name);
    return ClusterQueue<T>(std::make_shared<StreamQueue>(
        std::move(place), ClusterQueue<T>::setup(std::move(name), 0)));
  }
};

}  // namespace brood

template <class T>
struct std::hash<brood::ClusterQueue<T>> {
  std::size_t operator()(const brood::ClusterQueue<T>& queue) const noexcept {
    return std::hash<std::string>()(queue.name());
  }
};
