// LockWord under a deterministic scheduler: orders of steps, and deaths at any of them.
#include <brood/sync/lock_word.hpp>

#include <gtest/gtest.h>

#include "sync/scheduled_environment.hpp"

namespace brood::detail {
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

}  // namespace
}  // namespace brood::detail
