// Layer: channel
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include <brood/channel/watch.hpp>
#include <brood/platform/deadline.hpp>

namespace brood {

namespace detail {
struct WaitableParts;
}

/// Something that can be waited for: what has a descriptor() or sentinel() that becomes readable
/// when it is ready (a Connection, a Descriptor, a Process), or the number of such a descriptor;
/// and queues, ready when there is a message or the end, and futures, ready when get() does not
/// wait. A value; what it was made of must live, and a future stay where it is, as long as it is
/// used.
class Waitable {
 public:
  Waitable(int descriptor) : descriptor_(descriptor) {}  // NOLINT(google-explicit-constructor)
  template <class T>
    requires requires(const T& object) {
      { object.descriptor() } -> std::same_as<int>;
    }
  Waitable(const T& object)  // NOLINT(google-explicit-constructor)
      : descriptor_(object.descriptor()) {}
  template <class T>
    requires requires(const T& object) {
      { object.sentinel() } -> std::same_as<int>;
    }
  Waitable(const T& object)  // NOLINT(google-explicit-constructor)
      : descriptor_(object.sentinel()) {}
  template <detail::Watched T>
  Waitable(const T& object)  // NOLINT(google-explicit-constructor)
      : watch_(detail::WatchAccess::watch(object)) {}

 private:
  friend detail::WaitableParts;
  int descriptor_ = -1;
  std::shared_ptr<detail::Watch> watch_;  // if it has no descriptor
};

namespace detail {
struct WaitableParts {
  static int descriptor(const Waitable& object) { return object.descriptor_; }
  static Watch* watch(const Waitable& object) { return object.watch_.get(); }
};
std::vector<std::size_t> wait_until(std::span<const Waitable> objects, Deadline deadline);
}  // namespace detail

/// Waits until at least one of `objects` is ready: a message or the end has come, a process has
/// ended, a result is there. Returns the positions of those that are, in order.
///
///     for (std::size_t i : brood::wait({connection, process, 0}, std::chrono::seconds(1))) ...
///
/// With a timeout the result may be empty; a negative one only looks. Any threads may wait for the
/// same objects at once; ready means that it was so then: somebody else may have taken the message,
/// so use try_get() and the like. Nothing is taken, and nobody else's wake-up is lost. Signals are
/// waited over.
///
/// Costs: descriptors alone are one poll(); queues and futures alone one sleep on up to about 120
/// words of shared memory (a queue has one, a pool's futures one and one for each worker; with more
/// of them it looks every five milliseconds). Both together, if none is ready at once, need a
/// thread for as long as the call sleeps, some tens of microseconds; it is gone when the call
/// returns, and so is never in the way of a later fork. Who waits for a future does what the pool
/// needs meanwhile, as get() does. A death wakes those whom it concerns: a message that comes back
/// from a killed consumer makes its queue ready.
///
/// Throws StateError for a closed connection, a process that was not started, a future whose result
/// was fetched, and for nothing to wait for without a timeout; SystemError for a number that is no
/// descriptor, and when there is no thread or descriptor left; DecodeError for a damaged queue.
inline std::vector<std::size_t> wait(std::span<const Waitable> objects) {
  return detail::wait_until(objects, detail::Deadline::never());
}
template <class Rep, class Period>
std::vector<std::size_t> wait(std::span<const Waitable> objects,
                              std::chrono::duration<Rep, Period> timeout) {
  return detail::wait_until(objects, detail::Deadline::after(timeout));
}
inline std::vector<std::size_t> wait(std::initializer_list<Waitable> objects) {
  return detail::wait_until({objects.begin(), objects.size()}, detail::Deadline::never());
}
template <class Rep, class Period>
std::vector<std::size_t> wait(std::initializer_list<Waitable> objects,
                              std::chrono::duration<Rep, Period> timeout) {
  return detail::wait_until({objects.begin(), objects.size()}, detail::Deadline::after(timeout));
}

}  // namespace brood
