// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include <brood/memory/heap.hpp>
#include <brood/platform/program.hpp>
#include <brood/process.hpp>
#include <brood/process/family.hpp>
#include <brood/shared_memory_info.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"

namespace brood::shared_memory_info_test {
namespace {

using testing::EveryStartMethod;

constexpr std::size_t kMiB = std::size_t{1} << 20U;

class SharedMemoryInfoTest : public EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(SharedMemoryInfoTest);

void expect_consistent(const SharedMemoryInfo& info) {
  EXPECT_EQ(info.used + info.free, info.total);
  const std::size_t held =
      std::accumulate(info.processes.begin(), info.processes.end(), std::size_t{0},
                      [](std::size_t sum, const auto& p) { return sum + p.bytes; });
  EXPECT_EQ(info.used, info.shared_objects + held);
}

std::size_t held_by(const SharedMemoryInfo& info, int pid) {
  std::size_t bytes = 0;
  for (const auto& process : info.processes) bytes += process.pid == pid ? process.bytes : 0;
  return bytes;
}

TEST_P(SharedMemoryInfoTest, TellsWhoHasWhat) {
  const auto family = detail::Family::require();
  detail::Heap& heap = family->heap();
  const int me = detail::current_pid();
  const SharedMemoryInfo before = shared_memory_info();
  expect_consistent(before);
  const detail::Block block = heap.allocate(300 * kMiB);  // more than is kept
  const SharedMemoryInfo held = shared_memory_info();
  expect_consistent(held);
  EXPECT_EQ(held_by(held, me), held_by(before, me) + 300 * kMiB);
  EXPECT_EQ(held.shared_objects, before.shared_objects);
  heap.give(block, detail::SharedOwner{12345});
  const SharedMemoryInfo given = shared_memory_info();
  expect_consistent(given);
  EXPECT_EQ(held_by(given, me), held_by(before, me));
  EXPECT_EQ(given.shared_objects, before.shared_objects + 300 * kMiB);
  EXPECT_EQ(given.used, held.used);
  heap.free_shared(family->segment().offset_of(block.data), detail::SharedOwner{12345});
  const SharedMemoryInfo after = shared_memory_info();
  expect_consistent(after);
  EXPECT_EQ(after.used, before.used);
  EXPECT_TRUE(std::is_sorted(after.processes.begin(), after.processes.end(),
                             [](const auto& a, const auto& b) { return a.bytes > b.bytes; }));
}

TEST_P(SharedMemoryInfoTest, WhatIsKeptCanBeGivenBack) {
  detail::Heap& heap = detail::Family::require()->heap();
  const int me = detail::current_pid();
  trim_shared_memory();
  const std::size_t before = held_by(shared_memory_info(), me);
  heap.free(heap.allocate(100 * kMiB));
  EXPECT_EQ(held_by(shared_memory_info(), me), before + 100 * kMiB);
  std::vector<detail::Block> small(10'000);
  for (auto& block : small) block = heap.allocate(4096);
  for (const auto& block : small) heap.free(block);
  EXPECT_GE(held_by(shared_memory_info(), me), before + 130 * kMiB);
  const detail::Block used = heap.allocate(4096);
  trim_shared_memory();
  EXPECT_LE(held_by(shared_memory_info(), me), before + 2 * kMiB) << "it, and a thread's few";
  std::memset(used.data, 1, used.bytes);
  heap.free(used);
  trim_shared_memory();
}

// What a killed child owned comes back; what it gave away stays, in pages that are nobody's.
void leave_and_die() {
  const auto family = detail::Family::require();
  detail::Heap& heap = family->heap();
  static_cast<void>(heap.allocate(3 * kMiB));
  for (int i = 0; i < 100; ++i) {
    const detail::Block block = heap.allocate(1000);
    if (i % 10 == 0) heap.give(block, detail::SharedOwner{777});
  }
  heap.give(heap.allocate(5 * kMiB), detail::SharedOwner{778});
  std::raise(SIGKILL);
}

TEST_P(SharedMemoryInfoTest, WhatAKilledChildGaveAwayStays) {
  const auto family = detail::Family::require();
  const SharedMemoryInfo before = shared_memory_info();
  Process child(leave_and_die);
  child.start();
  const int pid = child.pid().value();
  child.join();
  const std::size_t given = 10 * 1024 + 5 * kMiB;
  EXPECT_TRUE(testing::eventually([&] {
    const SharedMemoryInfo now = shared_memory_info();
    return now.shared_objects == before.shared_objects + given && held_by(now, pid) == 0 &&
           held_by(now, 0) == held_by(before, 0);
  })) << "the dead's memory never came back, or shared memory went with it";
  expect_consistent(shared_memory_info());
  // The end of the objects, by this process.
  detail::Segment& segment = family->segment();
  for (std::uint64_t at = segment.header().data_at; at < segment.size(); at += 1024) {
    const detail::Extents& extents = segment.extents();
    if (at - segment.header().data_at > 1024 * extents.granule_bytes()) break;
    family->heap().free_shared(at, detail::SharedOwner{777});
    family->heap().free_shared(at, detail::SharedOwner{778});
  }
  EXPECT_EQ(shared_memory_info().shared_objects, before.shared_objects);
}

}  // namespace
}  // namespace brood::shared_memory_info_test
