// Layer: process
// How full the family's shared memory is, and who has it.
//
//     const brood::SharedMemoryInfo info = brood::shared_memory_info();
//     fmt::print("{} of {} MiB used\n", info.used >> 20, info.total >> 20);
//     for (const auto& p : info.processes) fmt::print("{} ({}): {}\n", p.name, p.pid, p.bytes);
//
// Any thread and process of the family may ask at any time. The numbers are a look while others
// work: they may be a moment old, but used + free is total, and used is the sum of all parts.
// Shared memory is given out in granules (64 KiB to 1 MiB), which are counted whole to who holds
// them but for the blocks in them that belong to shared objects. Pages of memory that nobody has
// touched yet cost the machine nothing. Without a family yet, one is founded as by any other use of
// Brood: throws StateError where that is not possible.
//
// What processes free they keep for a while, as fresh memory costs much more than memory that was
// used before; trim_shared_memory() gives it back.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace brood {

struct SharedMemoryInfo {
  struct Process {
    int pid = 0;            ///< 0 while it is being started
    std::string name = {};  ///< as of Process::name(); empty for one that is gone
    std::size_t bytes = 0;  ///< in use, or kept to be used again
  };

  std::size_t total = 0;                ///< all that the family may use
  std::size_t used = 0;                 ///< shared_objects and what processes hold
  std::size_t free = 0;                 ///< what anybody may take
  std::size_t shared_objects = 0;       ///< blocks that outlive whoever made them
  std::vector<Process> processes = {};  ///< those that hold any, the largest first
};

/// See above.
[[nodiscard]] SharedMemoryInfo shared_memory_info();

/// Gives back what this process has freed and keeps to use it again, up to 256 MiB of large blocks
/// and all pages of small ones: to the family, and to the system. For when memory is short, or
/// nothing large is to come; what is allocated next costs fresh pages. Workers of a pool do it
/// themselves when they have had nothing to do for 100 ms. Does nothing without a family.
void trim_shared_memory() noexcept;

}  // namespace brood
