#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include <brood/platform/clock.hpp>

namespace brood::detail {

/// What a worker did and when, for the timeline of its pool. Lies in the family's segment, one for
/// each slot; written by the worker that has the slot, read by the pool's owner. Nothing in it
/// needs repair: who is killed has written a slice or has not, and what it was in is in `open_*`.
struct alignas(128) TimelineRow {
  static constexpr std::uint64_t kSlices = 16384;  // the last ones are kept

  struct Slice {
    std::uint64_t job;    // JobWord
    std::uint32_t first;  // item
    std::uint32_t items;
    std::int64_t begin;  // ns of the steady clock
    std::int64_t end;
  };

  std::atomic<std::uint64_t> count;       // slices ever written
  std::atomic<std::uint64_t> open_job;    // of what is under way; 0: nothing
  std::atomic<std::uint64_t> open_items;  // first item | number << 32
  std::atomic<std::int64_t> open_begin;
  std::array<Slice, kSlices> slices;

  void begin(std::uint64_t job, std::uint32_t first, std::uint32_t items) noexcept {
    // relaxed: read by the owner after this worker's death, or for a look.
    open_items.store(first | std::uint64_t{items} << 32U, std::memory_order_relaxed);
    open_begin.store(steady_nanoseconds(), std::memory_order_relaxed);
    open_job.store(job, std::memory_order_relaxed);
  }
  void end() noexcept {
    const std::uint64_t job = open_job.load(std::memory_order_relaxed);
    if (job == 0) return;
    const std::uint64_t items = open_items.load(std::memory_order_relaxed);
    const std::uint64_t at = count.load(std::memory_order_relaxed);
    slices[at % kSlices] = {.job = job,
                            .first = static_cast<std::uint32_t>(items),
                            .items = static_cast<std::uint32_t>(items >> 32U),
                            .begin = open_begin.load(std::memory_order_relaxed),
                            .end = steady_nanoseconds()};
    open_job.store(0, std::memory_order_relaxed);
    // Pairs with the owner's acquire: the slice is whole when it is counted.
    count.store(at + 1, std::memory_order_release);
  }
};

}  // namespace brood::detail
