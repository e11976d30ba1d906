// Layer: pool
#pragma once

#include <concepts>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

#include <brood/errors.hpp>

namespace brood {

/// Which failures of an item are worth another attempt.
///
///     pool.with({.retries = 5, .retry_if = brood::retry_on<std::system_error>()})
///     pool.with({.retries = 2, .retry_if = brood::retry_on_signal(SIGBUS) ||
///                                          brood::retry_on<brood::TaskTimeout>()})
///     pool.with({.retries = 2, .retry_if = [](const std::exception& e) { return busy(e); }})
///
/// It is asked in the pool's process, on one of its threads, with what the caller would catch: the
/// item's own exception, WorkerCrashed, or TaskTimeout. It should return soon and must not use the
/// pool. What it throws counts as no. Without one, only the death of a worker is worth another
/// attempt: an exception is an answer.
class RetryIf {
 public:
  using Predicate = std::function<bool(const std::exception&)>;

  RetryIf() = default;
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, RetryIf> &&
             std::predicate<std::remove_cvref_t<F>&, const std::exception&>)
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): it is constrained
  RetryIf(F&& predicate) : predicate_(std::forward<F>(predicate)) {}  // reads as an assignment

  /// Somebody has something to say.
  explicit operator bool() const { return static_cast<bool>(predicate_); }
  bool operator()(const std::exception& failure) const {
    return predicate_ ? predicate_(failure)
                      : dynamic_cast<const WorkerCrashed*>(&failure) != nullptr;
  }

  friend RetryIf operator||(RetryIf a, RetryIf b) {
    return [a = std::move(a), b = std::move(b)](const std::exception& e) { return a(e) || b(e); };
  }

 private:
  Predicate predicate_;
};

/// Exceptions of these types, or derived from one.
template <class... E>
  requires(sizeof...(E) > 0)
RetryIf retry_on() {
  return [](const std::exception& failure) {
    return ((dynamic_cast<const E*>(&failure) != nullptr) || ...);
  };
}

/// Workers killed by one of these signals.
template <std::same_as<int>... Signals>
  requires(sizeof...(Signals) > 0)
RetryIf retry_on_signal(Signals... signals) {
  return [... s = signals](const std::exception& failure) {
    const auto* crashed = dynamic_cast<const WorkerCrashed*>(&failure);
    return crashed != nullptr && ((crashed->signal() == s) || ...);
  };
}

}  // namespace brood
