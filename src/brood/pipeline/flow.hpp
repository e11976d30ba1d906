#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

#include <brood/pipeline/item_value.hpp>
#include <brood/pipeline_options.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/futex.hpp>

namespace brood::detail {

/// An item on its way: with a value, or failed, or, with neither, gone: only its number goes on, so
/// that nobody waits for it.
struct FlowItem {
  std::uint64_t number = 0;
  ItemValue value;
  std::exception_ptr failure;
  std::size_t bytes = 0;    // encoded, when it was last
  std::size_t counted = 0;  // what the run counts it with
};

/// Where a run sleeps: threads that have finished something, and who stops it, say so here.
struct FlowSignal {
  std::atomic<std::uint32_t> word{0};
  void raise() noexcept {
    word.fetch_add(1);
    futex_wake_all(word);
  }
};

/// How many items are worth being handed over at once, by what they have cost so far.
class BatchSize {
 public:
  BatchSize(std::size_t workers, std::size_t most) : workers_(workers), most_(most) {}
  void learn(std::size_t items, double nanoseconds) {
    const double each = nanoseconds / static_cast<double>(items);
    each_ = known_ ? each_ + (each - each_) / 4 : each;
    known_ = true;
  }
  /// Enough to keep `parts` workers busy for a while, and few enough to be there soon.
  [[nodiscard]] std::size_t now(std::size_t parts) const {
    if (!known_) return std::min(workers_, most_);
    const double wanted = kWorth * static_cast<double>(parts) / std::max(each_, 1.0);
    return std::clamp<std::size_t>(static_cast<std::size_t>(std::min(wanted, 1e6)),
                                   std::min(parts, most_), most_);
  }

 private:
  static constexpr double kWorth = 500'000;  // nanoseconds
  std::size_t workers_;
  std::size_t most_;
  double each_ = 0;
  bool known_ = false;
};

/// A part of a pipeline that computes elsewhere. Used by the run's thread alone.
class FlowNode {
 public:
  FlowNode() = default;
  FlowNode(const FlowNode&) = delete;
  FlowNode& operator=(const FlowNode&) = delete;
  virtual ~FlowNode() = default;

  /// Takes an item with a value; returns how large it is, encoded.
  virtual std::size_t give(FlowItem item) = 0;
  /// It has too little to do.
  [[nodiscard]] virtual bool hungry() const = 0;
  /// Begins what it has. `all`: also what may be too little, as no more comes soon.
  virtual void start(bool all) = 0;
  /// Appends the items that are through. False: none are.
  virtual bool collect(std::vector<FlowItem>& out) = 0;
  /// True if something may be through; else adds what is worth waiting for.
  virtual bool look(std::vector<FutexWord>& words, Deadline& soon) = 0;
  /// Items behind this number are not wanted any more.
  virtual void drop_behind(std::uint64_t number) = 0;
  /// Of its stages, in order.
  virtual void add_stats(std::vector<StageStats>& stats) const = 0;
};

}  // namespace brood::detail
