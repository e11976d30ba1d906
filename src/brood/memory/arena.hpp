#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include <brood/memory/extents.hpp>
#include <brood/memory/segment.hpp>

namespace brood::detail {

/// A piece of shared memory that this process may write and others may read. A value; whoever has
/// it gives it back with Arena::free.
struct Block {
  std::byte* data = nullptr;
  std::size_t bytes = 0;  // what it has room for, at least what was asked for

  [[nodiscard]] bool empty() const { return data == nullptr; }
};

/// This process's allocator of shared memory.
///
/// The blocks lie in the segment, where the family sees them; the lists of what is free lie in
/// private memory, where nobody's death can tear them. Only this process allocates and frees, from
/// any thread. When it dies, its extents carry its tag and are freed as a whole. After fork the
/// child abandons its copy, as the blocks are its parent's, and makes an arena of its own.
///
/// Every byte handed out has a page already: writing to it never raises SIGBUS. Memory that was
/// freed is handed out again before new pages are taken, as fresh pages cost much more than
/// writing to them.
class Arena {
 public:
  Arena(Segment& segment, Tag owner, std::uint32_t group = 0);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  /// Gives everything back.
  ~Arena();

  /// Forgets its blocks without giving them back: they are another process's.
  void abandon() noexcept;

  /// A block of at least `bytes`, aligned for every type that fits into it and asks for no more
  /// than a page; to 64 bytes at least. Its contents are undefined. Throws SharedMemoryFull.
  Block allocate(std::size_t bytes);
  void free(Block block) noexcept;

 private:
  static constexpr std::size_t kSmallest = 64;
  static constexpr std::size_t kClasses = 14;  // 64 bytes ... 512 KiB

  /// Memory from which new small blocks are cut. Pages are taken a step at a time.
  struct Slab {
    Extent extent;
    std::size_t used = 0;
    std::size_t populated = 0;
  };
  struct Large {
    Extent extent;
    std::size_t populated = 0;
  };

  Block allocate_small(std::size_t size_class);
  Block allocate_large(std::size_t bytes);
  Extent allocate_extent(std::size_t bytes);
  void populate(std::byte* data, std::size_t& populated, std::size_t wanted);

  Segment* segment_;
  Tag owner_;
  std::uint32_t group_;
  std::size_t largest_small_;
  std::mutex mutex_;
  std::array<std::vector<std::byte*>, kClasses> free_;  // guarded by mutex_, as all below
  std::vector<Slab> slabs_;
  std::map<std::byte*, Large> used_;
  std::multimap<std::size_t, Large> cached_;
  std::size_t cached_bytes_ = 0;
};

}  // namespace brood::detail
