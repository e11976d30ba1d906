// A family without shared memory.
#pragma once

#include <cstddef>
#include <vector>

#include <brood/errors.hpp>
#include <brood/process/family.hpp>

namespace brood::testing {

/// Takes what the family has left, so that there is no memory for more, while it lives.
class NoMemory {
 public:
  NoMemory() {
    auto& extents = family().segment().extents();
    for (std::size_t bytes = extents.total_bytes(); bytes >= extents.granule_bytes();) {
      try {
        taken_.push_back(extents.allocate(bytes, family().self(), kGroup));
      } catch (const SharedMemoryFull&) {
        bytes /= 2;
      }
    }
  }
  NoMemory(const NoMemory&) = delete;
  NoMemory& operator=(const NoMemory&) = delete;
  ~NoMemory() {
    for (const auto& extent : taken_) {
      family().segment().extents().release(extent, family().self(), kGroup, true);
    }
  }

 private:
  static constexpr std::uint32_t kGroup = 77;
  static detail::Family& family() { return *detail::Family::require(); }

  std::vector<detail::Extent> taken_;
};

}  // namespace brood::testing
