#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/heap.hpp>

#include "support/forked.hpp"
#include "support/sandbox.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::heap_test {
namespace {

using namespace brood::testing;

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;
constexpr Tag kMe(1, 1);
constexpr Tag kOther(2, 1);

class HeapTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::size_t used() { return segment_.extents().used_bytes(kMe); }

  Segment segment_ = Segment::create();
};

/// As well as a type of its size may ask for.
bool aligned(const Block& block) {
  const std::size_t page = page_size();
  const std::size_t multiple = block.bytes < page ? std::bit_floor(block.bytes) : page;
  return reinterpret_cast<std::uintptr_t>(block.data) % multiple == 0;
}

/// Whether every page of it is there already.
bool resident(const Block& block) {
  const auto begin = reinterpret_cast<std::uintptr_t>(block.data) / page_size() * page_size();
  const std::size_t bytes = reinterpret_cast<std::uintptr_t>(block.data) + block.bytes - begin;
  std::vector<unsigned char> pages((bytes + page_size() - 1) / page_size());
  if (::mincore(reinterpret_cast<void*>(begin), bytes, pages.data()) != 0) return false;
  return std::all_of(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1U) != 0; });
}

const std::vector<std::size_t> kSizes{0,
                                      1,
                                      63,
                                      64,
                                      65,
                                      1000,
                                      4096,
                                      5000,
                                      64 * kKiB,
                                      64 * kKiB + 1,
                                      300 * kKiB,
                                      512 * kKiB,
                                      512 * kKiB + 1,
                                      kMiB,
                                      3 * kMiB + 5};

TEST_F(HeapTest, LargeBlocksBeginWhereAHugePageCan) {
  Heap heap(segment_, kMe);
  heap.allocate(64);
  for (int i = 0; i < 3; ++i) {
    const Block block = heap.allocate(9 * kMiB);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data) % kHugePage, 0U);
    EXPECT_TRUE(resident(block));
  }
}

TEST_F(HeapTest, BlocksAreAlignedLargeEnoughPresentAndApart) {
  Heap heap(segment_, kMe);
  std::vector<Block> blocks;
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t size : kSizes) {
      const Block block = heap.allocate(size);
      ASSERT_FALSE(block.empty()) << size;
      EXPECT_GE(block.bytes, size);
      EXPECT_TRUE(aligned(block)) << size;
      EXPECT_TRUE(resident(block)) << size;
      EXPECT_EQ(segment_.checked(segment_.offset_of(block.data), block.bytes), block.data);
      std::memset(block.data, static_cast<int>(blocks.size()), block.bytes);
      blocks.push_back(block);
    }
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto* begin = blocks[i].data;
    ASSERT_TRUE(std::all_of(begin, begin + blocks[i].bytes,
                            [=](std::byte b) { return b == static_cast<std::byte>(i); }))
        << "block " << i << " of " << blocks[i].bytes << " bytes was overwritten";
  }
  std::size_t bytes = 0;
  for (const Block& block : blocks) bytes += block.bytes;
  EXPECT_GE(used(), bytes);
  for (const Block& block : blocks) heap.free(block);
}

TEST_F(HeapTest, WhatIsFreedIsUsedAgainBeforeNewMemory) {
  Heap heap(segment_, kMe);
  for (const std::size_t size : kSizes) {
    std::vector<Block> first;
    for (int i = 0; i < 3; ++i) first.push_back(heap.allocate(size));
    const std::size_t before = used();
    for (int round = 0; round < 20; ++round) {
      for (const Block& block : first) heap.free(block);
      std::vector<Block> again;
      for (int i = 0; i < 3; ++i) {
        again.push_back(heap.allocate(size));
        EXPECT_TRUE(std::any_of(first.begin(), first.end(), [&](const Block& b) {
          return b.data == again.back().data;
        })) << size;
      }
      first = again;
    }
    EXPECT_EQ(used(), before) << size;
    for (const Block& block : first) heap.free(block);
  }
}

TEST_F(HeapTest, WhatIsAbandonedStaysItsOwners) {
  Heap heap(segment_, kMe);
  heap.allocate(100);
  const Block large = heap.allocate(3 * kMiB);
  heap.free(heap.allocate(5 * kMiB));
  const std::size_t before = used();
  {
    Heap copy(segment_, kOther);
    copy.free(copy.allocate(2 * kMiB));
    copy.allocate(100);
    const std::size_t more = segment_.extents().used_bytes(kOther);
    EXPECT_GT(more, 0U);
    copy.abandon();
    EXPECT_EQ(segment_.extents().used_bytes(kOther), more);
    copy.abandon();
  }
  EXPECT_GT(segment_.extents().used_bytes(kOther), 0U);
  EXPECT_EQ(used(), before);
  heap.free(large);
}

TEST_F(HeapTest, FreeingNothingIsHarmless) {
  Heap heap(segment_, kMe);
  heap.free({});
  EXPECT_EQ(used(), 0U);
}

TEST_F(HeapTest, ALargeBlockIsNotWastedOnASmallOne) {
  Heap heap(segment_, kMe);
  const Block large = heap.allocate(64 * kMiB);
  heap.free(large);
  const Block small = heap.allocate(4 * kMiB);
  EXPECT_NE(small.data, large.data);
  EXPECT_LT(small.bytes, 8 * kMiB);
  const Block again = heap.allocate(60 * kMiB);
  EXPECT_EQ(again.data, large.data);
  heap.free(small);
  heap.free(again);
}

TEST_F(HeapTest, KeepsFreedMemoryOnlyUpToABound) {
  Heap heap(segment_, kMe);
  if (segment_.extents().total_bytes() < 2048 * kMiB) GTEST_SKIP() << "too little address space";
  // Not touched by anybody but populate: the bound is on what is kept, in extents.
  std::vector<Block> blocks;
  for (int i = 0; i < 9; ++i) blocks.push_back(heap.allocate(32 * kMiB));
  EXPECT_EQ(used(), 9 * 32 * kMiB);
  for (const Block& block : blocks) heap.free(block);
  EXPECT_LE(used(), 256 * kMiB);
  EXPECT_GT(used(), 0U);
}

TEST_F(HeapTest, ItsEndGivesEverythingBack) {
  {
    Heap heap(segment_, kMe);
    Heap other(segment_, kOther);
    const Block kept = other.allocate(100);
    for (const std::size_t size : kSizes) {
      heap.free(heap.allocate(size));
      heap.allocate(size);  // never freed
    }
    EXPECT_GT(used(), 0U);
    EXPECT_GT(segment_.extents().used_bytes(kOther), 0U);
    other.free(kept);
  }
  EXPECT_EQ(used(), 0U);
  EXPECT_EQ(segment_.extents().used_bytes(), 0U);
}

TEST_F(HeapTest, WhatAKilledProcessHeldIsFoundByItsTag) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  const Gate allocated;
  Forked child([&] {
    Heap heap(segment_, kOther);
    for (const std::size_t size : kSizes) std::memset(heap.allocate(size).data, 1, size);
    allocated.open();
    for (;;) ::pause();
  });
  ASSERT_TRUE(allocated.pass());
  child.kill();
  EXPECT_GT(segment_.extents().used_bytes(kOther), 0U);
  segment_.extents().release_all(kOther, kMe);
  EXPECT_GT(segment_.extents().used_bytes(kOther), 0U) << "not the directory's to free";
  Heap::recover(segment_, kOther, kMe);
  EXPECT_EQ(segment_.extents().used_bytes(), 0U);
}

TEST_F(HeapTest, TooMuchIsFull) {
  Heap heap(segment_, kMe);
  const std::size_t total = segment_.extents().total_bytes();
  for (const std::size_t bytes :
       {total + 1, segment_.size() + 1, std::numeric_limits<std::size_t>::max(),
        std::numeric_limits<std::size_t>::max() - 4096}) {
    try {
      heap.allocate(bytes);
      ADD_FAILURE() << "allocated " << bytes;
    } catch (const SharedMemoryFull& e) {
      EXPECT_NE(std::string(e.what()).find("bytes in one piece"), std::string::npos) << e.what();
    }
  }
  EXPECT_EQ(used(), 0U);
  heap.free(heap.allocate(100));
}

/// A segment that is all taken but for `left`.
class FullHeap : public HeapTest {
 protected:
  void leave(std::size_t left) {
    Extents& extents = segment_.extents();
    // What is large begins where a huge page can: nothing is to stay free in front of that.
    Extent first;
    do first = extents.allocate(1, kOther, 0);
    while (reinterpret_cast<std::uintptr_t>(first.data + first.bytes) % kHugePage != 0);
    extents.allocate(extents.total_bytes() - extents.used_bytes() - left, kOther, 0);
    ASSERT_EQ(extents.total_bytes() - extents.used_bytes(), left);
  }
};

TEST_F(FullHeap, WhatIsKeptDoesNotStandInTheWay) {
  leave(16 * kMiB);
  Heap heap(segment_, kMe);
  const Block first = heap.allocate(6 * kMiB);
  const Block second = heap.allocate(6 * kMiB);
  EXPECT_THROW(heap.allocate(14 * kMiB), SharedMemoryFull);
  heap.free(first);
  heap.free(second);
  const Block most = heap.allocate(14 * kMiB);
  EXPECT_TRUE(resident(most));
  heap.free(most);
  // Small ones need a granule too.
  const Block all = heap.allocate(16 * kMiB);
  EXPECT_THROW(heap.allocate(1), SharedMemoryFull);
  heap.free(all);
  EXPECT_FALSE(heap.allocate(1).empty());
}

TEST_F(FullHeap, FullIsNotTheEnd) {
  leave(4 * kMiB);
  Heap heap(segment_, kMe);
  std::vector<Block> blocks;
  EXPECT_THROW(
      {
        for (;;) blocks.push_back(heap.allocate(100 * kKiB));
      },
      SharedMemoryFull);
  EXPECT_GE(blocks.size(), 20U);
  heap.free(blocks.back());
  blocks.back() = heap.allocate(100 * kKiB);
  for (const Block& block : blocks) std::memset(block.data, 1, block.bytes);
}

TEST_F(HeapTest, AMachineWithoutMemoryIsAnErrorAndNoSignal) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  constexpr std::uint32_t kPopulateWrite = 23;
  in_child([&] {
    Heap heap(segment_, kMe);
    const Block before = heap.allocate(2 * kMiB);
    const std::size_t used_before = used();
    forbid_system_call(SYS_madvise, EFAULT, kPopulateWrite);
    EXPECT_THROW(heap.allocate(4 * kMiB), SharedMemoryFull);
    EXPECT_EQ(used(), used_before) << "given back";
    EXPECT_THROW(heap.allocate(64), SharedMemoryFull);
    heap.free(before);
    EXPECT_EQ(heap.allocate(2 * kMiB).data, before.data) << "what is there can be used again";
  });
}

TEST_F(HeapTest, AnOlderKernelPopulatesOnTouch) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  constexpr std::uint32_t kPopulateWrite = 23;
  in_child([&] {
    forbid_system_call(SYS_madvise, EINVAL, kPopulateWrite);
    Heap heap(segment_, kMe);
    for (const std::size_t size : kSizes) {
      const Block block = heap.allocate(size);
      std::memset(block.data, 1, block.bytes);
    }
  });
}

TEST_F(HeapTest, ThreadsMayUseItAtOnce) {
  constexpr std::size_t kThreads = 4;
  {
    Heap heap(segment_, kMe);
    std::vector<int> fine(kThreads, 0);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<std::mt19937::result_type>(t));
        std::vector<Block> held;
        bool good = true;
        for (int i = 0; i < 400; ++i) {
          // Small ones mostly; some large. Each is marked at both ends.
          const std::size_t size = random() % 16 == 0 ? 600 * kKiB : 16 + random() % 9000;
          const Block block = heap.allocate(size);
          block.data[0] = block.data[block.bytes - 1] = static_cast<std::byte>(t);
          held.push_back(block);
          if (held.size() < 10) continue;
          const std::size_t which = random() % held.size();
          const Block last = held[which];
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
          good = good && last.data[0] == static_cast<std::byte>(t) &&
                 last.data[last.bytes - 1] == static_cast<std::byte>(t);
          heap.free(last);
        }
        for (const Block& block : held) heap.free(block);
        fine[t] = good ? 1 : 0;
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t t = 0; t < kThreads; ++t) {
      EXPECT_EQ(fine[t], 1) << "somebody else wrote to a block of thread " << t;
    }
    EXPECT_LT(used(), 200 * kMiB);
  }
  EXPECT_EQ(used(), 0U);
}

TEST_F(HeapTest, BlocksMayBeFreedByAnotherThread) {
  Heap heap(segment_, kMe);
  const Block small = heap.allocate(200);
  const Block large = heap.allocate(2 * kMiB);
  std::thread other([&] {
    heap.free(small);
    heap.free(large);
  });
  other.join();
  EXPECT_EQ(heap.allocate(2 * kMiB).data, large.data);
  // The thread gave it back at its end; what this thread has at hand comes first.
  bool came_back = false;
  const std::size_t before = used();
  while (used() == before && !came_back) came_back = heap.allocate(200).data == small.data;
  EXPECT_TRUE(came_back);
}

TEST_F(HeapTest, WhatIsGivenAwayOutlivesItsMaker) {
  constexpr SharedOwner kObject{7};
  Block small, large;
  {
    Heap heap(segment_, kOther);
    small = heap.allocate(100);
    large = heap.allocate(3 * kMiB);
    heap.allocate(100);
    std::memset(small.data, 0x31, small.bytes);
    std::memset(large.data, 0x32, large.bytes);
    heap.give(small, kObject);
    heap.give(large, kObject);
  }
  EXPECT_EQ(Heap::measure(segment_).shared, small.bytes + 3 * kMiB);
  EXPECT_TRUE(Heap::measure(segment_).held.empty());
  EXPECT_EQ(small.data[99], std::byte{0x31});
  EXPECT_EQ(large.data[3 * kMiB - 1], std::byte{0x32});
  Heap heap(segment_, kMe);
  const Block next = heap.allocate(100);
  EXPECT_NE(next.data, small.data);
  EXPECT_LT(static_cast<std::size_t>(next.data - small.data) + 4096, 8192U)
      << "not in the page that was left";
  heap.free_shared(segment_.offset_of(large.data), kObject);
  Block again = heap.allocate(3 * kMiB);
  EXPECT_EQ(again.data, large.data) << "used again by who freed it";
  // What the other says of its pages is not believed beyond the block.
  heap.give(again, kObject);
  heap.free_shared(segment_.offset_of(again.data), kObject, ~std::size_t{0});
  again = heap.allocate(3 * kMiB - 5);
  EXPECT_EQ(again.data, large.data);
  EXPECT_LE(again.bytes, 4 * kMiB);
  std::memset(again.data, 0x33, again.bytes);
}

TEST_F(HeapTest, WhatIsFreedIsFreeInPublic) {
  Heap heap(segment_, kMe);
  for (const std::size_t size : kSizes) {
    const Block block = heap.allocate(size);
    const std::size_t unit =
        static_cast<std::size_t>(block.data - segment_.heap_tables().data) / HeapBoard<>::kUnit;
    EXPECT_EQ(segment_.heap_tables().states[unit], BlockWord::owned(kMe)) << size;
    heap.free(block);
    EXPECT_EQ(segment_.heap_tables().states[unit], BlockWord::kFree) << size;
  }
}

TEST_F(HeapTest, FreeingForAnObjectIsIdempotentAndCheckedAgainstIt) {
  constexpr SharedOwner kObject{7};
  Heap heap(segment_, kMe);
  Heap other(segment_, kOther);
  for (const std::size_t size : {std::size_t{64}, std::size_t{5000}, 2 * kMiB}) {
    const Block block = heap.allocate(size);
    const std::uint64_t at = segment_.offset_of(block.data);
    const auto shared = [&] { return Heap::measure(segment_).shared; };
    other.free_shared(at, kObject);  // not given yet
    heap.give(block, kObject);
    const std::size_t given = shared();
    EXPECT_GE(given, size);
    other.free_shared(at, SharedOwner{8});
    other.free_shared(at + 64, kObject);
    other.free_shared(at + 1, kObject);
    other.free_shared(at - 64, kObject);
    other.free_shared(0, kObject);
    other.free_shared(segment_.size(), kObject);
    other.free_shared(std::numeric_limits<std::uint64_t>::max() / 64 * 64, kObject);
    EXPECT_EQ(shared(), given) << "of a block of " << size;
    other.free_shared(at, kObject);
    other.free_shared(at, kObject);
    heap.free_shared(at, kObject);
    EXPECT_EQ(shared(), 0U);
  }
}

TEST_F(HeapTest, WhatOthersFreedIsUsedAgainBeforeNewMemory) {
  Heap heap(segment_, kMe);
  Heap other(segment_, kOther);
  std::uint32_t object = 0;
  std::size_t most = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<std::pair<std::uint64_t, SharedOwner>> given;
    for (int i = 0; i < 5000; ++i) {
      const Block block = heap.allocate(256);
      given.emplace_back(segment_.offset_of(block.data), SharedOwner{++object});
      heap.give(block, given.back().second);
    }
    for (const auto& [at, owner] : given) other.free_shared(at, owner);
    if (round == 1) most = used();
  }
  EXPECT_LE(used(), most);
}

TEST_F(FullHeap, FreePagesOfOneSizeServeAnother) {
  leave(8 * kMiB);
  Heap heap(segment_, kMe);
  for (const std::size_t size : {std::size_t{200}, std::size_t{9000}, std::size_t{64}, kMiB}) {
    std::vector<Block> blocks;
    EXPECT_THROW(
        {
          for (;;) blocks.push_back(heap.allocate(size));
        },
        SharedMemoryFull);
    EXPECT_GE(blocks.size() * size, 3 * kMiB) << size;
    for (const Block& block : blocks) heap.free(block);
  }
}

TEST_F(FullHeap, PagesThatTheDeadLeftServeOthersOnceTheyAreEmpty) {
  leave(4 * kMiB);
  constexpr Tag kThird(3, 1);
  std::vector<std::uint64_t> given;
  {
    Heap gone(segment_, kThird);
    for (const std::size_t size : {64U, 300U, 5000U, 70000U}) {
      const Block block = gone.allocate(size);
      given.push_back(segment_.offset_of(block.data));
      gone.give(block, SharedOwner{7});
    }
  }
  Heap heap(segment_, kMe);
  EXPECT_THROW(heap.allocate(4 * kMiB), SharedMemoryFull);
  for (const std::uint64_t at : given) heap.free_shared(at, SharedOwner{7});
  EXPECT_FALSE(heap.allocate(4 * kMiB).empty());
}

}  // namespace
}  // namespace brood::detail::heap_test
