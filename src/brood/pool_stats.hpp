// Layer: pool
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <brood/pool_counts.hpp>

namespace brood {

namespace detail {
struct DurationHistogram;
}

/// How long things of one kind took: how many there were, their sum, their distribution. A plain
/// value, a copy of what was known when it was made; use it as any value of the standard library.
///
///     const brood::DurationStats running = pool.stats().running;
///     fmt::print("{} items, half of them in {}\n", running.count(), running.percentile(50));
///
/// Kept in buckets a sixteenth of a power of two wide: percentiles are within 4 % of the truth,
/// from 1 ns to three days. Throws nothing but what is said.
class DurationStats {
 public:
  DurationStats() = default;

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::chrono::nanoseconds total() const { return total_; }
  /// 0 if there were none, as all of these.
  [[nodiscard]] std::chrono::nanoseconds mean() const;
  [[nodiscard]] std::chrono::nanoseconds max() const { return max_; }
  /// `percent` of them took at most so long: 0 to 100. Throws ArgumentError for others.
  [[nodiscard]] std::chrono::nanoseconds percentile(double percent) const;

 private:
  friend detail::DurationHistogram;
  std::uint64_t count_ = 0;
  std::chrono::nanoseconds total_{0};
  std::chrono::nanoseconds max_{0};
  std::vector<std::uint64_t> buckets_;
};

/// One of a pool's places for a worker, with whoever was in it so far.
struct WorkerStats {
  int pid = 0;              ///< of who is in it now; 0: nobody
  std::uint64_t items = 0;  ///< computed, of maps and submitted
  std::chrono::nanoseconds starting{0};
  std::chrono::nanoseconds busy{0};
  std::chrono::nanoseconds idle{0};
};

/// What a pool's workers did with their time: Pool::stats(). A plain value.
///
/// A worker is starting until its initializer is done, then idle while it sleeps for want of work,
/// else busy; a short look for work (10 us) counts as busy. Measuring must not be felt: where
/// chunks of a map, or tasks, take less than four microseconds, some are measured and stand for the
/// others, one of 256 at most; the items of a chunk count as equally long. What a worker that died
/// was in is not counted, and what has just ended may be counted a moment after its result is
/// there.
struct PoolStats {
  PoolCounts counts;                ///< maps, items, workers started and lost, retries
  std::chrono::nanoseconds age{0};  ///< since the pool was made
  DurationStats starting;           ///< of each worker: from its start until it could take work
  DurationStats waiting;            ///< of submitted tasks: from submit() until they began
  DurationStats running;            ///< of items and tasks
  std::vector<WorkerStats> workers;

  /// The same as text for people, of several lines.
  [[nodiscard]] std::string summary() const;
};

}  // namespace brood
