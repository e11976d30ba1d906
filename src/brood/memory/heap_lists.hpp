#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include <brood/memory/heap.hpp>

namespace brood::detail {

/// The private side of a Heap: lists of what this process holds and does not use. For any thread,
/// one at a time, under `mutex`; shared with the threads' caches, which may outlive the heap.
///
/// In private memory. After fork the child's copy is to be closed, and says nothing. Weaker orders
/// than those of HeapBoard: none, the mutex orders all.
class Heap::Lists {
 public:
  static constexpr std::uint32_t kClasses = HeapBoard<>::kClasses;  // 64 bytes ... 512 KiB
  static constexpr std::size_t bytes_of(std::uint32_t size_class) {
    return HeapBoard<>::kUnit << size_class;
  }

  Lists(Segment& segment, Tag owner);

  std::mutex mutex;

  [[nodiscard]] bool closed() const { return closed_; }
  /// From now on nothing is taken or given back.
  void close() noexcept;
  void keep_nothing() noexcept { keeps_ = false; }
  [[nodiscard]] std::size_t largest_small() const { return largest_small_; }

  /// Takes up to `most` free blocks of the class, at least one. Throws SharedMemoryFull.
  std::size_t take(std::uint32_t size_class, std::byte** out, std::size_t most);
  /// Gives free blocks back.
  void put(std::uint32_t size_class, std::byte* const* blocks, std::size_t count) noexcept;

  Block take_large(std::size_t bytes);
  /// The run that begins at `data`, of which so many bytes have pages. Its block is free.
  void put_large(std::byte* data, std::size_t populated) noexcept;
  /// Gives back to the family the large runs that are kept for later. Returns how many.
  std::size_t release_cached() noexcept;
  /// All that is kept for later. False when that is nothing.
  bool make_room() noexcept;

 private:
  struct Page {
    std::size_t granule;
    std::uint32_t cut;
  };
  struct Large {
    std::byte* data;
    std::size_t populated;
  };

  [[nodiscard]] std::size_t granule_of(const std::byte* data) const;
  [[nodiscard]] std::byte* data_of(std::size_t granule, std::uint32_t block,
                                   std::uint32_t size_class) const;
  void refill(std::uint32_t size_class);
  bool sweep(std::uint32_t size_class, bool all) noexcept;
  bool cut_more(std::uint32_t size_class);
  void cut(Page& page, std::uint32_t size_class);
  bool adopt(std::uint32_t size_class);
  void add_page(std::uint32_t size_class, std::size_t granule, std::uint32_t cut);
  void populate(std::byte* data, std::size_t bytes) const;
  std::size_t release_free_pages(std::uint32_t size_class) noexcept;

  Segment& segment_;
  Tag owner_;
  HeapBoard<> board_;
  std::byte* data_;
  std::size_t granule_bytes_;
  std::size_t largest_small_;
  bool closed_ = false;
  bool keeps_ = true;
  // Blocks that are in no thread's cache. Each has room for all that were ever cut, so that giving
  // back cannot fail.
  std::array<std::vector<std::byte*>, kClasses> free_;
  std::array<std::vector<Page>, kClasses> pages_;
  std::multimap<std::size_t, Large> cached_;  // by the size of the run
  std::size_t cached_bytes_ = 0;
};

}  // namespace brood::detail
