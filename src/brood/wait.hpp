// Layer: channel
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <vector>

#include <brood/platform/deadline.hpp>

namespace brood {

/// Something that can be waited for: what has a descriptor() or sentinel() that becomes readable
/// when it is ready (a Connection, a Descriptor, a Process), or the number of such a descriptor. A
/// value; what it was made of must live as long as it is used.
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

  [[nodiscard]] int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

namespace detail {
std::vector<std::size_t> wait_until(std::span<const Waitable> objects, Deadline deadline);
}  // namespace detail

/// Waits until at least one of `objects` is ready: a message or the end has come, a process has
/// ended. Returns the positions of those that are, in order.
///
///     for (std::size_t i : brood::wait({connection, process, 0}, std::chrono::seconds(1))) ...
///
/// With a timeout the result may be empty; a negative one only looks. Any threads may wait for the
/// same objects at once; ready means that it was so then. Signals are waited over. Throws
/// StateError for a closed connection or a process that was not started, and for nothing to wait
/// for without a timeout; SystemError for a number that is no descriptor.
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
