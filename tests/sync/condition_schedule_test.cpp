// ConditionWord under a deterministic scheduler: orders of steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <brood/sync/condition_word.hpp>

#include <gtest/gtest.h>

#include "support/proof.hpp"
#include "sync/scheduled_environment.hpp"

namespace brood::detail::condition_schedule_test {
namespace {

using Condition = ConditionWord<ScheduledEnvironment>;
using testing::Choices;
using testing::Schedule;

struct Plan {
  int consumers = 3;
  int producers = 2;
  int wanted = 1;   // by each consumer
  int items = 2;    // of each producer
  int at_once = 1;  // which it adds, and notifies of, together
  int timed = 0;    // consumers that wait for some time only
  bool notify_all = false;
};

/// Nobody waits for ever while there is an item. When there is none, to wait is all right: no
/// last notification to all hides one that was lost.
template <class Lock>
int run(const Plan& plan, Choices& choices) {
  ScheduledWorld world(choices);
  Lock lock;
  Condition condition;
  int items = 0;
  int waiting = 0;  // alive, and not at the end
  int inside = -1;
  const auto enter = [&](int id) {
    require(inside == -1, "two inside");
    inside = id;
  };
  for (int i = 0; i != plan.consumers; ++i) {
    ++waiting;
    world.start(
        [&, i] {
          const bool timed = i < plan.timed;
          for (int n = 0; n != plan.wanted; ++n) {
            lock.lock();
            enter(i);
            bool in_time = true;
            while (items == 0 && in_time) {
              inside = -1;
              in_time = condition.wait_until(lock, timed ? some_time() : Deadline::never());
              enter(i);
            }
            require(in_time || timed, "gave up without a deadline");
            Schedule::point();
            if (items != 0) --items;
            inside = -1;
            lock.unlock();
          }
          --waiting;
        },
        true,
        [&, i] {
          --waiting;
          if (inside == i) inside = -1;
        });
  }
  for (int i = 0; i != plan.producers; ++i) {
    const int id = plan.consumers + i;
    world.start(
        [&, id] {
          for (int n = 0; n != plan.items; n += plan.at_once) {
            lock.lock();
            enter(id);
            items += plan.at_once;
            if (plan.notify_all) {
              condition.notify_all(lock);
            } else {
              condition.notify(lock, static_cast<std::uint32_t>(plan.at_once));
            }
            inside = -1;
            lock.unlock();
          }
        },
        true, [&, id] { inside = inside == id ? -1 : inside; });
  }
  if (plan.timed != 0) world.let_time_pass();
  const bool all = world.run();
  require(all || waiting != 0, "a producer waits for ever");
  require(items == 0 || waiting == 0, "a wake-up is lost");
  return world.deaths();
}

using Lock = LockWord<ScheduledEnvironment>;
using RLock = RLockWord<ScheduledEnvironment>;

TEST(ConditionSchedules, RandomOrders) {
  with_random_orders("immortal", 0, [](Choices& c) { return run<Lock>({.wanted = 2}, c); });
  with_random_orders("deaths", 2, [](Choices& c) { return run<Lock>({.wanted = 2}, c); });
  with_random_orders("deaths, rlock", 2, [](Choices& c) { return run<RLock>({.wanted = 2}, c); });
  with_random_orders("many, one item each", 3, [](Choices& c) {
    return run<Lock>({.consumers = 5, .producers = 2, .items = 2}, c);
  });
}
TEST(ConditionSchedules, RandomOrdersOfSeveralAtOnce) {
  with_random_orders("two at once", 1,
                     [](Choices& c) { return run<Lock>({.consumers = 4, .at_once = 2}, c); });
  with_random_orders("all", 2, [](Choices& c) {
    return run<Lock>({.consumers = 4, .at_once = 2, .notify_all = true}, c);
  });
}
TEST(ConditionSchedules, RandomOrdersWithDeadlines) {
  with_random_orders("timed", 0, [](Choices& c) {
    return run<Lock>({.consumers = 4, .wanted = 2, .timed = 2}, c);
  });
  with_random_orders("timed, deaths", 2, [](Choices& c) {
    return run<Lock>({.consumers = 4, .wanted = 2, .timed = 2}, c);
  });
}
TEST(ConditionSchedules, AllOrders) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("two and one", {.preemptions = 1 + more, .crashes = 0},
                  [](Choices& c) { return run<Lock>({.consumers = 2, .producers = 1}, c); });
  with_all_orders(
      "one and one, one death", {.preemptions = 1 + more, .crashes = 1},
      [](Choices& c) { return run<Lock>({.consumers = 1, .producers = 1, .items = 1}, c); });
}

// One notification for one who waits for some time and one who waits for ever: whoever says that it
// was late has not used it up.
TEST(ConditionSchedules, WhoIsLateLeavesTheNotification) {
  with_random_orders("one for two", 0, [](Choices& choices) {
    ScheduledWorld world(choices);
    Lock lock;
    Condition condition;
    int began = 0;
    bool used = false;
    for (const bool timed : {true, false}) {
      world.start(
          [&, timed] {
            lock.lock();
            ++began;
            used = condition.wait_until(lock, timed ? some_time() : Deadline::never()) || used;
            lock.unlock();
          },
          false);
    }
    world.start(
        [&] {
          Schedule::wait_until([&] { return began == 2; });
          lock.lock();
          condition.notify(lock);
          lock.unlock();
        },
        false);
    world.let_time_pass();
    static_cast<void>(world.run());
    require(used, "the notification is lost");
    return world.deaths();
  });
}

// Nobody notifies and nobody dies: a wait ends at the deadline only, and says so.
TEST(ConditionSchedules, TheDeadlineIsNoNotification) {
  with_random_orders("late", 0, [](Choices& choices) {
    ScheduledWorld world(choices);
    Lock lock;
    Condition condition;
    for (int i = 0; i != 2; ++i) {
      world.start(
          [&] {
            lock.lock();
            require(!condition.wait_until(lock, some_time()), "notified by nobody");
            require(lock.held_by_self(), "the lock was not taken again");
            lock.unlock();
          },
          false);
    }
    world.let_time_pass();
    require(world.run(), "waits for ever");
    return world.deaths();
  });
}

}  // namespace
}  // namespace brood::detail::condition_schedule_test
