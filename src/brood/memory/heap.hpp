#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <brood/memory/segment.hpp>

namespace brood::detail {

/// A piece of shared memory that this process may write and others may read. A value; whoever has
/// it gives it back with Heap::free, or gives it away with Heap::give.
struct Block {
  std::byte* data = nullptr;
  std::size_t bytes = 0;  // what it has room for, at least what was asked for

  [[nodiscard]] bool empty() const { return data == nullptr; }
};

/// How a family's shared memory is used, in bytes. used = shared + the sum of `held`.
struct MemoryUse {
  std::size_t total = 0;
  std::size_t free = 0;    // what anybody may take
  std::size_t shared = 0;  // blocks of shared objects
  std::vector<std::pair<Tag, std::size_t>>
      held{};  // by processes: in use, or kept to be used again
};

/// This process's allocator of shared memory that may outlive it.
///
/// A block is the process's own until it is freed, or given to a shared object by one store; from
/// then on any process of the family frees it, on behalf of the object. Which blocks are whose is
/// public, in a word for each; the lists of what is free are private, where nobody's death can tear
/// them. See docs/design/heap.md.
///
/// At once: any thread of this process; free_shared() also of all others, by their heaps. One heap
/// per tag. A thread keeps a few small blocks at hand, which costs it no lock and no atomic
/// read-modify-write, and gives them back at its end.
///
/// Bytes: in the segment's data; every byte handed out has a page already, so that writing to it
/// never raises SIGBUS. What was freed is handed out again before new pages are taken, as fresh
/// pages cost much more than writing to them.
///
/// Death: whoever learns of it calls recover(), which frees what the dead owned; what is shared
/// stays. The dead may have been killed at any instruction, in recover() too.
/// Fork: the blocks are the parent's. The child calls abandon() and makes a heap of its own.
/// Order: what was done to a block before give() or free_shared() is done for who frees it, and
/// for who gets the memory next. How others learn of a block is the caller's affair.
/// Errors: SharedMemoryFull, from allocate() only. Freeing what is not the caller's is asserted; a
/// block of a shared object that is not the object's any more is left alone.
///
///     Heap heap(segment, self);
///     const Block block = heap.allocate(sizeof(Counter));
///     new (block.data) Counter{};
///     const std::uint64_t at = segment.offset_of(block.data);
///     heap.give(block, SharedOwner{7});         // outlives this process
///     heap.free_shared(at, SharedOwner{7});     // by any process
class Heap {
 public:
  Heap(Segment& segment, Tag owner);
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  /// Gives everything back that is this process's; no thread uses it any more.
  ~Heap();

  /// From now on large memory that is freed is free for all at once: for a process that frees it
  /// for others, and takes none itself.
  void keep_nothing() noexcept;

  /// Gives the large memory that was freed, and is kept to be used again, back to all, and to the
  /// system.
  void give_back_large() noexcept;
  /// That, and the pages of small blocks none of which is in use.
  void give_back() noexcept;

  /// Forgets its blocks without giving them back: they are another process's.
  void abandon() noexcept;

  /// A block of at least `bytes`, aligned for every type that fits into it and asks for no more
  /// than a page; to 64 bytes at least. Its contents are undefined. Throws SharedMemoryFull.
  Block allocate(std::size_t bytes);
  /// A block of this process; empty ones are ignored.
  void free(Block block) noexcept;

  /// From the one store in here on, the block is the object's: no death frees it any more.
  void give(Block block, SharedOwner owner) noexcept;
  /// Frees the block at `offset` of the segment if it is the object's; otherwise does nothing. So
  /// who was killed in it is followed by another who does it again, as long as the object's number
  /// is not given to another, nor the object a new block meanwhile. `used`: so many of its bytes
  /// were written, and so have pages, as far as the caller knows.
  void free_shared(std::uint64_t offset, SharedOwner owner, std::size_t used = 0) noexcept;

  /// Whether free_shared() would free it.
  [[nodiscard]] bool is_shared(std::uint64_t offset, SharedOwner owner) const noexcept;

  /// Frees what `dead` owned; `by` is the caller. Any number may run it at once, be killed, and run
  /// it again. Returns bytes given back to the family.
  static std::size_t recover(Segment& segment, Tag dead, Tag by) noexcept;

  /// A look while others work: numbers for people.
  static MemoryUse measure(Segment& segment);

 private:
  class Lists;
  class Threads;
  struct Cache;
  struct NearCache;

  static NearCache& near_cache() noexcept;
  Cache* cache() noexcept;
  Block allocate_slowly(std::size_t bytes);
  void free_slowly(Block block) noexcept;
  /// Of others' numbers: nothing when no block begins there.
  [[nodiscard]] std::optional<std::size_t> unit_at(std::uint64_t offset) const noexcept;
  [[nodiscard]] std::size_t unit_of(const std::byte* data) const noexcept {
    return static_cast<std::size_t>(data - data_) / HeapBoard<>::kUnit;
  }

  Segment* segment_;
  Tag owner_;
  HeapBoard<> board_;
  std::byte* data_;
  std::shared_ptr<Lists> lists_;
};

}  // namespace brood::detail
