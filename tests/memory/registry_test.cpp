#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/registry.hpp>
#include <brood/platform/process_handle.hpp>

#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::registry_test {
namespace {

using namespace brood::testing;
using testing::prove_everything;
using testing::SingleStep;
using State = RecordState;

constexpr Tag kHolder(1000, 5);
constexpr Tag kDeadHolder(1001, 6);

/// An empty registry, shared with children.
class World {
 public:
  World() : registry(tables_->lives.data(), tables_->records.data()) {}

  /// The tables as they are in another world. Lives are copied as bytes: nobody may hold one.
  void copy_from(const World& other) {
    std::memcpy(static_cast<void*>(&*tables_), &*other.tables_, sizeof(Tables));
  }
  [[nodiscard]] std::size_t in_use() const {
    std::size_t count = 0;
    registry.for_each([&](Tag, const RecordWord&) { ++count; });
    return count;
  }

 private:
  struct Tables {
    std::array<Life, Registry::kSlots> lives;
    std::array<Record, Registry::kSlots> records;
  };
  Shared<Tables> tables_;

 public:
  Registry registry;
};

/// A record of this thread that is live; it lets go of its life at the end.
class Member {
 public:
  explicit Member(Registry& registry)
      : registry_(registry), tag(registry.reserve(kHolder, Role::process, "member")) {
    EXPECT_TRUE(registry.join(tag, current_pid()));
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  ~Member() { registry_.leave(tag); }

 private:
  Registry& registry_;

 public:
  const Tag tag;
};

TEST(Registry, ReservingResetsTheRecord) {
  World world;
  Registry& registry = world.registry;
  const Tag first = registry.reserve(kHolder, Role::worker, "first");
  Record& record = registry.record(first);
  record.pid.store(7);
  record.exit_code.store(7);
  record.own_code.store(7);
  record.started.store(7);
  record.dies_with_parent = 7;
  record.start_at = 7;
  record.start_bytes = 7;
  registry.free(first);

  const Tag again = registry.reserve(kDeadHolder, Role::process, "2");
  ASSERT_EQ(again.slot(), first.slot());
  EXPECT_EQ(again.generation(), first.generation() + 1);
  EXPECT_EQ(record.pid.load(), 0);
  EXPECT_EQ(record.exit_code.load(), 0);
  EXPECT_EQ(record.own_code.load(), Record::kNoCode);
  EXPECT_EQ(record.started.load(), 0U);
  EXPECT_EQ(record.role, static_cast<std::uint32_t>(Role::process));
  EXPECT_EQ(Tag::from_bits(record.parent), kDeadHolder);
  EXPECT_EQ(record.dies_with_parent, 0U);
  EXPECT_EQ(record.start_at, 0U);
  EXPECT_EQ(record.start_bytes, 0U);
  EXPECT_EQ(registry.name(again), "2");
  EXPECT_EQ(registry.word(again)->holder, kDeadHolder);
}

TEST(Registry, NamesAreCutWhereTheyDoNotFit) {
  World world;
  Registry& registry = world.registry;
  EXPECT_EQ(registry.name(registry.reserve(kHolder, Role::process, {})), "");
  const std::string most(Record::kNameBytes - 1, 'n');
  EXPECT_EQ(registry.name(registry.reserve(kHolder, Role::process, most)), most);
  EXPECT_EQ(registry.name(registry.reserve(kHolder, Role::process, most + "more")), most);
}

// --- The table of states, row by row -------------------------------------------------------------

TEST(RegistryStates, FreeMayOnlyBeReserved) {
  World world;
  Registry& registry = world.registry;
  const Tag tag(0, 1);
  EXPECT_EQ(registry.state(tag), State::free);
  EXPECT_EQ(registry.word(tag), std::nullopt);
  EXPECT_FALSE(registry.join(tag, current_pid()));
  EXPECT_FALSE(registry.note_ended(tag, 3));
  registry.free(tag);
  EXPECT_EQ(registry.state(tag), State::free);
  EXPECT_FALSE(registry.alive(tag));
  EXPECT_FALSE(registry.expected(tag));
  EXPECT_EQ(world.in_use(), 0U);
  EXPECT_EQ(registry.reserve(kHolder, Role::process, "x"), tag);
}

TEST(RegistryStates, ReservedMayBecomeLive) {
  World world;
  Registry& registry = world.registry;
  const Tag tag = registry.reserve(kHolder, Role::process, "x");
  EXPECT_EQ(registry.state(tag), State::reserved);
  EXPECT_TRUE(registry.expected(tag));
  EXPECT_FALSE(registry.alive(tag)) << "nobody joined";
  EXPECT_EQ(registry.word(tag)->holder, kHolder);
  const std::uint32_t event = registry.record(tag).event.load();
  EXPECT_TRUE(registry.join(tag, 4321));
  EXPECT_EQ(registry.state(tag), State::live);
  EXPECT_NE(registry.record(tag).event.load(), event);
  EXPECT_EQ(registry.record(tag).pid.load(), 4321);
  EXPECT_TRUE(registry.alive(tag));
  EXPECT_TRUE(registry.expected(tag));
  EXPECT_EQ(registry.word(tag)->holder, kHolder);
  registry.leave(tag);
}

TEST(RegistryStates, ReservedMayEndOrBeFreed) {
  World world;
  Registry& registry = world.registry;
  const Tag ended = registry.reserve(kHolder, Role::process, "never joined");
  EXPECT_TRUE(registry.note_ended(ended, -9));
  EXPECT_EQ(registry.state(ended), State::ended);
  EXPECT_EQ(registry.record(ended).exit_code.load(), -9);
  EXPECT_FALSE(registry.join(ended, current_pid())) << "it is not expected any more";
  EXPECT_EQ(registry.state(ended), State::ended);

  const Tag freed = registry.reserve(kHolder, Role::process, "never started");
  registry.free(freed);
  EXPECT_EQ(registry.state(freed), State::free);
  EXPECT_FALSE(registry.join(freed, current_pid()));
  EXPECT_EQ(registry.state(freed), State::free);
  EXPECT_FALSE(registry.life(freed).alive()) << "whoever may not join lets go";
}

TEST(RegistryStates, LiveMayOnlyEnd) {
  World world;
  Registry& registry = world.registry;
  Member member(registry);
  registry.free(member.tag);
  EXPECT_EQ(registry.state(member.tag), State::live);
  EXPECT_FALSE(registry.join(member.tag, 1)) << "twice";
  EXPECT_TRUE(registry.alive(member.tag));
  EXPECT_EQ(registry.record(member.tag).pid.load(), current_pid());
  const std::uint32_t event = registry.record(member.tag).event.load();
  EXPECT_TRUE(registry.note_ended(member.tag, 12));
  EXPECT_NE(registry.record(member.tag).event.load(), event);
  EXPECT_EQ(registry.state(member.tag), State::ended);
  EXPECT_FALSE(registry.alive(member.tag));
  EXPECT_FALSE(registry.expected(member.tag));
  EXPECT_EQ(registry.word(member.tag)->holder, kHolder);
}

TEST(RegistryStates, EndedMayOnlyBeFreed) {
  World world;
  Registry& registry = world.registry;
  const Tag tag = registry.reserve(kHolder, Role::process, "x");
  ASSERT_TRUE(registry.note_ended(tag, 12));
  EXPECT_FALSE(registry.note_ended(tag, 13)) << "the first to note it wins";
  EXPECT_EQ(registry.record(tag).exit_code.load(), 12);
  EXPECT_FALSE(registry.join(tag, 1));
  EXPECT_EQ(world.in_use(), 1U);
  registry.free(tag);
  EXPECT_EQ(registry.state(tag), State::free);
  EXPECT_EQ(world.in_use(), 0U);
}

TEST(RegistryStates, OldTagsMeanNothing) {
  World world;
  Registry& registry = world.registry;
  const Tag old = registry.reserve(kHolder, Role::process, "old");
  registry.free(old);
  const Tag now = registry.reserve(kHolder, Role::process, "new");
  ASSERT_EQ(old.slot(), now.slot());
  EXPECT_FALSE(registry.join(old, 1));
  EXPECT_FALSE(registry.note_ended(old, 3));
  registry.free(old);
  EXPECT_FALSE(registry.expected(old));
  EXPECT_EQ(registry.state(old), State::free);
  EXPECT_EQ(registry.state(now), State::reserved);
  EXPECT_EQ(registry.record(now).pid.load(), 0);
  EXPECT_TRUE(registry.join(now, current_pid()));
  EXPECT_FALSE(registry.alive(old));
  EXPECT_TRUE(registry.alive(now));
  registry.leave(now);
  EXPECT_FALSE(registry.alive(now));
}

TEST(Registry, GenerationsStartAgainAtOne) {
  World world;
  Registry& registry = world.registry;
  const Tag tag = registry.reserve(kHolder, Role::process, "x");
  registry.free(tag);
  registry.record(tag).word.store(
      RecordWord{.state = State::free, .generation = Tag::kMaxGeneration, .holder = {}}.pack());
  EXPECT_EQ(registry.reserve(kHolder, Role::process, "x"), Tag(tag.slot(), 1));
  registry.free(Tag(tag.slot(), 1));
  EXPECT_EQ(world.in_use(), 0U);
}

TEST(RecordWord, SaysAllThreeThings) {
  for (const State state : {State::free, State::reserved, State::live, State::ended}) {
    const RecordWord word{
        .state = state, .generation = Tag::kMaxGeneration, .holder = Tag(1023, 0x5555)};
    const RecordWord same = RecordWord::unpack(word.pack());
    EXPECT_EQ(same.state, word.state);
    EXPECT_EQ(same.generation, word.generation);
    EXPECT_EQ(same.holder, word.holder);
  }
}

TEST(Registry, HoldsAsManyAsItSaysAndThenIsFull) {
  World world;
  Registry& registry = world.registry;
  std::set<std::uint32_t> slots;
  std::vector<Tag> tags;
  for (std::size_t i = 0; i < Registry::kSlots; ++i) {
    tags.push_back(registry.reserve(kHolder, Role::process, "x"));
    slots.insert(tags.back().slot());
  }
  EXPECT_EQ(slots.size(), Registry::kSlots);
  EXPECT_EQ(world.in_use(), Registry::kSlots);
  try {
    registry.reserve(kHolder, Role::process, "one more");
    ADD_FAILURE() << "got one more";
  } catch (const SharedMemoryFull& e) {
    EXPECT_NE(std::string(e.what()).find("1024 processes"), std::string::npos) << e.what();
  }
  registry.free(tags[500]);
  EXPECT_EQ(registry.reserve(kHolder, Role::process, "x"), Tag(500, 2));
}

TEST(Registry, VisitsAllThatAreNotFree) {
  World world;
  Registry& registry = world.registry;
  std::vector<Tag> tags;
  for (int i = 0; i < 5; ++i) tags.push_back(registry.reserve(kHolder, Role::process, "x"));
  registry.free(tags[0]);
  registry.free(tags[3]);
  ASSERT_TRUE(registry.note_ended(tags[1], 0));
  std::vector<std::pair<Tag, State>> seen;
  registry.for_each([&](Tag tag, const RecordWord& word) { seen.emplace_back(tag, word.state); });
  EXPECT_EQ(seen,
            (std::vector<std::pair<Tag, State>>{
                {tags[1], State::ended}, {tags[2], State::reserved}, {tags[4], State::reserved}}));
}

// --- Several at once -----------------------------------------------------------------------------

constexpr int kReservers = 4;
constexpr std::size_t kEach = 100;

/// Every tag that was given out, by whoever reserved it.
void expect_all_distinct(const std::array<std::array<std::uint32_t, kEach>, kReservers>& given) {
  std::set<std::uint32_t> all;
  for (const auto& tags : given) {
    for (const std::uint32_t bits : tags) {
      EXPECT_NE(bits, 0U);
      EXPECT_TRUE(all.insert(bits).second) << "given twice: slot " << Tag::from_bits(bits).slot();
    }
  }
  EXPECT_EQ(all.size(), kReservers * kEach);
}

/// Reserves; gives every third back at once, and takes another.
void reserve_many(Registry& registry, std::array<std::uint32_t, kEach>& tags) {
  for (std::size_t i = 0; i < kEach; ++i) {
    if (i % 3 == 0) registry.free(registry.reserve(kHolder, Role::process, "short"));
    tags[i] = registry.reserve(kHolder, Role::process, "long").bits();
  }
}

TEST(Registry, ThreadsReserveDistinctRecords) {
  World world;
  std::array<std::array<std::uint32_t, kEach>, kReservers> given{};
  std::vector<std::thread> threads;
  for (auto& tags : given) {
    threads.emplace_back([&] { reserve_many(world.registry, tags); });
  }
  for (std::thread& thread : threads) thread.join();
  expect_all_distinct(given);
  EXPECT_EQ(world.in_use(), kReservers * kEach);
}

class RegistryProcesses : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  }
  /// A child that has joined and waits to be killed.
  Forked member(Tag tag) {
    Forked child([this, tag] {
      ASSERT_TRUE(registry().join(tag, current_pid()));
      joined_.open();
      for (;;) ::pause();
    });
    EXPECT_TRUE(joined_.pass());
    return child;
  }
  Registry& registry() { return world_.registry; }

  World world_;
  Gate joined_;
};

TEST_F(RegistryProcesses, ReserveDistinctRecords) {
  const Shared<std::array<std::array<std::uint32_t, kEach>, kReservers>> given;
  std::vector<Forked> children;
  for (auto& tags : *given) children.emplace_back([&] { reserve_many(registry(), tags); });
  for (Forked& child : children) EXPECT_EQ(child.wait(), 0);
  expect_all_distinct(*given);
  EXPECT_EQ(world_.in_use(), kReservers * kEach);
}

TEST_F(RegistryProcesses, LiveUntilTheyAreKilled) {
  const Tag tag = registry().reserve(kHolder, Role::worker, "w");
  Forked child = member(tag);
  EXPECT_TRUE(registry().alive(tag));
  EXPECT_EQ(registry().record(tag).pid.load(), child.pid());
  child.kill();
  EXPECT_FALSE(registry().alive(tag));
  EXPECT_FALSE(registry().expected(tag));
  EXPECT_EQ(registry().state(tag), State::live) << "its end has not been noted";
  EXPECT_TRUE(registry().note_ended(tag, -SIGKILL));
  registry().free(tag);

  const Tag next = registry().reserve(kHolder, Role::worker, "w2");
  ASSERT_EQ(next.slot(), tag.slot());
  EXPECT_FALSE(registry().alive(next));
  Forked another = member(next);
  EXPECT_TRUE(registry().alive(next));
  EXPECT_FALSE(registry().alive(tag));
}

TEST_F(RegistryProcesses, AreOpenedByTheKernelsWordWhateverStandsInTheRecord) {
  const Tag tag = registry().reserve(kHolder, Role::worker, "w");
  EXPECT_FALSE(registry().open(tag).valid()) << "nobody has joined";
  Forked child = member(tag);
  Forked stranger([] {
    for (;;) ::pause();
  });
  for (const int scribble : {stranger.pid(), 0, -1, 1}) {
    registry().record(tag).pid.store(scribble);
    EXPECT_TRUE(registry().open(tag).valid());
  }
  registry().record(tag).pid.store(stranger.pid());
  registry().open(tag).signal(SIGKILL);
  EXPECT_EQ(child.wait(), -SIGKILL);
  EXPECT_FALSE(registry().open(tag).valid());
  stranger.kill();
}

TEST_F(RegistryProcesses, TheEventWakesWhoWaitsForAnEnd) {
  const Tag tag = registry().reserve(kHolder, Role::process, "x");
  Forked waiter([&] {
    const Record& record = registry().record(tag);
    for (;;) {
      const std::uint32_t event = record.event.load();
      if (registry().state(tag) == State::ended) break;
      ASSERT_NE(futex_wait({&record.event, event}, patience()), FutexWake::timed_out);
    }
    EXPECT_EQ(record.exit_code.load(), 31);
  });
  ASSERT_TRUE(await_state(waiter.pid(), 'S'));
  EXPECT_TRUE(registry().note_ended(tag, 31));
  EXPECT_EQ(waiter.wait(), 0);
}

// A starter that does not know whether its first attempt succeeded makes a second one.
TEST_F(RegistryProcesses, ASecondChildOfTheSameRecordDoesNotHarmTheFirst) {
  const Tag tag = registry().reserve(kHolder, Role::process, "x");
  Forked first = member(tag);
  in_child([&] { EXPECT_FALSE(registry().join(tag, current_pid())); });
  EXPECT_TRUE(registry().alive(tag)) << "the first one lives";
  EXPECT_EQ(registry().record(tag).pid.load(), first.pid());
  first.kill();
  EXPECT_FALSE(registry().alive(tag));
}

// A child that comes so late that its record is another's already.
TEST_F(RegistryProcesses, ALateChildDoesNotHarmTheNextGeneration) {
  const Tag old = registry().reserve(kHolder, Role::process, "old");
  registry().free(old);
  const Tag now = registry().reserve(kHolder, Role::process, "new");
  ASSERT_EQ(old.slot(), now.slot());
  Forked child = member(now);
  in_child([&] { EXPECT_FALSE(registry().join(old, current_pid())); });
  EXPECT_TRUE(registry().alive(now)) << "the new one lives";
  EXPECT_EQ(registry().record(now).pid.load(), child.pid());
  child.kill();
  EXPECT_FALSE(registry().alive(now));
}

TEST_F(RegistryProcesses, OneOfManyChildrenOfOneRecordJoins) {
  for (int round = 0; round < 20; ++round) {
    const Tag tag = registry().reserve(kHolder, Role::process, "x");
    const Gate start;
    const Shared<std::atomic<int>> winner;
    const Shared<std::atomic<int>> losers;
    std::vector<Forked> children;
    for (int i = 0; i < 4; ++i) {
      children.emplace_back([&] {
        ASSERT_TRUE(start.pass());
        if (registry().join(tag, current_pid())) {
          winner->store(current_pid());
          joined_.open();
          for (;;) ::pause();
        }
        losers->fetch_add(1);
        joined_.open();
      });
    }
    start.open(4);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(joined_.pass());
    EXPECT_EQ(losers->load(), 3);
    EXPECT_TRUE(registry().alive(tag));
    EXPECT_EQ(registry().record(tag).pid.load(), winner->load());
    for (Forked& child : children) child.kill();
    EXPECT_FALSE(registry().alive(tag));
    ASSERT_TRUE(registry().note_ended(tag, -SIGKILL));
    registry().free(tag);
  }
}

// --- Stopped and killed at every instruction -----------------------------------------------------

class RegistryKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
  }
  /// Every record can be given out once more, after those of the dead were freed.
  static void expect_all_can_be_reserved(Registry& registry, std::size_t others) {
    std::set<std::uint32_t> slots;
    for (std::size_t i = others; i < Registry::kSlots; ++i) {
      slots.insert(registry.reserve(kHolder, Role::process, "x").slot());
    }
    ASSERT_EQ(slots.size(), Registry::kSlots - others);
    ASSERT_THROW(registry.reserve(kHolder, Role::process, "x"), SharedMemoryFull);
  }
  /// What a watchdog does when a starter died.
  static std::size_t free_those_of(Registry& registry, Tag dead) {
    std::size_t freed = 0;
    registry.for_each([&](Tag tag, const RecordWord& word) {
      if (word.holder != dead) return;
      registry.free(tag);
      EXPECT_EQ(registry.state(tag), State::free);
      ++freed;
    });
    return freed;
  }
};

TEST_F(RegistryKill, NoRecordIsLostWhenAReserverDies) {
  World world;
  World copy;
  const Tag before = world.registry.reserve(kHolder, Role::process, "before");
  world.registry.free(world.registry.reserve(kHolder, Role::process, "used once"));
  const Tag expected(before.slot() + 1, 2);
  SingleStep child([&] { world.registry.reserve(kDeadHolder, Role::worker, "dead"); });
  std::array<std::uint64_t, 2> points{};
  do {
    copy.copy_from(world);
    // The name and the rest may be incomplete: the record is reserved, or it is not.
    const std::optional<RecordWord> word = copy.registry.word(expected);
    if (word) {
      ASSERT_EQ(word->state, State::reserved);
      ASSERT_EQ(word->holder, kDeadHolder);
    }
    ++points[word ? 1 : 0];
    ASSERT_EQ(free_those_of(copy.registry, kDeadHolder), word ? 1U : 0U) << child.steps();
    ASSERT_EQ(copy.registry.state(before), State::reserved);
    ASSERT_NO_FATAL_FAILURE(expect_all_can_be_reserved(copy.registry, 1)) << child.steps();
  } while (child.step());
  EXPECT_GT(points[0], 10U) << "points before it was reserved";
  EXPECT_GT(points[1], 10U) << "points after";
}

// The kernel writes the life word at a death, so that each of these is a real one.
TEST_F(RegistryKill, WhoDiesWhileJoiningIsDead) {
  World world;
  Registry& registry = world.registry;
  const std::uint64_t stride = prove_everything() ? 1 : 29;
  std::array<std::uint64_t, 2> kills{};
  for (std::uint64_t steps = 0;; steps += stride) {
    const Tag tag = registry.reserve(kHolder, Role::worker, "x");
    SingleStep child([&] { registry.join(tag, current_pid()); });
    child.step(steps);
    const bool ended = child.ended();
    child.kill();
    const State state = registry.state(tag);
    ASSERT_TRUE(state == State::reserved || state == State::live) << steps;
    ++kills[state == State::live ? 1 : 0];
    ASSERT_FALSE(registry.alive(tag)) << steps;
    ASSERT_FALSE(registry.life(tag).alive()) << steps;
    if (state == State::reserved) {
      // Another child may be started for the same record.
      ASSERT_TRUE(registry.join(tag, current_pid())) << steps;
      ASSERT_TRUE(registry.alive(tag)) << steps;
      registry.leave(tag);
    }
    ASSERT_TRUE(registry.note_ended(tag, -SIGKILL)) << steps;
    registry.free(tag);
    ASSERT_EQ(registry.state(tag), State::free);
    const Tag next = registry.reserve(kHolder, Role::worker, "next");
    ASSERT_EQ(next.slot(), tag.slot()) << steps;
    ASSERT_TRUE(registry.join(next, current_pid())) << steps;
    ASSERT_TRUE(registry.alive(next)) << steps;
    registry.leave(next);
    ASSERT_FALSE(registry.alive(next)) << steps;
    ASSERT_TRUE(registry.note_ended(next, 0));
    registry.free(next);
    if (ended) break;
  }
  EXPECT_GT(kills[0], 5U) << "kills before it was live";
  EXPECT_GT(kills[1], 0U) << "kills after";
}

// One child is stopped while it joins, and lives: a second one of the same record waits for what
// it does, and exactly one of them is live in the end.
TEST_F(RegistryKill, AStoppedJoinerIsNotOvertakenInTheMiddle) {
  World world;
  Registry& registry = world.registry;
  const std::uint64_t stride = prove_everything() ? 1 : 37;
  for (std::uint64_t steps = 0;; steps += stride) {
    const Tag tag = registry.reserve(kHolder, Role::worker, "x");
    SingleStep first([&] { registry.join(tag, current_pid()); });
    first.step(steps);
    const bool ended = first.ended();
    const Shared<std::atomic<int>> joined;
    const Gate done;
    Forked second([&] {
      joined->store(registry.join(tag, current_pid()) ? 1 : 2);
      done.open();
      for (;;) ::pause();
    });
    // It has either come to an answer, or sleeps until the first one goes on.
    const Deadline deadline = patience();
    while (joined->load() == 0 && state_of(second.pid()) != 'S' && !deadline.passed()) {
      std::this_thread::yield();
    }
    first.finish();
    ASSERT_TRUE(done.pass()) << steps;
    ASSERT_TRUE(registry.alive(tag)) << steps;
    const bool second_won = registry.record(tag).pid.load() == second.pid();
    ASSERT_EQ(joined->load() == 1, second_won) << steps;
    if (second_won) {
      first.kill();
      ASSERT_TRUE(registry.alive(tag)) << steps;
      second.kill();
    } else {
      second.kill();
      ASSERT_TRUE(registry.alive(tag)) << steps;
      first.kill();
    }
    ASSERT_FALSE(registry.alive(tag)) << steps;
    ASSERT_TRUE(registry.note_ended(tag, -SIGKILL));
    registry.free(tag);
    if (ended) break;
  }
}

TEST_F(RegistryKill, AnEndIsNotedByTheDeadOrByTheNext) {
  World world;
  World copy;
  const Tag tag = world.registry.reserve(kHolder, Role::worker, "x");
  in_child([&] { ASSERT_TRUE(world.registry.join(tag, current_pid())); });
  SingleStep child([&] { world.registry.note_ended(tag, 5); });
  std::array<std::uint64_t, 2> points{};
  do {
    copy.copy_from(world);
    Registry& registry = copy.registry;
    const bool noted = registry.state(tag) == State::ended;
    ++points[noted ? 1 : 0];
    ASSERT_EQ(registry.note_ended(tag, 6), !noted) << child.steps();
    ASSERT_EQ(registry.state(tag), State::ended) << child.steps();
    ASSERT_EQ(registry.record(tag).exit_code.load(), noted ? 5 : 6) << child.steps();
    registry.free(tag);
    ASSERT_EQ(registry.state(tag), State::free) << child.steps();
    ASSERT_EQ(registry.reserve(kHolder, Role::worker, "y"), Tag(tag.slot(), tag.generation() + 1));
  } while (child.step());
  EXPECT_GT(points[0], 10U);
  EXPECT_GT(points[1], 1U);
}

// --- Threads -------------------------------------------------------------------------------------

/// A registry with slots for threads, and a process of which it is not known whether it lives.
class ThreadKill : public RegistryKill {
 protected:
  struct Tables {
    std::array<Life, Tag::kSlots> lives;
    std::array<Record, Registry::kSlots> records;
    ThreadTable threads;
  };

  ThreadWord word(std::uint32_t index) const {
    return ThreadWord::unpack(tables->threads.words[index].load());
  }
  Tag tag_of(std::uint32_t index) const {
    return {Tag::kProcessSlots + index, word(index).generation};
  }
  /// A child that is the process `process` before its first step.
  template <class Operation>
  std::unique_ptr<SingleStep> member(Tag process, Operation operation) {
    return std::make_unique<SingleStep>(
        [this, process] {
          if (!registry.join(process, current_pid())) throw StateError("not expected");
        },
        operation);
  }
  void bury(Tag process) {
    ASSERT_FALSE(registry.alive(process));
    registry.note_ended(process, -SIGKILL);
    registry.free(process);
  }
  /// Whatever the dead left in the slot: the next has it, with another tag, and gives it back.
  void expect_slot_can_be_had(std::uint32_t index, Tag before, Tag process) {
    tables->threads.next.store(index);
    const Tag next = registry.take_thread(process);
    ASSERT_EQ(next.slot(), Tag::kProcessSlots + index);
    ASSERT_NE(next, before);
    ASSERT_TRUE(registry.alive(next));
    ASSERT_EQ(registry.process_of(next), process);
    if (!before.none()) {
      ASSERT_FALSE(registry.alive(before));
      ASSERT_TRUE(registry.process_of(before).none());
    }
    registry.give_back_thread(next);
    ASSERT_FALSE(registry.alive(next));
  }

  Shared<Tables> tables;
  Registry registry{tables->lives.data(), tables->records.data(), &tables->threads};
  static constexpr std::uint32_t kIndex = 7;
};

// The kernel writes life words at a death, so that each of these is a real one: of the thread that
// takes a slot and gives it back, and of the one that takes the same slot over from it.
TEST_F(ThreadKill, WhoDiesWithASlotLeavesItToTheNext) {
  const Member self(registry);
  const std::uint64_t stride = prove_everything() ? 1 : 31;
  const std::uint64_t second_stride = prove_everything() ? 17 : 157;
  std::array<std::uint64_t, 3> found{};
  std::uint64_t pairs = 0;
  bool over = false;
  for (std::uint64_t first = 0; !over; first += stride) {
    bool second_over = false;
    for (std::uint64_t second = 0; !second_over; second += second_stride) {
      const auto use = [&](Tag process) {
        return [&, process] {
          tables->threads.next.store(kIndex, std::memory_order_relaxed);
          registry.give_back_thread(registry.take_thread(process));
        };
      };
      const auto where = [&] {
        return "killed after instruction " + std::to_string(first) + ", then after " +
               std::to_string(second);
      };
      const Tag one = registry.reserve(kHolder, Role::process, "one");
      const Tag two = registry.reserve(kHolder, Role::process, "two");
      {
        const auto child = member(one, use(one));
        over = !child->step(first);
        if (word(kIndex).state == ThreadState::claimed) {
          ASSERT_FALSE(registry.alive(tag_of(kIndex))) << where();
        }
        ++found[static_cast<std::size_t>(word(kIndex).state)];
        // While it lives nobody robs it: another one takes the next slot.
        if (word(kIndex).state != ThreadState::free) {
          tables->threads.next.store(kIndex);
          const Tag other = registry.take_thread(self.tag);
          ASSERT_NE(other.slot(), Tag::kProcessSlots + kIndex) << where();
          registry.give_back_thread(other);
        }
        child->kill();
      }
      ASSERT_FALSE(registry.alive(tag_of(kIndex))) << where();
      bury(one);
      {
        const auto child = member(two, use(two));
        second_over = !child->step(second);
        child->kill();
      }
      const Tag last = tag_of(kIndex);
      ASSERT_FALSE(registry.alive(last)) << where();
      bury(two);
      ASSERT_NO_FATAL_FAILURE(
          expect_slot_can_be_had(kIndex, last.generation() == 0 ? Tag() : last, self.tag))
          << where();
      ++pairs;
    }
  }
  std::printf("%llu pairs\n", static_cast<unsigned long long>(pairs));
  for (const std::uint64_t count : found) EXPECT_GT(count, 0U);
}

}  // namespace
}  // namespace brood::detail::registry_test
