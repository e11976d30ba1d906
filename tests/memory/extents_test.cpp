#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/extents.hpp>
#include <brood/platform/memory_file.hpp>

#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::extents_test {
namespace {

using namespace brood::testing;
using testing::prove_everything;
using testing::SingleStep;

constexpr std::size_t kGranules = 24;
constexpr std::size_t kGranule = std::size_t{64} << 10U;
constexpr Tag kMe(1, 1);
constexpr Tag kOther(2, 1);
constexpr Tag kDead(3, 7);

/// Granules, with a directory that the tests look into.
class World {
 public:
  World()
      : file_(create_memory_file("extents", kGranules * kGranule)),
        data_(file_, kGranules * kGranule),
        extents(data_.data(), tables_->directory.data(), kGranules, kGranule, tables_->high_water) {
  }

  [[nodiscard]] std::size_t index_of(const Extent& extent) const {
    return static_cast<std::size_t>(extent.data - data_.data()) / kGranule;
  }
  [[nodiscard]] Extent granules(std::size_t first, std::size_t count) const {
    return {data_.data() + first * kGranule, count * kGranule};
  }
  /// Who holds what, a letter for each granule: '.' nobody, 'M' me, 'O' the other, 'D' the dead.
  [[nodiscard]] std::string map() const {
    std::string text;
    for (const auto& word : tables_->directory) {
      const Tag tag = Tag::from_bits(word.load());
      text += word.load() == 0 ? '.'
              : tag == kMe     ? 'M'
              : tag == kOther  ? 'O'
              : tag == kDead   ? 'D'
                               : '?';
    }
    return text;
  }
  [[nodiscard]] std::size_t resident_bytes() const {
    struct stat status {};
    EXPECT_EQ(::fstat(file_.get(), &status), 0);
    return static_cast<std::size_t>(status.st_blocks) * 512;
  }
  void reset() {
    for (auto& word : tables_->directory) word.store(0);
    tables_->high_water.store(0);
  }
  /// The tables as they are in another world.
  void copy_from(const World& other) {
    for (std::size_t i = 0; i < kGranules; ++i) {
      tables_->directory[i].store(other.tables_->directory[i].load());
    }
    tables_->high_water.store(other.tables_->high_water.load());
  }
  [[nodiscard]] std::atomic<std::uint64_t>& high_water() const { return tables_->high_water; }

 private:
  struct Tables {
    std::array<std::atomic<std::uint64_t>, kGranules> directory;
    std::atomic<std::uint64_t> high_water;
  };
  Shared<Tables> tables_;
  Fd file_;
  Mapping data_;

 public:
  Extents extents;
};

void fill(const Extent& extent, std::uint64_t value) {
  std::fill_n(reinterpret_cast<std::uint64_t*>(extent.data), extent.bytes / sizeof value, value);
}
/// Whether all of it still holds `value`.
bool holds(const Extent& extent, std::uint64_t value) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(extent.data);
  return std::all_of(words, words + extent.bytes / sizeof value,
                     [=](std::uint64_t word) { return word == value; });
}

TEST(Extents, AreAtLeastAsLargeAsAskedAndRoundedToGranules) {
  World world;
  EXPECT_EQ(world.extents.granule_bytes(), kGranule);
  EXPECT_EQ(world.extents.total_bytes(), kGranules * kGranule);
  EXPECT_EQ(world.extents.allocate(0, kMe, 0).bytes, kGranule);
  EXPECT_EQ(world.extents.allocate(1, kMe, 0).bytes, kGranule);
  EXPECT_EQ(world.extents.allocate(kGranule, kMe, 0).bytes, kGranule);
  EXPECT_EQ(world.extents.allocate(kGranule + 1, kMe, 0).bytes, 2 * kGranule);
  EXPECT_EQ(world.map(), "MMMMM...................");
  EXPECT_EQ(world.extents.used_bytes(), 5 * kGranule);
}

TEST(Extents, FirstFitReusesWhatWasReleased) {
  World world;
  const Extent first = world.extents.allocate(2 * kGranule, kMe, 0);
  const Extent second = world.extents.allocate(3 * kGranule, kOther, 0);
  const Extent third = world.extents.allocate(kGranule, kMe, 0);
  EXPECT_EQ(world.map(), "MMOOOM..................");
  world.extents.release(second, kOther, 0, false);
  EXPECT_EQ(world.map(), "MM...M..................");
  EXPECT_EQ(world.index_of(world.extents.allocate(4 * kGranule, kOther, 0)), 6U);
  EXPECT_EQ(world.index_of(world.extents.allocate(2 * kGranule, kOther, 0)), 2U);
  EXPECT_EQ(world.map(), "MMOO.MOOOO..............");
  EXPECT_EQ(world.extents.used_bytes(kMe), 3 * kGranule);
  EXPECT_EQ(world.extents.used_bytes(kOther), 6 * kGranule);
  EXPECT_EQ(world.extents.used_bytes(), 9 * kGranule);
  world.extents.release(first, kMe, 0, false);
  world.extents.release(third, kMe, 0, false);
  EXPECT_EQ(world.map(), "..OO..OOOO..............");
}

TEST(Extents, FullIsAnErrorThatSaysSoAndWhatIsReleasedIsUsable) {
  World world;
  const Extent all = world.extents.allocate(kGranules * kGranule, kMe, 0);
  EXPECT_EQ(world.index_of(all), 0U);
  try {
    world.extents.allocate(1, kOther, 0);
    ADD_FAILURE() << "got one more";
  } catch (const SharedMemoryFull& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("1 bytes"), std::string::npos) << text;
    EXPECT_NE(text.find("1 MiB of shared memory (1 MiB are in use)"), std::string::npos) << text;
  }
  world.extents.release(all, kMe, 0, true);
  EXPECT_EQ(world.extents.allocate(all.bytes, kOther, 0).bytes, all.bytes);
}

TEST(Extents, AFailedSearchHoldsNothing) {
  World world;
  for (std::size_t i = 0; i < kGranules; ++i)
    world.extents.allocate(1, i % 4 == 3 ? kOther : kMe, 0);
  world.extents.release_all(kMe, kOther);
  EXPECT_EQ(world.map(), "...O...O...O...O...O...O");
  EXPECT_THROW(world.extents.allocate(4 * kGranule, kMe, 0), SharedMemoryFull);
  EXPECT_EQ(world.map(), "...O...O...O...O...O...O");
  world.extents.release(world.granules(23, 1), kOther, 0, false);
  EXPECT_EQ(world.index_of(world.extents.allocate(4 * kGranule, kMe, 0)), 20U);
}

TEST(Extents, ImpossibleSizesAreFull) {
  World world;
  for (const std::size_t bytes : {kGranules * kGranule + 1, std::numeric_limits<std::size_t>::max(),
                                  std::numeric_limits<std::size_t>::max() - kGranule + 1}) {
    EXPECT_THROW(world.extents.allocate(bytes, kMe, 0), SharedMemoryFull) << bytes;
  }
  EXPECT_EQ(world.extents.used_bytes(), 0U);
}

TEST(Extents, OnlyWhatIsHeldIsReleased) {
  World world;
  const Extent mine = world.extents.allocate(2 * kGranule, kMe, 5);
  world.extents.release(mine, kOther, 5, false);
  EXPECT_EQ(world.map(), "MM......................") << "another's";
  world.extents.release(mine, kMe, 6, false);
  EXPECT_EQ(world.map(), "MM......................") << "of another group";
  world.extents.release(mine, Tag(kMe.slot(), kMe.generation() + 1), 5, false);
  EXPECT_EQ(world.map(), "MM......................") << "of another generation";
  world.extents.release(mine, kMe, 5, false);
  EXPECT_EQ(world.extents.used_bytes(), 0U);
}

TEST(Extents, AllOfTheDeadIsReleasedAndNothingElse) {
  World world;
  world.extents.allocate(kGranule, kMe, 0);
  const Extent dead = world.extents.allocate(3 * kGranule, kDead, 0);
  world.extents.allocate(kGranule, kOther, 0);
  world.extents.allocate(2 * kGranule, kDead, 9);
  fill(dead, 1);
  EXPECT_EQ(world.map(), "MDDDODD.................");
  EXPECT_EQ(world.extents.release_all(kDead, kMe), 5 * kGranule);
  EXPECT_EQ(world.map(), "M...O...................");
  EXPECT_EQ(world.extents.release_all(kDead, kMe), 0U) << "again";
  EXPECT_EQ(world.extents.release_all(Tag(9, 9), kMe), 0U);
  EXPECT_EQ(world.map(), "M...O...................");
}

TEST(Extents, AGroupIsReleasedAlone) {
  World world;
  world.extents.allocate(kGranule, kMe, 1);
  world.extents.allocate(2 * kGranule, kMe, 2);
  world.extents.allocate(kGranule, kOther, 2);
  world.extents.allocate(kGranule, kMe, 0xffff'ffffU - 1);
  EXPECT_EQ(world.extents.release_group(kMe, 2), 2 * kGranule);
  EXPECT_EQ(world.map(), "M..OM...................");
  EXPECT_EQ(world.extents.release_group(kMe, 0xffff'ffffU - 1), kGranule);
  EXPECT_EQ(world.extents.release_group(kMe, 2), 0U);
  EXPECT_EQ(world.map(), "M..O....................");
}

TEST(Extents, DiscardGivesPagesBackToTheSystem) {
  World world;
  const Extent first = world.extents.allocate(8 * kGranule, kMe, 0);
  const Extent second = world.extents.allocate(4 * kGranule, kMe, 0);
  const Extent third = world.extents.allocate(4 * kGranule, kDead, 0);
  for (const Extent& extent : {first, second, third}) fill(extent, 7);
  EXPECT_EQ(world.resident_bytes(), 16 * kGranule);
  world.extents.release(second, kMe, 0, false);
  EXPECT_EQ(world.resident_bytes(), 16 * kGranule) << "kept for the next";
  world.extents.release(first, kMe, 0, true);
  EXPECT_EQ(world.resident_bytes(), 8 * kGranule);
  world.extents.release_all(kDead, kMe);
  EXPECT_EQ(world.resident_bytes(), 4 * kGranule);
  EXPECT_TRUE(holds(second, 7));
  EXPECT_TRUE(holds(first, 0)) << "reads as zero, and may be written again";
}

/// More granules than a huge page has.
class WideWorld {
 public:
  static constexpr std::size_t kCount = 128;
  static constexpr std::size_t kHuge = kHugePage / kGranule;

  [[nodiscard]] std::size_t index_of(const Extent& extent) const {
    return static_cast<std::size_t>(extent.data - data_.data()) / kGranule;
  }
  [[nodiscard]] std::size_t resident_bytes() const {
    struct stat status {};
    EXPECT_EQ(::fstat(file_.get(), &status), 0);
    return static_cast<std::size_t>(status.st_blocks) * 512;
  }

 private:
  std::array<std::atomic<std::uint64_t>, kCount> directory_{};
  std::atomic<std::uint64_t> high_water_{0};
  Fd file_ = create_memory_file("extents", (kCount + kHuge) * kGranule);
  Mapping data_{file_, (kCount + kHuge) * kGranule};

 public:
  /// Three granules behind where a huge page could begin.
  Extents extents{data_.data() + 3 * kGranule, directory_.data(), kCount, kGranule, high_water_};
};

TEST(Extents, WhatHasRoomForHugePagesBeginsWhereOneCan) {
  WideWorld world;
  constexpr std::size_t kHuge = WideWorld::kHuge;
  EXPECT_EQ(world.index_of(world.extents.allocate(1, kMe, 0)), 3U);
  EXPECT_EQ(world.index_of(world.extents.allocate(kHugePage, kMe, 0)), kHuge);
  EXPECT_EQ(world.index_of(world.extents.allocate(kHugePage + 1, kMe, 0)), 2 * kHuge);
  EXPECT_EQ(world.index_of(world.extents.allocate(kHugePage - kGranule, kMe, 0)), 3 * kHuge + 1)
      << "no room for one";
  EXPECT_EQ(world.index_of(world.extents.allocate(2 * kGranule, kMe, 0)), 4U) << "first fit";
}

TEST(Extents, WhereNoHugePageCanBeginThereIsStillRoom) {
  WideWorld world;
  constexpr std::size_t kHuge = WideWorld::kHuge;
  for (std::size_t at = kHuge; at < WideWorld::kCount - kHuge; at += kHuge) {
    ASSERT_EQ(world.index_of(world.extents.allocate(kHugePage, kOther, 1)), at);
  }
  world.extents.allocate((kHuge - 3) * kGranule, kOther, 2);  // in front of the first
  const Extent first = world.extents.allocate(kGranule, kOther, 3);
  ASSERT_EQ(world.index_of(first), WideWorld::kCount - kHuge) << "the last place for one";
  EXPECT_EQ(world.index_of(world.extents.allocate(kHugePage, kMe, 0)),
            WideWorld::kCount - kHuge + 1);
}

TEST(Extents, GroupsAndTheDeadGiveAllTheirPagesBack) {
  for (const bool died : {false, true}) {
    SCOPED_TRACE(died);
    WideWorld world;
    std::vector<Extent> kept;
    for (int i = 0; i < 3; ++i) {
      const Extent extent = world.extents.allocate(kHugePage, kDead, 2);
      ASSERT_TRUE(populate_pages(extent.data, extent.bytes));
      kept.push_back(world.extents.allocate(kGranule, kOther, 2));
      fill(kept.back(), 9);
    }
    EXPECT_EQ(died ? world.extents.release_all(kDead, kMe) : world.extents.release_group(kDead, 2),
              3 * kHugePage);
    EXPECT_EQ(world.resident_bytes(), 3 * kGranule);
    for (const Extent& extent : kept) EXPECT_TRUE(holds(extent, 9));
    EXPECT_EQ(world.extents.used_bytes(), 3 * kGranule);
  }
}

TEST(Extents, TheMarkIsAboveAllThatWasTaken) {
  World world;
  EXPECT_EQ(world.high_water().load(), 0U);
  const Extent extent = world.extents.allocate(3 * kGranule, kMe, 0);
  EXPECT_GE(world.high_water().load(), 3U);
  world.extents.release(extent, kMe, 0, false);
  EXPECT_GE(world.high_water().load(), 3U);
  // Somebody overwrote it: what is read stays inside of the directory.
  world.high_water().store(std::numeric_limits<std::uint64_t>::max());
  world.extents.allocate(kGranule, kMe, 0);
  EXPECT_EQ(world.extents.used_bytes(), kGranule);
  EXPECT_EQ(world.extents.release_all(kMe, kOther), kGranule);
}

/// Takes and gives back at random; what it holds is its own all the time. False: it was not.
bool churn(Extents& extents, Tag tag, int rounds) {
  struct Held {
    Extent extent;
    std::uint64_t value;
    std::uint32_t group;
  };
  std::mt19937 random(tag.bits());
  std::vector<Held> held;
  const auto release = [&] {
    const std::size_t which = random() % held.size();
    const Held last = held[which];
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    if (!holds(last.extent, last.value)) return false;
    extents.release(last.extent, tag, last.group, random() % 8 == 0);
    return true;
  };
  for (int i = 0; i < rounds; ++i) {
    const auto group = static_cast<std::uint32_t>(random() % 3);
    try {
      held.push_back({.extent = extents.allocate((1 + random() % 3) * kGranule, tag, group),
                      .value = std::uint64_t{tag.bits()} << 32U | static_cast<std::uint32_t>(i),
                      .group = group});
    } catch (const SharedMemoryFull&) {
      if (!held.empty() && !release()) return false;
      continue;
    }
    fill(held.back().extent, held.back().value);
    while (held.size() > 4) {
      if (!release()) return false;
    }
  }
  return std::all_of(held.begin(), held.end(),
                     [](const Held& h) { return holds(h.extent, h.value); });
}

constexpr int kChurners = 4;

TEST(Extents, ThreadsNeverGetTheSameGranule) {
  World world;
  std::array<bool, kChurners> fine{};
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < kChurners; ++i) {
    threads.emplace_back([&, i] { fine[i] = churn(world.extents, Tag(i, 1), 60); });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::uint32_t i = 0; i < kChurners; ++i) {
    EXPECT_TRUE(fine[i]) << "somebody else wrote to what thread " << i << " held";
    world.extents.release_all(Tag(i, 1), kMe);
  }
  EXPECT_EQ(world.extents.used_bytes(), 0U);
}

TEST(Extents, ProcessesNeverGetTheSameGranule) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  World world;
  std::vector<Forked> children;
  for (std::uint32_t i = 0; i < kChurners; ++i) {
    children.emplace_back([&, i] { EXPECT_TRUE(churn(world.extents, Tag(i, 1), 300)); });
  }
  for (Forked& child : children) EXPECT_EQ(child.wait(), 0);
  std::size_t used = 0;
  for (std::uint32_t i = 0; i < kChurners; ++i) used += world.extents.release_all(Tag(i, 1), kMe);
  EXPECT_GT(used, 0U);
  EXPECT_EQ(world.extents.used_bytes(), 0U);
}

TEST(Extents, SurvivorsOfKillsNeverGetTheSameGranule) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  World world;
  Forked survivor([&] { EXPECT_TRUE(churn(world.extents, kMe, 500)); });
  for (std::uint32_t round = 0; round < 30; ++round) {
    const Tag tag(kDead.slot(), round + 1);
    const Gate runs;
    Forked child([&] {
      runs.open();
      EXPECT_TRUE(churn(world.extents, tag, 1'000'000));
    });
    ASSERT_TRUE(runs.pass());
    while (world.extents.used_bytes(tag) == 0) std::this_thread::yield();
    child.kill();
    world.extents.release_all(tag, kOther);
    EXPECT_EQ(world.extents.used_bytes(tag), 0U);
  }
  EXPECT_EQ(survivor.wait(), 0);
  world.extents.release_all(kMe, kOther);
  EXPECT_EQ(world.extents.used_bytes(), 0U);
}

// --- Stopped and killed at every instruction -----------------------------------------------------

/// Where others hold granules, and an operation of the dead among them.
struct Case {
  const char* name;
  const char* before;  // '.' free, 'O' the other's, 'D' the dead's
  void (*operation)(World& world);
};

void allocate_three(World& world) {
  try {
    world.extents.allocate(3 * kGranule, kDead, 4);
  } catch (const SharedMemoryFull&) {
    // Others were faster, or there never was room.
  }
}

// The search for three takes some that it gives back, and spoils none.
const Case kCases[] = {
    {"allocate", "O.O..O.............O....", allocate_three},
    {"allocate_in_vain", "O..O..O..O..O..O..O..O..", allocate_three},
    {"release", "ODDDO...................",
     [](World& world) { world.extents.release(world.granules(1, 3), kDead, 0, false); }},
    {"release_and_discard", "ODDDO...................",
     [](World& world) { world.extents.release(world.granules(1, 3), kDead, 0, true); }},
    {"release_group", "OD.DODD.................",
     [](World& world) { world.extents.release_group(kDead, 0); }},
    {"recover", "OM.MOMM.................",
     [](World& world) { world.extents.release_all(kMe, kDead); }},
};

void arrange(World& world, const std::string& before) {
  world.reset();
  for (std::size_t i = 0; i < before.size(); ++i) world.extents.allocate(kGranule, kMe, 0);
  // From the back to the front: each is handed on as the map says.
  for (std::size_t i = before.size(); i-- > 0;) {
    if (before[i] == 'M') continue;
    world.extents.release(world.granules(i, 1), kMe, 0, false);
    if (before[i] == '.') continue;
    world.extents.allocate(kGranule, before[i] == 'O' ? kOther : kDead, 0);
  }
  ASSERT_EQ(world.map(), before);
}

class ExtentsKill : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
  }
  static std::size_t count(const std::string& map, char who) {
    return static_cast<std::size_t>(std::count(map.begin(), map.end(), who));
  }
  /// The distance between two kill points, so that all of a test take a bearable number of steps:
  /// each starts at the beginning again.
  static std::uint64_t stride_of_sample(World& world) {
    arrange(world, GetParam().before);
    SingleStep child([&] { GetParam().operation(world); });
    while (child.step()) continue;
    const std::uint64_t most_steps = prove_everything() ? 2'000'000 : 8'000;
    return std::max<std::uint64_t>(1, child.steps() * child.steps() / 2 / most_steps);
  }
  /// The dead one is dead: everything but the other's can be taken back and given out, once.
  static void expect_recovered(World& world) {
    const std::string before = GetParam().before;
    const std::string found = world.map();
    for (std::size_t i = 0; i < kGranules; ++i) {
      ASSERT_EQ(found[i] == 'O', before[i] == 'O') << found;
    }
    ASSERT_EQ(world.extents.release_all(kDead, kOther), count(found, 'D') * kGranule) << found;
    world.extents.release_all(kMe, kOther);  // who died before the dead one, where there was one
    const std::size_t others = count(before, 'O');
    ASSERT_EQ(world.extents.used_bytes(), others * kGranule) << world.map();
    std::vector<bool> taken(kGranules, false);
    for (std::size_t i = 0; i < kGranules - others; ++i) {
      const std::size_t index = world.index_of(world.extents.allocate(1, kMe, 0));
      ASSERT_FALSE(taken[index]) << index;
      ASSERT_NE(before[index], 'O') << index;
      taken[index] = true;
    }
    ASSERT_THROW(world.extents.allocate(1, kMe, 0), SharedMemoryFull);
  }
};

// Stopped after each instruction; the recovery runs on a copy of the tables, as after a kill there.
TEST_P(ExtentsKill, AllIsRecoveredWhereverTheProcessStops) {
  World world;
  World copy;
  ASSERT_NO_FATAL_FAILURE(arrange(world, GetParam().before));
  SingleStep child([&] { GetParam().operation(world); });
  std::uint64_t points = 0;
  do {
    copy.copy_from(world);
    ASSERT_NO_FATAL_FAILURE(expect_recovered(copy)) << "stopped after " << child.steps();
    ++points;
  } while (child.step());
  EXPECT_GT(points, 50U);
}

TEST_P(ExtentsKill, AllIsRecoveredAfterARealKill) {
  World world;
  const std::uint64_t stride = stride_of_sample(world);
  for (std::uint64_t steps = 0;; steps += stride) {
    ASSERT_NO_FATAL_FAILURE(arrange(world, GetParam().before));
    SingleStep child([&] { GetParam().operation(world); });
    child.step(steps);
    const bool ended = child.ended();
    child.kill();
    ASSERT_NO_FATAL_FAILURE(expect_recovered(world)) << "killed after " << steps;
    if (ended) break;
  }
}

// While it is stopped, others take all that is free and write to it; then it goes on.
TEST_P(ExtentsKill, WhatIsFreeIsNotTouchedByWhoGoesOn) {
  World world;
  const std::string before = GetParam().before;
  const std::uint64_t stride = stride_of_sample(world);
  for (std::uint64_t steps = 0;; steps += stride) {
    ASSERT_NO_FATAL_FAILURE(arrange(world, before));
    SingleStep child([&] { GetParam().operation(world); });
    child.step(steps);
    const bool ended = child.ended();
    // In the case of a recovery, another one recovers the same at the same time.
    world.extents.release_all(kMe, kOther);
    constexpr std::uint32_t kMark = 77;
    // In that case the dead one is kMe; no tag is given out a second time.
    const bool dead_is_me = before.find('M') != std::string::npos;
    std::vector<Extent> mine;
    try {
      for (;;) mine.push_back(world.extents.allocate(1, dead_is_me ? kOther : kMe, kMark));
    } catch (const SharedMemoryFull&) {
    }
    for (const Extent& extent : mine) fill(extent, 5);
    child.finish();
    for (const Extent& extent : mine) {
      ASSERT_TRUE(holds(extent, 5)) << "granule " << world.index_of(extent)
                                    << " was overwritten by who was stopped after " << steps;
      ASSERT_EQ(world.map()[world.index_of(extent)], dead_is_me ? 'O' : 'M') << steps;
    }
    if (ended) break;
  }
}

INSTANTIATE_TEST_SUITE_P(, ExtentsKill, ::testing::ValuesIn(kCases),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace brood::detail::extents_test
