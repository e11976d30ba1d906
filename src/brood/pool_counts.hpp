// Layer: pool
#pragma once

#include <cstdint>

namespace brood {

/// What a pool has done since it was made: Pool::counts(). A plain value.
struct PoolCounts {
  std::uint64_t maps = 0;
  std::uint64_t map_items = 0;
  std::uint64_t tasks = 0;      // submitted
  std::uint64_t started = 0;    // workers
  std::uint64_t crashed = 0;    // workers that died by themselves or were killed from outside
  std::uint64_t recycled = 0;   // workers that ended because of the pool's options
  std::uint64_t stopped = 0;    // workers that were killed because of a limit or a cancellation
  std::uint64_t retries = 0;    // attempts after the first
  std::uint64_t cancelled = 0;  // tasks
};

}  // namespace brood
