#include <brood/memory/heap.hpp>

#include <algorithm>
#include <bit>
#include <cassert>
#include <map>
#include <new>

#include <brood/memory/heap_lists.hpp>

namespace brood::detail {
namespace {

/// The classes of which threads keep blocks at hand: 64 bytes ... 4 KiB.
constexpr std::uint32_t kNearClasses = 7;
constexpr std::size_t kLargestNear = HeapBoard<>::kUnit << (kNearClasses - 1);
constexpr std::size_t kNearBlocks = 128;
constexpr std::size_t kNearBytes = std::size_t{32} << 10U;  // of each class

constexpr std::size_t most_near(std::uint32_t size_class) {
  return std::min(kNearBlocks, kNearBytes / (HeapBoard<>::kUnit << size_class));
}

constexpr std::uint32_t class_of(std::size_t bytes) {
  return static_cast<std::uint32_t>(
      std::bit_width((std::max<std::size_t>(bytes, 1) - 1) / HeapBoard<>::kUnit));
}

}  // namespace

/// What one thread keeps at hand of one heap.
struct Heap::Cache {
  struct Bin {
    std::size_t count = 0;
    std::array<std::byte*, kNearBlocks> blocks;
  };
  std::array<Bin, kNearClasses> bins;
};

/// The cache that the calling thread used last, and of which heap. Needs no destructor, so that it
/// may be read at any time of the thread's life.
struct Heap::NearCache {
  const Lists* lists = nullptr;
  Cache* cache = nullptr;
  bool over = false;  // the thread is ending and has given its caches back
};

/// All caches of one thread.
// SUBTLE: an entry keeps its heap's lists alive, closed or not, so no other heap's can come to
// stand at their address, and what NearCache says stays true.
class Heap::Threads {
 public:
  Threads() = default;
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() {
    near_cache() = {.over = true};
    for (Entry& entry : entries_) {
      const std::scoped_lock guard(entry.lists->mutex);
      if (entry.lists->closed()) continue;
      for (std::uint32_t c = 0; c < kNearClasses; ++c) {
        entry.lists->put(c, entry.cache->bins[c].blocks.data(), entry.cache->bins[c].count);
      }
    }
  }

  Cache* find(const std::shared_ptr<Lists>& lists) {
    for (Entry& entry : entries_) {
      if (entry.lists == lists) return entry.cache.get();
    }
    std::erase_if(entries_, [](const Entry& entry) {
      const std::scoped_lock guard(entry.lists->mutex);
      return entry.lists->closed();
    });
    entries_.push_back({lists, std::make_unique<Cache>()});
    return entries_.back().cache.get();
  }

  static Threads& mine() {
    thread_local Threads threads;
    return threads;
  }

 private:
  struct Entry {
    std::shared_ptr<Lists> lists;
    std::unique_ptr<Cache> cache;
  };
  std::vector<Entry> entries_;
};

inline Heap::NearCache& Heap::near_cache() noexcept {
  static constinit thread_local NearCache near;
  return near;
}

/// Null when the thread is ending, or there is no private memory for a cache.
Heap::Cache* Heap::cache() noexcept {
  NearCache& near = near_cache();
  if (near.lists == lists_.get()) return near.cache;
  if (near.over) return nullptr;
  near = {};  // find() may drop what it says
  try {
    Cache* const found = Threads::mine().find(lists_);
    near = {.lists = lists_.get(), .cache = found};
    return found;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

Heap::Heap(Segment& segment, Tag owner)
    : segment_(&segment),
      owner_(owner),
      board_(segment.heap()),
      data_(segment.heap_tables().data),
      lists_(std::make_shared<Lists>(segment, owner)) {}

Heap::~Heap() {
  const std::scoped_lock guard(lists_->mutex);
  if (lists_->closed()) return;
  lists_->close();
  board_.recover(owner_, owner_);
}

void Heap::keep_nothing() noexcept {
  const std::scoped_lock guard(lists_->mutex);
  lists_->keep_nothing();
}

void Heap::give_back_large() noexcept {
  const std::scoped_lock guard(lists_->mutex);
  if (!lists_->closed()) lists_->release_cached();
}

void Heap::give_back() noexcept {
  const std::scoped_lock guard(lists_->mutex);
  if (!lists_->closed()) lists_->make_room();
}

// Without the lock: it may have been held by a thread that there is not in this copy of its
// process.
void Heap::abandon() noexcept { lists_->close(); }

// The fast path: the block leaves the thread's private list, then says in public whose it is.
// Killed in between, it is free, in a page of the dead.
Block Heap::allocate(std::size_t bytes) {
  if (bytes <= kLargestNear) {
    NearCache& near = near_cache();
    const std::uint32_t size_class = class_of(bytes);
    if (near.lists == lists_.get()) {
      Cache::Bin& bin = near.cache->bins[size_class];
      if (bin.count != 0) {
        std::byte* const data = bin.blocks[--bin.count];
        board_.own(unit_of(data), owner_);
        return {data, Lists::bytes_of(size_class)};
      }
    }
  }
  return allocate_slowly(bytes);
}

Block Heap::allocate_slowly(std::size_t bytes) {
  const std::uint32_t size_class = class_of(bytes);
  Cache* const mine = bytes <= kLargestNear ? cache() : nullptr;
  const std::scoped_lock guard(lists_->mutex);
  if (bytes > lists_->largest_small()) return lists_->take_large(bytes);
  std::byte* data = nullptr;
  if (mine != nullptr) {
    // Half of what it may keep, so that neither of two calls in a row comes here again.
    Cache::Bin& bin = mine->bins[size_class];
    if (bin.count == 0) {
      bin.count = lists_->take(size_class, bin.blocks.data(), most_near(size_class) / 2);
    }
    data = bin.blocks[--bin.count];
  } else {
    lists_->take(size_class, &data, 1);
  }
  board_.own(unit_of(data), owner_);
  return {data, Lists::bytes_of(size_class)};
}

// First free in public, then in the private list; see allocate().
void Heap::free(Block block) noexcept {
  if (block.empty()) return;
  assert(board_.owns(unit_of(block.data), owner_));
  if (block.bytes <= kLargestNear) {
    NearCache& near = near_cache();
    const std::uint32_t size_class = class_of(block.bytes);
    if (near.lists == lists_.get()) {
      Cache::Bin& bin = near.cache->bins[size_class];
      if (bin.count < most_near(size_class)) {
        board_.disown(unit_of(block.data));
        bin.blocks[bin.count++] = block.data;
        return;
      }
    }
  }
  free_slowly(block);
}

void Heap::free_slowly(Block block) noexcept {
  board_.disown(unit_of(block.data));
  const std::uint32_t size_class = class_of(block.bytes);
  Cache* const mine = block.bytes <= kLargestNear ? cache() : nullptr;
  const std::scoped_lock guard(lists_->mutex);
  if (block.bytes > lists_->largest_small()) {
    lists_->put_large(block.data, block.bytes);
    return;
  }
  if (mine == nullptr) {
    lists_->put(size_class, &block.data, 1);
    return;
  }
  Cache::Bin& bin = mine->bins[size_class];
  if (bin.count == most_near(size_class)) {
    // The older half: the others are more likely to be in this core's cache.
    const std::size_t half = bin.count / 2;
    lists_->put(size_class, bin.blocks.data(), half);
    std::copy(bin.blocks.begin() + static_cast<std::ptrdiff_t>(half),
              bin.blocks.begin() + static_cast<std::ptrdiff_t>(bin.count), bin.blocks.begin());
    bin.count -= half;
  }
  bin.blocks[bin.count++] = block.data;
}

void Heap::give(Block block, SharedOwner owner) noexcept {
  assert(board_.owns(unit_of(block.data), owner_));
  assert(owner != SharedOwner{} && static_cast<std::uint32_t>(owner) >> Tag::kBits == 0);
  board_.give(unit_of(block.data), owner);
}

std::optional<std::size_t> Heap::unit_at(std::uint64_t offset) const noexcept {
  // What lies behind the data is no granule, which the board looks at.
  const std::uint64_t data_at = segment_->offset_of(data_);
  if (offset < data_at || (offset - data_at) % HeapBoard<>::kUnit != 0) return std::nullopt;
  return (offset - data_at) / HeapBoard<>::kUnit;
}

bool Heap::is_shared(std::uint64_t offset, SharedOwner owner) const noexcept {
  const std::optional<std::size_t> unit = unit_at(offset);
  return unit && board_.is_shared(*unit, owner);
}

void Heap::free_shared(std::uint64_t offset, SharedOwner owner, std::size_t used) noexcept {
  const std::optional<std::size_t> unit = unit_at(offset);
  if (!unit || board_.give_back(*unit, owner, owner_) != HeapBoard<>::GivenBack::large) return;
  board_.disown(*unit);
  const std::scoped_lock guard(lists_->mutex);
  lists_->put_large(data_ + *unit * HeapBoard<>::kUnit, used);
}

std::size_t Heap::recover(Segment& segment, Tag dead, Tag by) noexcept {
  return segment.heap().recover(dead, by) * segment.extents().granule_bytes();
}

MemoryUse Heap::measure(Segment& segment) {
  MemoryUse use{.total = segment.extents().total_bytes()};
  std::map<Tag, std::size_t> held;
  std::size_t used = 0;
  segment.heap().for_each_in_use([&](Tag holder, std::size_t shared, std::size_t units) {
    use.shared += shared * HeapBoard<>::kUnit;
    // In a page that the dead left only what is shared is in use.
    if (!holder.none()) held[holder] += (units - shared) * HeapBoard<>::kUnit;
    used += (holder.none() ? shared : units) * HeapBoard<>::kUnit;
  });
  use.free = use.total - used;
  use.held.assign(held.begin(), held.end());
  std::erase_if(use.held, [](const auto& entry) { return entry.second == 0; });
  return use;
}

}  // namespace brood::detail
