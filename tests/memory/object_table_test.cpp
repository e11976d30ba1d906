#include <brood/memory/object_table.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "memory/object_world.hpp"
#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"

namespace brood::detail::object_table_test {
namespace {

using testing::prove_everything;
using testing::SingleStep;

constexpr std::uint32_t kCapacity = 32;
constexpr Tag kMe(1, 1);
constexpr Tag kOther(2, 1);
constexpr Tag kDead(3, 7);
constexpr Tag kEarlier(3, 6);  // had the slot of kDead before
constexpr Tag kHelper(4, 1);
constexpr Tag kReader(5, 1);
constexpr ObjectType kType{.kind = 1, .contents = 2};
constexpr std::size_t kLarge = 1000;

using World = testing::ObjectTestWorld<std::atomic, kCapacity>;
using Table = ObjectTable<World>;

class ObjectTableTest : public ::testing::Test {
 protected:
  ObjectRef make(std::size_t bytes, Tag owner) { return *table.create(kType, bytes, 0, owner); }

  testing::Shared<World::Memory> memory;
  World world{*memory};
  Table table{world, memory->entries.data(), kCapacity, memory->header};
};

TEST_F(ObjectTableTest, LivesAsLongAsSomebodyHoldsIt) {
  const ObjectRef ref = make(4, kMe);
  EXPECT_NE(ref.generation, 0U);
  EXPECT_TRUE(table.held(ref, kMe));
  EXPECT_TRUE(table.adopt(ref, kOther, kOther));
  EXPECT_TRUE(table.adopt(ref, kOther, kOther)) << "again";
  table.drop(ref, kMe, kMe);
  EXPECT_FALSE(table.held(ref, kMe));
  EXPECT_TRUE(table.held(ref, kOther));
  EXPECT_EQ(world.verdict({}), "");
  table.drop(ref, kOther, kOther);
  EXPECT_FALSE(table.adopt(ref, kMe, kMe)) << "it is gone";
  table.drop(ref, kMe, kMe);  // nothing happens
  EXPECT_EQ(world.verdict({}), "");
}

TEST_F(ObjectTableTest, APlaceIsUsedAgainUnderAnotherName) {
  const ObjectRef first = make(kLarge, kMe);
  table.drop(first, kMe, kMe);
  const ObjectRef second = make(4, kMe);
  EXPECT_EQ(first.index, second.index);
  EXPECT_NE(first.generation, second.generation);
  EXPECT_FALSE(table.adopt(first, kOther, kOther));
  EXPECT_FALSE(table.held(first, kMe));
  table.drop(first, kMe, kMe);
  EXPECT_TRUE(table.held(second, kMe));
}

TEST_F(ObjectTableTest, ThePayloadIsZeroAgain) {
  const ObjectRef first = make(64, kMe);
  table.entry(first.index).inline_payload.fill(std::byte{0xff});
  table.drop(first, kMe, kMe);
  const ObjectRef second = make(64, kMe);
  for (const std::byte byte : table.entry(second.index).inline_payload) {
    ASSERT_EQ(byte, std::byte{0});
  }
}

TEST_F(ObjectTableTest, WrongReferencesNameNothing) {
  const ObjectRef ref = make(4, kMe);
  for (const ObjectRef wrong :
       {ObjectRef{}, ObjectRef{ref.index, ref.generation + 1}, ObjectRef{ref.index + 1, 1},
        ObjectRef{kCapacity, 1}, ObjectRef{~0U, ~0U}}) {
    EXPECT_FALSE(table.adopt(wrong, kOther, kOther)) << wrong.index << "." << wrong.generation;
    table.drop(wrong, kMe, kMe);
    EXPECT_FALSE(table.held(wrong, kMe));
  }
  EXPECT_TRUE(table.held(ref, kMe));
}

TEST_F(ObjectTableTest, FillsUpAndIsUsableAgain) {
  std::vector<ObjectRef> refs;
  for (std::uint32_t i = 0; i != kCapacity; ++i) refs.push_back(make(4, kMe));
  EXPECT_FALSE(table.create(kType, 4, 0, kMe));
  table.drop(refs[17], kMe, kMe);
  table.drop(refs[3], kMe, kMe);
  EXPECT_EQ(make(4, kMe).index, 3U);
  EXPECT_EQ(make(4, kMe).index, 17U);
  EXPECT_FALSE(table.create(kType, 4, 0, kMe));
  EXPECT_EQ(world.verdict({}), "");
}

TEST_F(ObjectTableTest, GrowsByPagesAndFindsWhatBecameFree) {
  std::vector<ObjectRef> refs;
  for (int i = 0; i != 10; ++i) refs.push_back(make(4, kMe));
  EXPECT_EQ(table.usable(), Table::kStep);
  for (const ObjectRef ref : refs) table.drop(ref, kMe, kMe);
  for (int i = 0; i != 200; ++i) table.drop(make(4, kMe), kMe, kMe);
  EXPECT_EQ(table.usable(), Table::kStep) << "what is free is used first";
}

TEST_F(ObjectTableTest, TheDeadHoldNothing) {
  const ObjectRef mine = make(4, kMe);
  const ObjectRef shared = make(kLarge, kDead);
  const ObjectRef its = make(kLarge, kDead);
  table.adopt(mine, kDead, kDead);
  table.adopt(shared, kOther, kOther);
  world.bury(kDead);
  EXPECT_TRUE(table.release_all(kDead, kMe));
  EXPECT_TRUE(table.held(mine, kMe));
  EXPECT_TRUE(table.held(shared, kOther));
  EXPECT_FALSE(table.adopt(its, kMe, kMe));
  EXPECT_EQ(world.verdict({kDead}), "");
  EXPECT_TRUE(table.release_all(kDead, kMe)) << "again";
  EXPECT_TRUE(table.held(mine, kMe));
}

TEST_F(ObjectTableTest, WhatALinkHoldsOutlivesItsProcesses) {
  const ObjectRef ref = make(kLarge, kMe);
  world.link(1)->ref = ref;
  world.link(2)->ref = ref;
  table.link(1, kMe);
  table.link(1, kMe);  // again
  table.link(2, kMe);
  table.drop(ref, kMe, kMe);
  EXPECT_EQ(world.verdict({}), "");
  EXPECT_TRUE(table.adopt(ref, kOther, kOther));
  table.unlink(1, kOther);
  table.unlink(1, kOther);  // again
  table.drop(ref, kOther, kOther);
  EXPECT_TRUE(table.adopt(ref, kDead, kDead)) << "the other link still holds it";
  world.bury(kDead);
  EXPECT_TRUE(table.release_all(kDead, kMe));
  EXPECT_EQ(world.verdict({kDead}), "");
  table.unlink(2, kMe);
  EXPECT_FALSE(table.adopt(ref, kOther, kOther));
  EXPECT_EQ(world.verdict({kDead}), "");
  world.link(2)->ref = {ref.index, ref.generation + 1};
  table.link(2, kMe);  // names nothing
  EXPECT_EQ(world.link(2)->held.load(), 0U);
}

// The slot of a dead process is used again before anybody took its bits away.
TEST_F(ObjectTableTest, BitsOfAnEarlierProcessAreNotTheNextOnes) {
  const ObjectRef its = make(kLarge, kEarlier);
  const ObjectRef shared = make(4, kEarlier);
  table.adopt(shared, kMe, kMe);
  world.bury(kEarlier);
  EXPECT_FALSE(table.held(shared, kDead));
  const ObjectRef mine = make(4, kDead);
  EXPECT_FALSE(table.held(shared, kDead));
  EXPECT_FALSE(table.adopt(its, kMe, kMe)) << "gone with the earlier one";
  EXPECT_EQ(world.verdict({kEarlier}), "");
  EXPECT_TRUE(table.release_all(kEarlier, kMe)) << "late";
  table.drop(mine, kEarlier, kMe);  // late too
  EXPECT_TRUE(table.held(mine, kDead));
}

TEST_F(ObjectTableTest, NobodyIsRobbedWhoLives) {
  const ObjectRef ref = make(4, kMe);
  table.adopt(ref, kDead, kDead);
  const ObjectWord at{.generation = ref.generation, .state = ObjectState::changing, .tag = kOther};
  auto& word = table.entry(ref.index).word;
  word.store(at.pack());  // stopped there
  world.bury(kDead);
  EXPECT_FALSE(table.release_all(kDead, kMe)) << "says that it is not done, and does not wait";
  EXPECT_EQ(word.load(), at.pack());
  int pauses = 0;
  world.on_pause = [&] {
    if (++pauses == 100) world.bury(kOther);
  };
  table.drop(ref, kMe, kMe);
  EXPECT_EQ(pauses, 100) << "waited until it was dead";
  EXPECT_TRUE(table.release_all(kDead, kMe));
  EXPECT_EQ(world.verdict({kDead, kOther}), "");
  EXPECT_FALSE(table.adopt(ref, kMe, kMe));
}

// --- killed at every instruction -----------------------------------------------------------------

struct Case {
  const char* name;
  void (*prepare)(Table&, World&);
  void (*act)(Table&, World&);  // by kDead, who is killed in it
};

// What all cases begin with: 0 is mine and the dead's, 1 the dead's alone and large, 2 mine alone
// and large, 3 of the earlier process in the dead's slot, large, 4 mine and the earlier one's, 5
// nobody's but two links'.
constexpr ObjectRef kShared{0, 1}, kItsOwn{1, 1}, kMine{2, 1}, kOldAndMine{4, 1}, kLinked{5, 1};
// Links, of messages: to what the dead holds too, to what is its own, to mine, to what nothing else
// holds, which two do.
enum Link : std::uint8_t { kToShared = 1, kToItsOwn, kToMine, kOnly, kOnlyToo, kEndOfLinks };

void furnish(Table& table, World& world) {
  for (std::uint32_t i = 0; i != 5; ++i) {
    table.create(kType, i == 0 || i == 4 ? 4 : kLarge, 0, i == 3 || i == 4 ? kEarlier : kMe);
  }
  table.adopt(kOldAndMine, kMe, kMe);
  table.create(kType, kLarge, 0, kMe);
  const std::pair<Link, ObjectRef> links[] = {{kToShared, kShared},
                                              {kToItsOwn, kItsOwn},
                                              {kToMine, kMine},
                                              {kOnly, kLinked},
                                              {kOnlyToo, kLinked}};
  for (const auto& [at, ref] : links) {
    world.link(at)->ref = ref;
    if (at != kToShared && at != kToItsOwn) table.link(at, kMe);
  }
  table.drop(kLinked, kMe, kMe);
  world.bury(kEarlier);
}
void settle(Table& table, World& world) {
  furnish(table, world);
  table.adopt(kShared, kDead, kDead);
  table.adopt(kItsOwn, kDead, kDead);
  table.drop(kItsOwn, kMe, kMe);
}
void settle_and_interrupt(Table& table, World& world) {
  settle(table, world);
  for (const ObjectRef ref : {kShared, kMine}) {
    table.entry(ref.index).word.store(
        ObjectWord{.generation = ref.generation, .state = ObjectState::changing, .tag = kOther}
            .pack());
  }
  table.entry(6).word.store(
      ObjectWord{.generation = 1, .state = ObjectState::making, .tag = kOther}.pack());
  World::Entry& entry = table.entry(6);
  world.take_payload(entry, 6, kLarge, kLarge);
  world.slot(kOther).store(kOther.bits());
  world.bury(kOther);
}

const Case kCases[] = {
    {"create", settle, [](Table& t, World&) { t.create(kType, 4, 0, kDead); }},
    {"create_large", settle, [](Table& t, World&) { t.create(kType, kLarge, 0, kDead); }},
    {"create_first", furnish, [](Table& t, World&) { t.create(kType, kLarge, 0, kDead); }},
    {"adopt", settle, [](Table& t, World&) { t.adopt(kMine, kDead, kDead); }},
    {"adopt_first", furnish, [](Table& t, World&) { t.adopt(kMine, kDead, kDead); }},
    {"adopt_for_another", settle, [](Table& t, World&) { t.adopt(kShared, kHelper, kDead); }},
    {"drop", settle, [](Table& t, World&) { t.drop(kShared, kDead, kDead); }},
    {"drop_last", settle, [](Table& t, World&) { t.drop(kItsOwn, kDead, kDead); }},
    {"release", settle_and_interrupt, [](Table& t, World&) { t.release_all(kOther, kDead); }},
    {"release_earlier", settle, [](Table& t, World&) { t.release_all(kEarlier, kDead); }},
    {"link", settle, [](Table& t, World&) { t.link(kToShared, kDead); }},
    {"link_and_drop", settle,
     [](Table& t, World&) {
       t.link(kToItsOwn, kDead);
       t.drop(kItsOwn, kDead, kDead);
     }},
    {"link_first", furnish, [](Table& t, World&) { t.link(kToShared, kDead); }},
    {"unlink", settle, [](Table& t, World&) { t.unlink(kToMine, kDead); }},
    {"unlink_last", settle,
     [](Table& t, World&) {
       t.unlink(kOnly, kDead);
       t.unlink(kOnlyToo, kDead);
     }},
    {"take_over", settle_and_interrupt, [](Table& t, World&) { t.drop(kShared, kDead, kDead); }},
};

class ObjectTableKill : public ObjectTableTest, public ::testing::WithParamInterface<Case> {
 protected:
  void SetUp() override {
    if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
  }
  void prepare() {
    std::memset(static_cast<void*>(&*memory), 0, sizeof(World::Memory));
    GetParam().prepare(table, world);
  }
  // The dead has been buried and taken out: what is wrong, if anything.
  std::string aftermath() {
    // What a message holds is there until the message is gone; whoever ends that does it twice.
    for (std::uint64_t at = 1; at != kEndOfLinks; ++at) {
      if (world.link(at)->held.load() == 0) continue;
      const ObjectRef ref = world.link(at)->ref;
      if (!table.adopt(ref, kReader, kReader)) return "what a link holds is gone";
      table.drop(ref, kReader, kReader);
    }
    for (std::uint64_t at = 1; at != kEndOfLinks; ++at) {
      table.unlink(at, kMe);
      table.unlink(at, kMe);
    }
    if (table.adopt(kLinked, kReader, kReader)) return "what nothing held any more was there";
    // Others may go on at once: each of their operations comes to its end.
    const auto fresh = table.create(kType, kLarge, 0, kMe);
    if (!fresh) return "no object can be made any more";
    if (!table.adopt(kMine, kMe, kMe) || !table.held(kMine, kMe)) return "mine is gone";
    if (!table.held(kOldAndMine, kMe)) return "mine, that an earlier process held too, is gone";
    table.drop(*fresh, kMe, kMe);
    for (const Tag tag : {kOther, kHelper}) {
      world.bury(tag);
      if (!table.release_all(tag, kMe)) return "it is not complete";
    }
    std::string wrong = world.verdict({kDead, kOther, kHelper});
    if (!wrong.empty()) return wrong;
    if (table.adopt(kItsOwn, kMe, kMe) && GetParam().prepare != furnish) return "its own lives on";
    // All that are left are held by me: then there is nothing left.
    std::vector<ObjectRef> refs;
    table.for_each([&](ObjectRef ref, const auto&) { refs.push_back(ref); });
    for (const ObjectRef ref : refs) table.drop(ref, kMe, kMe);
    table.create(kType, 4, 0, kDead);  // its tag once more: nothing of it may be found
    table.release_all(kEarlier, kMe);
    table.release_all(kDead, kMe);
    std::size_t left = 0;
    table.for_each([&](ObjectRef, const auto&) { ++left; });
    if (left != 0) return std::to_string(left) + " objects are left that nobody holds";
    return world.verdict({kDead});
  }
};

// The child is stopped after each instruction, and the rest is done on the memory as it then is, as
// if it had been killed: nothing but its instructions writes to it.
TEST_P(ObjectTableKill, AllIsRecoveredWhereverAProcessStops) {
  prepare();
  SingleStep child([&] { GetParam().act(table, world); });
  std::vector<std::byte> here(sizeof(World::Memory));
  std::uint64_t points = 0;
  do {
    std::memcpy(here.data(), static_cast<const void*>(&*memory), here.size());
    world.bury(kDead);
    ASSERT_TRUE(table.release_all(kDead, kMe)) << "instruction " << child.steps();
    ASSERT_EQ(aftermath(), "") << "instruction " << child.steps();
    std::memcpy(static_cast<void*>(&*memory), here.data(), here.size());
    ++points;
  } while (child.step());
  std::printf("%s: %llu kill points\n", GetParam().name, static_cast<unsigned long long>(points));
  EXPECT_GT(points, 50U);
}

// The next one comes upon the objects before anybody has cleaned up.
TEST_P(ObjectTableKill, OthersGoOnBeforeItIsRecovered) {
  prepare();
  SingleStep child([&] { GetParam().act(table, world); });
  std::vector<std::byte> here(sizeof(World::Memory));
  do {
    std::memcpy(here.data(), static_cast<const void*>(&*memory), here.size());
    world.bury(kDead);
    for (const ObjectRef ref : {kShared, kMine, kOldAndMine}) {
      ASSERT_TRUE(table.adopt(ref, kHelper, kHelper)) << "instruction " << child.steps();
    }
    table.drop(kShared, kMe, kMe);
    table.drop(kShared, kHelper, kHelper);
    ASSERT_TRUE(table.release_all(kDead, kHelper));
    ASSERT_EQ(aftermath(), "") << "instruction " << child.steps();
    std::memcpy(static_cast<void*>(&*memory), here.data(), here.size());
  } while (child.step());
}

// Who recovers is killed too, at every instruction, and another goes on.
TEST_P(ObjectTableKill, TheRecoveryMayBeKilled) {
  const std::uint64_t stride = prove_everything() ? 3 : 61;
  std::uint64_t pairs = 0;
  bool over = false;
  for (std::uint64_t first = 0; !over; first += stride) {
    prepare();
    {
      SingleStep child([&] { GetParam().act(table, world); });
      over = !child.step(first);
      child.kill();
    }
    world.bury(kDead);
    std::vector<std::byte> killed(sizeof(World::Memory));
    std::memcpy(killed.data(), static_cast<const void*>(&*memory), killed.size());
    SingleStep helper([&] { table.release_all(kDead, kHelper); });
    std::vector<std::byte> here(sizeof(World::Memory));
    do {
      std::memcpy(here.data(), static_cast<const void*>(&*memory), here.size());
      world.bury(kHelper);
      ASSERT_TRUE(table.release_all(kHelper, kMe));
      ASSERT_TRUE(table.release_all(kDead, kMe));
      ASSERT_EQ(aftermath(), "") << "instruction " << first << ", then " << helper.steps();
      std::memcpy(static_cast<void*>(&*memory), here.data(), here.size());
      ++pairs;
    } while (helper.step(prove_everything() ? 1 : 3));
  }
  std::printf("%s: %llu pairs\n", GetParam().name, static_cast<unsigned long long>(pairs));
}

INSTANTIATE_TEST_SUITE_P(Cases, ObjectTableKill, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace brood::detail::object_table_test
