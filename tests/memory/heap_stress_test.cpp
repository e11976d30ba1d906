// Threads play processes, each with a heap of its own in one segment: for ThreadSanitizer, which
// sees the memory orders only where all go through one mapping of one process.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <brood/memory/heap.hpp>

namespace brood::detail::heap_stress_test {
namespace {

// Cells through which the players hand each other what they gave away: {offset, owner}, relaxed
// where it may be, as only the heap shall order what is done to a block.
struct Cell {
  std::atomic<std::uint64_t> offset{0};
  std::atomic<std::uint32_t> owner{0};
};

class HeapStress : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kPlayers = 3;
  static constexpr std::size_t kCells = 64;

  // Small ones mostly, now and then a large one.
  std::size_t size(std::mt19937& random) {
    return random() % 64 == 0 ? segment_.extents().granule_bytes() : 64U << random() % 8;
  }

  void play(Tag tag, int turns, bool dies) {
    Heap heap(segment_, tag);
    std::mt19937 random(tag.bits());
    std::vector<Block> own;
    for (int i = 0; i < turns; ++i) {
      switch (random() % 4) {
        case 0:
        case 1: {
          const Block block = heap.allocate(size(random));
          *reinterpret_cast<std::uint64_t*>(block.data) = tag.bits();  // plain: races are seen
          block.data[block.bytes - 1] = std::byte{1};
          own.push_back(block);
          break;
        }
        case 2: {
          if (own.empty()) break;
          const Block block = own.back();
          own.pop_back();
          wrong_ += *reinterpret_cast<std::uint64_t*>(block.data) == tag.bits() ? 0 : 1;
          if (random() % 2 == 0) {
            heap.free(block);
            break;
          }
          const SharedOwner owner{next_owner_.fetch_add(1, std::memory_order_relaxed)};
          heap.give(block, owner);
          hand_over(heap, segment_.offset_of(block.data), owner, random);
          break;
        }
        default:
          hand_over(heap, 0, SharedOwner{0}, random);
      }
    }
    if (dies) {
      heap.abandon();  // all that it owned is the dead's
    } else {
      for (const Block& block : own) heap.free(block);
    }
  }

  // Puts it into a cell, and frees what was there, perhaps twice.
  void hand_over(Heap& heap, std::uint64_t offset, SharedOwner owner, std::mt19937& random) {
    Cell& cell = cells_[random() % kCells];
    std::uint64_t old = 0;
    std::uint32_t old_owner = 0;
    {
      const std::scoped_lock guard(cells_mutex_);
      old = cell.offset.exchange(offset, std::memory_order_relaxed);
      old_owner = cell.owner.exchange(static_cast<std::uint32_t>(owner), std::memory_order_relaxed);
    }
    if (old == 0) return;
    heap.free_shared(old, SharedOwner{old_owner});
    if (random() % 4 == 0) heap.free_shared(old, SharedOwner{old_owner});
  }

  Segment segment_ = Segment::create();
  std::array<Cell, kCells> cells_;
  std::mutex cells_mutex_;
  std::atomic<std::uint32_t> next_owner_{1};
  std::atomic<int> wrong_{0};
};

TEST_F(HeapStress, ProcessesComeAndGoAndDie) {
  constexpr int kTurns = 3000;
  for (std::uint32_t round = 1; round != 6; ++round) {
    std::vector<std::thread> players;
    for (std::uint32_t p = 0; p != kPlayers; ++p) {
      players.emplace_back([this, p, round] { play(Tag(p + 1, round), kTurns, p != 0); });
    }
    // As the kernel's word that a process is gone, join orders what the dead did before all else;
    // the others go on meanwhile.
    for (std::uint32_t p = kPlayers; p-- != 0;) {
      players[p].join();
      if (p == 0) break;
      std::thread first([&] { Heap::recover(segment_, Tag(p + 1, round), Tag(100, 1)); });
      Heap::recover(segment_, Tag(p + 1, round), Tag(101, 1));
      first.join();
    }
    EXPECT_EQ(wrong_, 0);
    for (std::uint32_t p = 0; p != kPlayers; ++p) {
      EXPECT_EQ(Heap::recover(segment_, Tag(p + 1, round), Tag(101, 1)), 0U) << "nothing was left";
    }
  }
  {
    Heap last(segment_, Tag(102, 1));
    for (Cell& cell : cells_) {
      if (cell.offset != 0) last.free_shared(cell.offset, SharedOwner{cell.owner.load()});
    }
  }
  segment_.heap().reclaim_orphans(Tag(102, 1));
  EXPECT_EQ(segment_.extents().used_bytes(), 0U);
  EXPECT_EQ(Heap::measure(segment_).free, segment_.extents().total_bytes());
}

}  // namespace
}  // namespace brood::detail::heap_stress_test
