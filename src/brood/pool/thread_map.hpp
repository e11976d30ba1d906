#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <stop_token>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/outcome.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/pool/thread_core.hpp>

namespace brood::detail {

/// The loop of a map on threads: who has time takes the next chunk. Each thread that helps runs it
/// as a job; a late one finds nothing left, and touches nothing of the caller's any more.
class ThreadLoop final : public ThreadJob {
 public:
  using Chunk = std::function<void(std::size_t begin, std::size_t end)>;

  /// `compute` must not throw.
  ThreadLoop(std::size_t items, std::size_t chunk, Chunk compute)
      : items_(items), chunk_(chunk), compute_(std::move(compute)), left_(items) {}

  void run() noexcept override;
  /// What has not begun never will.
  void drop() noexcept override;
  /// Waits until nobody computes any more. `progress` is called now and then; what it throws ends
  /// the call.
  void wait(const std::function<void(std::size_t, std::size_t)>& progress);
  [[nodiscard]] std::stop_token stop_token() const { return stop_.get_token(); }
  /// From this one on items were dropped; items if none was.
  [[nodiscard]] std::size_t dropped_from() const { return dropped_from_.load(); }

 private:
  void done(std::size_t count) noexcept;

  const std::size_t items_;
  const std::size_t chunk_;
  const Chunk compute_;
  std::stop_source stop_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> dropped_from_{items_};
  std::atomic<std::size_t> left_;
  std::atomic<std::uint32_t> ended_{0};  // slept on
};

/// The inputs of one argument, as threads read them: where they are if they can be reached by their
/// index at any time; else by their places, or, where they are made as one asks, made beforehand by
/// the caller.
template <class Range>
class ThreadColumn {
  using Reference = std::ranges::range_reference_t<Range>;
  static constexpr bool kLasting = std::is_lvalue_reference_v<Reference>;
  static constexpr bool kDirect =
      std::ranges::random_access_range<Range> &&
      (kLasting || is_count_of<std::remove_cvref_t<Range>, std::remove_cvref_t<Reference>>);
  using Place = std::ranges::iterator_t<Range>;
  static constexpr bool kPlaces = !kDirect && kLasting && std::ranges::forward_range<Range>;
  using Values = std::deque<std::ranges::range_value_t<Range>>;

 public:
  /// What the function is given.
  using Argument =
      std::conditional_t<kDirect || kPlaces, Reference, std::ranges::range_value_t<Range>&&>;

  ThreadColumn(Range& range, std::size_t items) {
    auto at = std::ranges::begin(range);
    if constexpr (kDirect) {
      kept_ = std::move(at);
    } else {
      for (std::size_t i = 0; i < items; ++i, ++at) {
        if constexpr (kPlaces) {
          kept_.push_back(at);
        } else {
          kept_.emplace_back(*at);
        }
      }
    }
  }
  Argument operator[](std::size_t i) const {
    if constexpr (kDirect) {
      return kept_[static_cast<std::ranges::range_difference_t<Range>>(i)];
    } else if constexpr (kPlaces) {
      return *kept_[i];
    } else {
      return std::move(kept_[i]);
    }
  }

 private:
  mutable std::conditional_t<kDirect, Place,
                             std::conditional_t<kPlaces, std::vector<Place>, Values>>
      kept_{};
};

/// What became of the items of a map on threads. Threads write different items at once.
template <class R>
class ThreadResults {
 public:
  explicit ThreadResults(std::size_t items) : items_(items) {
    if constexpr (!std::is_void_v<R>) values_ = std::make_unique<std::optional<R>[]>(items);
  }

  template <class Compute>
  void put(std::size_t item, Compute&& compute) noexcept {
    try {
      if constexpr (std::is_void_v<R>) {
        compute();
      } else {
        values_[item].emplace(compute());
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failures_.emplace(item, std::current_exception());
    }
  }
  void drop_from(std::size_t item) {
    if (item == items_) return;
    const auto dropped =
        std::make_exception_ptr(TaskCancelled("it was not computed: the pool was terminated"));
    for (; item < items_; ++item) failures_.emplace(item, dropped);
  }

  auto values() {
    if (!failures_.empty()) std::rethrow_exception(failures_.begin()->second);
    if constexpr (!std::is_void_v<R>) {
      std::vector<R> values;
      values.reserve(items_);
      for (std::size_t i = 0; i < items_; ++i) values.push_back(*std::move(values_[i]));
      return values;
    }
  }
  std::vector<Outcome<R>> outcomes() {
    std::vector<Outcome<R>> outcomes;
    outcomes.reserve(items_);
    for (std::size_t i = 0; i < items_; ++i) {
      if (const auto failed = failures_.find(i); failed != failures_.end()) {
        outcomes.push_back(Outcome<R>(failed->second));
      } else if constexpr (std::is_void_v<R>) {
        outcomes.push_back(Outcome<R>(std::monostate{}));
      } else {
        outcomes.push_back(Outcome<R>(*std::move(values_[i])));
      }
    }
    return outcomes;
  }

 private:
  std::size_t items_;
  std::conditional_t<
      std::is_void_v<R>, std::monostate,
      std::unique_ptr<std::optional<std::conditional_t<std::is_void_v<R>, int, R>>[]>>
      values_;
  std::mutex mutex_;
  std::map<std::size_t, std::exception_ptr> failures_;
};

}  // namespace brood::detail
