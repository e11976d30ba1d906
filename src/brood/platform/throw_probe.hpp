// Layer: platform
// The stack at the throw of an exception that was caught, without a price for those that were not
// caught here, and nothing to pay at all until something is thrown.
//
//     try { body(); }
//     catch (const ThrowProbe&) {}  // never entered: records the stack, and lets the search go on
//     catch (...) { StackTrace stack = CaughtException().take_stack(); }
#pragma once

#include <brood/platform/stack_trace.hpp>

#include <cstdint>
#include <exception>
#include <typeinfo>

namespace brood::detail {

/// Never thrown and never caught. While the runtime looks for a handler, before anything is
/// unwound, it asks each catch clause on the way whether it takes the exception; a clause for
/// ThrowProbe says no, after it has noted the stack. Exceptions that are caught further in never
/// get to it.
struct __attribute__((visibility("default"))) ThrowProbe {
  virtual ~ThrowProbe();  // nowhere defined, so that the compiler emits no type_info of its own
};

/// The exception being handled, of whatever type: its type, its object as any base, and the stack
/// at its throw if a ThrowProbe saw it. Made in a handler; used by the thread that made it.
class CaughtException {
 public:
  /// The exception of the innermost handler that the thread is in.
  CaughtException() noexcept : CaughtException(std::current_exception()) {}
  explicit CaughtException(std::exception_ptr exception) noexcept;

  /// The type of the object that was thrown; nullptr when it was not thrown by C++.
  [[nodiscard]] const std::type_info* type() const noexcept { return type_; }

  /// The object as what `catch (const T&)` would bind to; nullptr where that would not catch it.
  template <class T>
  [[nodiscard]] const T* as() const noexcept {
    return static_cast<const T*>(as(typeid(T)));
  }
  [[nodiscard]] const void* as(const std::type_info& type) const noexcept;

  /// The stack at the throw (at the last `throw;` if it was caught and thrown again). To be called
  /// once, in the handler beside the ThrowProbe that noted it; otherwise it is empty.
  [[nodiscard]] StackTrace take_stack() const noexcept;

 private:
  std::exception_ptr exception_;
  const std::type_info* type_ = nullptr;
  void* object_ = nullptr;
};

/// How often a ThrowProbe of this thread has noted a stack.
std::uint64_t probed_throws_for_testing() noexcept;

}  // namespace brood::detail
