// LockWord under a deterministic scheduler: orders of steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <brood/sync/lock_word.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "support/proof.hpp"
#include "sync/scheduled_environment.hpp"

namespace brood::detail::lock_schedule_test {
namespace {

using Lock = LockWord<ScheduledEnvironment>;
using testing::Choices;
using testing::Schedule;

struct Plan {
  int lockers = 3;
  int timed = 0;  // of them, those that wait for some time only
  int rounds = 2;
};

int run(const Plan& plan, Choices& choices) {
  ScheduledWorld world(choices);
  Lock lock;
  int inside = -1;
  bool dirty = false;  // somebody died inside, and nobody has been told
  for (int i = 0; i != plan.lockers; ++i) {
    world.start(
        [&, i] {
          for (int round = 0; round != plan.rounds; ++round) {
            if (!lock.try_lock_until(i < plan.timed ? some_time() : Deadline::never())) {
              require(i < plan.timed, "gave up without a deadline");
              continue;
            }
            require(inside == -1, "two inside");
            inside = i;
            if (dirty) require(lock.owner_died(), "took over without being told");
            if (lock.owner_died()) dirty = false;
            Schedule::point();
            require(lock.holder() == ScheduledEnvironment::self(), "robbed");
            inside = -1;
            lock.unlock();
          }
        },
        true,
        [&, i] {
          if (inside != i) return;
          inside = -1;
          dirty = true;
        });
  }
  if (plan.timed != 0) world.let_time_pass();
  require(world.run(), "somebody waits for ever");
  return world.deaths();
}

TEST(LockSchedules, RandomOrders) {
  with_random_orders("three", 2, [](Choices& c) { return run({.lockers = 3}, c); });
}
TEST(LockSchedules, RandomOrdersOfMany) {
  with_random_orders("five", 4, [](Choices& c) { return run({.lockers = 5, .rounds = 3}, c); });
}
TEST(LockSchedules, RandomOrdersWithDeadlines) {
  with_random_orders("timed", 2,
                     [](Choices& c) { return run({.lockers = 4, .timed = 2, .rounds = 3}, c); });
}
TEST(LockSchedules, RandomOrdersWithoutDeaths) {
  with_random_orders("immortal", 0,
                     [](Choices& c) { return run({.lockers = 4, .timed = 1, .rounds = 4}, c); });
}
TEST(LockSchedules, AllOrdersOfTwo) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("two, one death", {.preemptions = 2 + more, .crashes = 1},
                  [](Choices& c) { return run({.lockers = 2, .rounds = 1}, c); });
}
TEST(LockSchedules, AllOrdersOfThree) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("three, one death", {.preemptions = 1 + more, .crashes = 1},
                  [](Choices& c) { return run({.lockers = 3, .rounds = 1}, c); });
}

// --- One order each, which the model found -------------------------------------------------------

/// Counts the wake-ups, so that a script can stop somebody behind one.
struct CountingEnvironment : ScheduledEnvironment {
  static int wake(const Word& word, int count) {
    const int woken = ScheduledEnvironment::wake(word, count);
    ++wakes;
    return woken;
  }
  static inline int wakes = 0;
};

class LockScripts : public ::testing::Test {
 protected:
  using Word = LockWord<CountingEnvironment>;
  static constexpr int kStale = 0;  // whose wake-up found nobody, and who knows it for long
  static constexpr int kMarker = 1;
  static constexpr int kWoken = 2;
  static constexpr int kSleeper = 3;
  static constexpr int kTime = 4;

  void SetUp() override { CountingEnvironment::wakes = 0; }
  /// Without a step.
  static std::uint32_t bits(const Word& lock) {
    static_assert(sizeof lock == sizeof(std::uint32_t));
    std::uint32_t bits = 0;
    std::memcpy(&bits, static_cast<const void*>(&lock), sizeof bits);
    return bits;
  }
  std::function<bool()> held_by(int fiber) {
    return [this, fiber] { return Tag::from_bits(bits(lock)) == ScheduledWorld::tag_of(fiber); };
  }
  std::function<bool()> marked() {
    return [this] { return bits(lock) >> 31U != 0; };
  }
  static std::function<bool()> wakes(int count) {
    return [count] { return CountingEnvironment::wakes == count; };
  }
  void lock_and_unlock() {
    lock.lock();
    Schedule::point();
    lock.unlock();
  }
  /// Two sleep behind the marker's hold, with the mark; the stale one is about to take it away.
  std::vector<testing::ScriptedChoices::Turn> two_asleep() {
    return {{kStale, held_by(kStale)},
            {kMarker, marked()},
            {kStale, wakes(1)},
            {kMarker, held_by(kMarker)},
            {kWoken},
            {kSleeper}};
  }
  void expect_all_go(testing::ScriptedChoices& script, ScheduledWorld& world) {
    EXPECT_TRUE(world.run()) << "somebody waits for ever";
    EXPECT_TRUE(script.followed()) << "these orders are not the ones that were meant";
    EXPECT_EQ(bits(lock), 0U);
  }

  Word lock;
};

// One is woken, and the mark is taken away before it runs: it has to say again that another sleeps.
TEST_F(LockScripts, AMarkThatWasTakenAwayLate) {
  auto turns = two_asleep();
  turns.insert(turns.end(), {{kMarker}, {kStale}, {kWoken}, {kSleeper}});
  testing::ScriptedChoices script(turns);
  ScheduledWorld world(script);
  bool unmarked = false;
  world.start([&] {
    lock_and_unlock();
    unmarked = bits(lock) == 0;
  });
  for (int i = 1; i != 4; ++i) world.start([&] { lock_and_unlock(); });
  expect_all_go(script, world);
  EXPECT_TRUE(unmarked) << "the mark was to be taken away";
}

// The same, and the one that was woken finds the lock taken by somebody who knows of no sleeper,
// and its deadline passed.
TEST_F(LockScripts, WhoWasWokenGivesUp) {
  auto turns = two_asleep();
  turns.insert(turns.end(),
               {{kMarker}, {kStale, held_by(kStale)}, {kTime}, {kWoken}, {kStale}, {kSleeper}});
  testing::ScriptedChoices script(turns);
  ScheduledWorld world(script);
  bool unmarked = false;
  bool gave_up = false;
  world.start([&] {
    lock_and_unlock();
    lock.lock();
    unmarked = bits(lock) >> 31U == 0;
    Schedule::point();
    lock.unlock();
  });
  world.start([&] { lock_and_unlock(); });
  world.start([&] { gave_up = !lock.try_lock_until(some_time()); });
  world.start([&] { lock_and_unlock(); });
  world.let_time_pass();
  expect_all_go(script, world);
  EXPECT_TRUE(unmarked) << "the mark was to be taken away";
  EXPECT_TRUE(gave_up);
}

// Without a watchdog's announcement: who waits hears of the holder's death by its life word.
TEST(LockSchedules, AllOrdersWithoutAWatchdog) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("two, no watchdog", {.preemptions = 2 + more, .crashes = 1},
                  [](Choices& choices) {
                    Lock lock;
                    int holder = -1;
                    DeathsWhere deaths(choices, [&] { return holder == Schedule::current(); });
                    ScheduledWorld world(deaths);
                    world.without_watchdog();
                    for (int i = 0; i != 2; ++i) {
                      world.start([&, i] {
                        lock.lock();
                        holder = i;
                        Schedule::point();
                        lock.unlock();
                        holder = -1;
                      });
                    }
                    require(world.run(), "somebody waits for ever");
                    return world.deaths();
                  });
}

}  // namespace
}  // namespace brood::detail::lock_schedule_test
