#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <brood/pool_stats.hpp>

namespace brood::detail {

/// A distribution of durations in nanoseconds, in buckets a sixteenth of a power of two wide, as
/// HdrHistogram has them (https://hdrhistogram.github.io/HdrHistogram/). May lie in shared memory;
/// one thread adds, any reads. Nothing in it needs repair: who is killed has added or has not, but
/// for a duration that is counted and not in the sum.
struct DurationHistogram {
  static constexpr unsigned kPartBits = 4;
  static constexpr std::uint64_t kParts = std::uint64_t{1} << kPartBits;
  static constexpr unsigned kMostBits = 48;
  static constexpr std::size_t kBuckets = (kMostBits - kPartBits + 1) * kParts;

  std::atomic<std::uint64_t> sum;
  std::atomic<std::uint64_t> max;
  std::array<std::atomic<std::uint64_t>, kBuckets> buckets;

  static constexpr std::size_t bucket_of(std::uint64_t duration) {
    duration = std::min(duration, (std::uint64_t{1} << kMostBits) - 1);
    if (duration < kParts) return duration;
    const auto shift = static_cast<unsigned>(std::bit_width(duration)) - 1 - kPartBits;
    return (shift + 1) * kParts + (duration >> shift & (kParts - 1));
  }
  /// The least that is in a bucket; for the number of buckets: the end of the last.
  static constexpr std::uint64_t start_of(std::size_t bucket) {
    if (bucket < kParts) return bucket;
    return (kParts + bucket % kParts) << (bucket / kParts - 1);
  }

  void add(std::int64_t duration, std::uint64_t times) noexcept {
    const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(duration, 0));
    more(buckets[bucket_of(value)], times);
    more(sum, value * times);
    if (value > max.load(std::memory_order_relaxed)) max.store(value, std::memory_order_relaxed);
  }

  /// Adds what is in it to `to`.
  void add_to(DurationStats& to) const;

 private:
  // relaxed: figures for people, of which each is right and all are soon.
  static void more(std::atomic<std::uint64_t>& figure, std::uint64_t by) noexcept {
    figure.store(figure.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
};
static_assert(DurationHistogram::bucket_of(UINT64_MAX) == DurationHistogram::kBuckets - 1);

}  // namespace brood::detail
