// Layer: channel
// Messages that go back to their queue unless they are acknowledged.
#pragma once

#include <optional>
#include <utility>

#include <brood/channel/queue_core.hpp>
#include <brood/errors.hpp>

namespace brood {

template <class T>
class Queue;

/// A message that was taken and not yet acknowledged. If the process dies, or the lease goes
/// without ack(), the message goes back to the queue and to another consumer.
///
/// Belongs to one thread, as std::unique_ptr does. ack() after the work is done; who is killed
/// after the work and before ack() has it done twice.
template <class T>
class Lease {
 public:
  Lease(Lease&& other) noexcept
      : core_(std::exchange(other.core_, std::nullopt)),
        held_(other.held_),
        value_(std::move(other.value_)),
        deliveries_(other.deliveries_) {}
  Lease& operator=(Lease other) noexcept {
    std::swap(core_, other.core_);
    std::swap(held_, other.held_);
    std::swap(value_, other.value_);
    std::swap(deliveries_, other.deliveries_);
    return *this;
  }
  ~Lease() { give_back(); }

  [[nodiscard]] T& value() { return value_; }
  T& operator*() { return value_; }
  T* operator->() { return &value_; }
  /// How often it has been taken: 1 the first time.
  [[nodiscard]] unsigned deliveries() const { return deliveries_; }
  /// The message is done with. Throws StateError when it was said before.
  void ack() {
    if (!core_) throw StateError("this lease was acknowledged or given back before");
    std::exchange(core_, std::nullopt)->release(held_);
  }
  /// Another shall have it.
  void give_back() noexcept {
    if (core_) std::exchange(core_, std::nullopt)->give_back(held_);
  }

 private:
  friend class Queue<T>;
  Lease(detail::QueueCore core, const detail::QueueCore::Held& held, T value)
      : core_(std::move(core)),
        held_(held),
        value_(std::move(value)),
        deliveries_(held.slot->deliveries) {}

  std::optional<detail::QueueCore> core_;
  detail::QueueCore::Held held_;
  T value_;
  unsigned deliveries_;
};

}  // namespace brood
