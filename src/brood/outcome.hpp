// Layer: channel
#pragma once

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace brood {

/// What became of one item or task: its value, or the exception that it ended with.
///
///     for (const brood::Outcome<int>& outcome : pool.try_map(f, inputs)) {
///       if (outcome) use(*outcome);
///       else try { outcome.value(); } catch (const std::exception& e) { ... }
///     }
///
/// A value of private memory; as safe between threads as R is. R may be void.
template <class R>
class [[nodiscard]] Outcome {
 public:
  using Value = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

  explicit Outcome(Value value) : state_(std::in_place_index<0>, std::move(value)) {}
  explicit Outcome(std::exception_ptr error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  /// The value; throws what happened if there is none.
  std::add_lvalue_reference_t<const R> value() const& {
    check();
    if constexpr (!std::is_void_v<R>) return std::get<0>(state_);
  }
  /// As above, and gives away what it has: an exception belongs to who catches it alone, whichever
  /// thread destroys the outcome.
  R value() && {
    if (!has_value()) std::rethrow_exception(std::get<1>(std::move(state_)));
    if constexpr (!std::is_void_v<R>) return std::get<0>(std::move(state_));
  }
  /// The value, which must be there.
  const Value& operator*() const& { return *std::get_if<0>(&state_); }
  Value& operator*() & { return *std::get_if<0>(&state_); }
  const Value* operator->() const { return std::get_if<0>(&state_); }

  /// The exception, or null if there is a value.
  [[nodiscard]] std::exception_ptr error() const {
    return has_value() ? nullptr : std::get<1>(state_);
  }

 private:
  void check() const {
    if (!has_value()) std::rethrow_exception(std::get<1>(state_));
  }

  std::variant<Value, std::exception_ptr> state_;
};

}  // namespace brood
