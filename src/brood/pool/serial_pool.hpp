#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <ranges>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/outcome.hpp>
#include <brood/pool/item_context.hpp>

namespace brood::detail {

/// A pool without workers: what is asked of it is computed in the caller, in order.
///
/// Any thread of its process may compute at once. When it was closed and nobody computes any more,
/// its finalizer runs, once: in close(), or at the end of the last call in the thread that made it.
class SerialPool {
 public:
  /// `finalizer` may be empty. What it throws is reported on stderr in the name of `name`, as of a
  /// worker.
  explicit SerialPool(std::function<void()> finalizer = {}, std::string name = {})
      : finalizer_(std::move(finalizer)), name_(std::move(name)) {}

  /// The calling thread computes, with its worker's state, until this ends.
  class Call {
   public:
    /// Throws PoolClosed.
    explicit Call(SerialPool& pool) : pool_(pool), states_(pool.begin()) {}
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call() { pool_.ended(); }

   private:
    SerialPool& pool_;
    WorkerStates::Use states_;
  };

  void close() noexcept;
  [[nodiscard]] bool closed() const;
  /// The calling thread's.
  WorkerStates& states();
  /// Closes; what its workers kept goes, and a finalizer that has not run never does.
  void end();

 private:
  WorkerStates& begin();
  void ended() noexcept;
  void finalize() noexcept;

  mutable std::mutex mutex_;  // guards what follows
  bool closed_ = false;
  std::size_t computing_ = 0;  // calls
  std::function<void()> finalizer_;
  std::map<std::thread::id, WorkerStates> states_;
  const std::string name_;
};

/// Failures are what they would be if they came from a worker.
template <class R, class Compute>
Outcome<R> outcome_of(Compute&& compute, std::optional<std::size_t> item = {}) {
  ErrorRecord error;
  if constexpr (std::is_void_v<R>) {
    if (run_catching(compute, error)) return Outcome<R>(std::monostate{});
  } else {
    std::optional<R> value;
    if (run_catching([&] { value.emplace(compute()); }, error) && value) {
      return Outcome<R>(*std::move(value));
    }
  }
  error.item = item;
  try {
    throw_error(error);
  } catch (...) {
    return Outcome<R>(std::current_exception());
  }
}

/// A map in the caller; answers as MapCall does.
template <class R>
class SerialMap {
 public:
  template <bool Spread, class... Ts, class F, class... Ranges>
  void run(F function, std::size_t items, std::uint64_t seed,
           const std::function<void(std::size_t, std::size_t)>& progress, Ranges&... ranges) {
    outcomes_.reserve(items);
    auto at = std::tuple(std::ranges::begin(ranges)...);
    std::size_t i = 0;
    const ItemScope scope(&i, seed);
    for (; i < items; ++i) {
      // Converted as for a worker: T is what the callable's parameter is stored as.
      std::apply(
          [&](auto&... each) {
            outcomes_.push_back(outcome_of<R>(
                [&]() -> R {
                  if constexpr (Spread) {
                    return (std::apply(function, Ts(*each)), ...);
                  } else {
                    return std::invoke(function, static_cast<Ts>(*each)...);
                  }
                },
                i));
            (++each, ...);
          },
          at);
      if (progress) progress(i + 1, items);
    }
  }

  auto values() {
    if constexpr (std::is_void_v<R>) {
      for (const Outcome<R>& outcome : outcomes_) outcome.value();
    } else {
      std::vector<R> values;
      values.reserve(outcomes_.size());
      for (Outcome<R>& outcome : outcomes_) values.push_back(std::move(outcome).value());
      return values;
    }
  }
  template <class Take>
  void take_each(Take take) {
    for (Outcome<R>& outcome : outcomes_) take(std::move(outcome).value());
  }
  std::vector<Outcome<R>> outcomes() { return std::move(outcomes_); }

 private:
  std::vector<Outcome<R>> outcomes_;
};

}  // namespace brood::detail
