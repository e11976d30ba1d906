#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <ranges>
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
class SerialPool {
 public:
  void close() { closed_.store(true); }
  [[nodiscard]] bool closed() const { return closed_.load(); }
  void require_open() const {
    if (closed()) throw PoolClosed("the pool is closed: it takes no more work");
  }
  /// The calling thread's.
  WorkerStates& states() {
    const std::lock_guard lock(mutex_);
    return states_[std::this_thread::get_id()];
  }
  /// Nobody computes any more: what its workers kept goes.
  void end() {
    close();
    std::map<std::thread::id, WorkerStates> ended;
    const std::lock_guard lock(mutex_);
    ended.swap(states_);
  }

 private:
  std::atomic<bool> closed_{false};
  std::mutex mutex_;
  std::map<std::thread::id, WorkerStates> states_;  // guarded by mutex_
};

/// Failures are what they would be if they came from a worker.
template <class R, class Compute>
Outcome<R> outcome_of(Compute&& compute, std::optional<std::size_t> item = {}) {
  ErrorRecord error;
  if constexpr (std::is_void_v<R>) {
    if (run_catching(compute, error)) return Outcome<R>(std::monostate{});
  } else {
    std::optional<R> value;
    if (run_catching([&] { value.emplace(compute()); }, error)) {
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
