// SemaphoreWord, EventWord and RLockWord under a deterministic scheduler, with deaths at any step.
// Not for ThreadSanitizer: one thread plays all.
#include <brood/sync/event_word.hpp>
#include <brood/sync/rlock_word.hpp>
#include <brood/sync/semaphore_word.hpp>

#include <gtest/gtest.h>

#include <array>

#include "support/proof.hpp"
#include "sync/scheduled_environment.hpp"

namespace brood::detail::semaphore_schedule_test {
namespace {

using Semaphore = SemaphoreWord<ScheduledEnvironment>;
using testing::Choices;
using testing::Schedule;

struct Plan {
  int users = 3;
  std::uint32_t permits = 1;
  int timed = 0;
  int rounds = 2;
};

int share(const Plan& plan, Choices& choices) {
  alignas(64) std::array<std::byte, Semaphore::bytes_needed(4)> memory;
  ScheduledWorld world(choices);
  auto* semaphore =
      Semaphore::format(memory.data(), plan.permits, plan.permits, DeadPermits::kReturn);
  std::vector<bool> inside(static_cast<std::size_t>(plan.users));
  std::uint32_t crowd = 0;
  for (int i = 0; i != plan.users; ++i) {
    const auto me = static_cast<std::size_t>(i);
    world.start(
        [&, i, me] {
          for (int round = 0; round != plan.rounds; ++round) {
            if (!semaphore->try_acquire_until(i < plan.timed ? some_time() : Deadline::never())) {
              require(i < plan.timed, "gave up without a deadline");
              continue;
            }
            inside[me] = true;
            require(++crowd <= plan.permits, "more inside than there are permits");
            Schedule::point();
            --crowd;
            inside[me] = false;
            semaphore->release();
          }
        },
        true,
        [&, me] {
          if (inside[me]) --crowd;
          inside[me] = false;
        });
  }
  if (plan.timed != 0) world.let_time_pass();
  require(world.run(), "somebody waits for ever");
  require(semaphore->value() == plan.permits, "a permit is lost");
  return world.deaths();
}

// `producers` give signals, which consumers use up; nobody gives them back.
int signal(DeadPermits dead, int crashes_in, Choices& choices) {
  constexpr int kSignals = 4;
  alignas(64) std::array<std::byte, Semaphore::bytes_needed(8)> memory;
  ScheduledWorld world(choices);
  auto* semaphore = Semaphore::format(memory.data(), 0, 8, dead);
  int used = 0;
  int given = 0;
  for (int i = 0; i != 2; ++i) {
    world.start(
        [&] {
          for (int n = 0; n != kSignals / 2; ++n) {
            semaphore->release();
            ++given;
          }
        },
        crashes_in == 1);
    world.start(
        [&] {
          for (int n = 0; n != kSignals / 2; ++n) {
            if (crashes_in == 1) {
              // Some signals never come.
              if (!semaphore->try_acquire_until(some_time())) return;
            } else {
              semaphore->acquire();
            }
            ++used;
          }
        },
        crashes_in == 2);
  }
  world.let_time_pass();
  require(world.run(), "somebody waits for ever");
  const int left = static_cast<int>(semaphore->value());
  if (crashes_in == 0) require(used == kSignals && left == 0, "a signal is lost or doubled");
  // Who is killed in a release has given it or not.
  if (crashes_in == 1) {
    require(used + left >= given && used + left <= given + world.deaths(),
            "given " + std::to_string(given) + ", used " + std::to_string(used) + ", left " +
                std::to_string(left));
  }
  return world.deaths();
}

TEST(SemaphoreSchedules, RandomOrders) {
  with_random_orders("one permit", 2, [](Choices& c) { return share({.users = 3}, c); });
  with_random_orders("two permits", 4,
                     [](Choices& c) { return share({.users = 5, .permits = 2, .rounds = 3}, c); });
}
TEST(SemaphoreSchedules, RandomOrdersWithDeadlines) {
  with_random_orders("timed", 2, [](Choices& c) {
    return share({.users = 4, .permits = 1, .timed = 2, .rounds = 3}, c);
  });
  with_random_orders("immortal", 0, [](Choices& c) {
    return share({.users = 4, .permits = 2, .timed = 1, .rounds = 4}, c);
  });
}
TEST(SemaphoreSchedules, RandomOrdersOfSignals) {
  with_random_orders("signals", 0, [](Choices& c) { return signal(DeadPermits::kReturn, 0, c); });
  with_random_orders("counted", 0, [](Choices& c) { return signal(DeadPermits::kStay, 0, c); });
  with_random_orders("counted, producers die", 2,
                     [](Choices& c) { return signal(DeadPermits::kStay, 1, c); });
}
TEST(SemaphoreSchedules, AllOrders) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("two users", {.preemptions = 1 + more, .crashes = 1},
                  [](Choices& c) { return share({.users = 2, .rounds = 1}, c); });
  with_all_orders("three users", {.preemptions = 1 + more, .crashes = 0},
                  [](Choices& c) { return share({.users = 3, .rounds = 1}, c); });
}

// Without a watchdog's announcement: who waits hears of the holder's death by its life word, also
// when it was about to give the permit back, or had given it back and told nobody.
TEST(SemaphoreSchedules, AllOrdersWithoutAWatchdog) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("two users, no watchdog", {.preemptions = 2 + more, .crashes = 1},
                  [](Choices& choices) {
                    alignas(64) std::array<std::byte, Semaphore::bytes_needed(4)> memory;
                    std::array<bool, 2> holds{};
                    DeathsWhere deaths(choices, [&] {
                      const int me = Schedule::current();
                      return me >= 0 && me < 2 && holds[static_cast<std::size_t>(me)];
                    });
                    ScheduledWorld world(deaths);
                    world.without_watchdog();
                    auto* semaphore = Semaphore::format(memory.data(), 1, 1, DeadPermits::kReturn);
                    for (std::size_t i = 0; i != 2; ++i) {
                      world.start([&, i] {
                        semaphore->acquire();
                        holds[i] = true;
                        Schedule::point();
                        semaphore->release();
                        holds[i] = false;
                      });
                    }
                    require(world.run(), "somebody waits for ever");
                    require(semaphore->value() == 1, "the permit is lost");
                    return world.deaths();
                  });
}

// One sets and clears at once, others wait: all are let go, whoever dies but the one that sets.
int pulse(bool setter_dies, Choices& choices) {
  ScheduledWorld world(choices);
  EventWord<ScheduledEnvironment> event;
  int begun = 0;
  bool was_set = false;
  for (int i = 0; i != 3; ++i) {
    world.start(
        [&] {
          ++begun;
          const bool seen = event.wait_until(setter_dies ? some_time() : Deadline::never());
          require(!seen || was_set, "let go though nobody has set it");
        },
        !setter_dies, [&] { ++begun; });
  }
  world.start(
      [&] {
        was_set = true;
        event.set();
        if (setter_dies) return;
        event.clear();
        event.set();
      },
      setter_dies);
  if (setter_dies) world.let_time_pass();
  require(world.run(), "somebody waits for ever");
  if (!setter_dies) require(event.is_set(), "not set");
  return world.deaths();
}

TEST(EventSchedules, RandomOrders) {
  with_random_orders("waiters die", 2, [](Choices& c) { return pulse(false, c); });
  with_random_orders("setter dies", 1, [](Choices& c) { return pulse(true, c); });
}
// The setter dies when it has set the event and woken nobody: all hear of it by its death.
TEST(EventSchedules, KilledBeforeItWakes) {
  with_all_orders("set and die", {.preemptions = 1, .crashes = 1}, [](Choices& choices) {
    ScheduledWorld world(choices);
    EventWord<ScheduledEnvironment> event;
    bool waits = true;
    world.start(
        [&] {
          // Only a set event is waited for without end: one that was never set stays clear.
          waits = event.wait_until(some_time());
        },
        false);
    world.start([&] { event.set(); });
    world.let_time_pass();
    require(world.run(), "waits for ever");
    return world.deaths();
  });
}

TEST(RLockSchedules, RandomOrders) {
  with_random_orders("rlock", 2, [](Choices& choices) {
    ScheduledWorld world(choices);
    RLockWord<ScheduledEnvironment> lock;
    int inside = -1;
    for (int i = 0; i != 3; ++i) {
      world.start(
          [&, i] {
            for (int round = 0; round != 2; ++round) {
              lock.lock();
              require(inside == -1, "two inside");
              inside = i;
              require(lock.depth() == 1, "not locked once");
              lock.lock();
              Schedule::point();
              require(lock.depth() == 2, "not locked twice");
              lock.unlock();
              require(inside == i, "let somebody in too early");
              inside = -1;
              lock.unlock();
            }
          },
          true, [&, i] { inside = inside == i ? -1 : inside; });
    }
    require(world.run(), "somebody waits for ever");
    return world.deaths();
  });
}

}  // namespace
}  // namespace brood::detail::semaphore_schedule_test
