// SharedLockWord under a deterministic scheduler: orders of steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <brood/sync/shared_lock_word.hpp>

#include <gtest/gtest.h>

#include <array>

#include "support/proof.hpp"
#include "sync/scheduled_environment.hpp"

namespace brood::detail::shared_lock_schedule_test {
namespace {

// Few slots, so that there is little to look at: each fiber has a line of its own, and a neighbour
// that is never used.
using SharedLock = SharedLockWord<ScheduledEnvironment, 16, 2>;
using testing::Choices;
using testing::Schedule;

struct Plan {
  int writers = 1;
  int readers = 2;
  int rounds = 2;
  int timed_writers = 0;  // of them, those that wait for some time only
  int timed_readers = 0;
  int trying = 0;  // further threads that try both ways and never wait
  bool nested = false;
  bool mortal_writers = true;
};

struct Oracle {
  SharedLock* lock;
  int writer = -1;               // inside
  std::array<int, 16> shares{};  // inside, by thread
  bool dirty = false;            // a writer died inside, and none has left since
  int writer_deaths = 0;         // anywhere, so perhaps inside and not yet known here

  [[nodiscard]] int readers() const {
    int count = 0;
    for (const int n : shares) count += n != 0 ? 1 : 0;
    return count;
  }
  void look() const {
    if (dirty) require(lock->owner_died(), "let in without being told");
    if (writer_deaths == 0) require(!lock->owner_died(), "told of a death that was none");
  }
  void write(int id) {
    require(writer == -1, "two writers inside");
    require(readers() == 0, "a writer inside beside readers");
    writer = id;
    look();
    Schedule::point();
    require(lock->held_by_self() && lock->locked(), "robbed");
    writer = -1;
    // Cleared here: killed while it unlocks, it says so once more or not.
    dirty = false;
    lock->unlock();
  }
  void read(int id, bool nested) {
    require(writer == -1, "a reader inside beside a writer");
    shares[static_cast<std::size_t>(id)] = 1;
    look();
    Schedule::point();
    require(lock->readers() != 0 && !lock->locked(), "a share is lost");
    if (nested) {
      lock->lock_shared();
      require(writer == -1, "a reader inside beside a writer");
      lock->unlock_shared();
      require(lock->shares() == 1, "the wrong number of shares");
    }
    shares[static_cast<std::size_t>(id)] = 0;
    lock->unlock_shared();
  }
  void died(int id, bool writes) {
    shares[static_cast<std::size_t>(id)] = 0;
    if (writes) ++writer_deaths;
    if (writer != id) return;
    writer = -1;
    dirty = true;
  }
};

int run(const Plan& plan, Choices& choices) {
  ScheduledWorld world(choices);
  SharedLock lock;
  Oracle oracle{.lock = &lock};
  const auto deadline = [](bool timed) { return timed ? some_time() : Deadline::never(); };
  int id = 0;
  for (int i = 0; i != plan.writers; ++i, ++id) {
    world.start(
        [&, id, timed = i < plan.timed_writers] {
          for (int round = 0; round != plan.rounds; ++round) {
            if (lock.try_lock_until(deadline(timed))) {
              oracle.write(id);
            } else {
              require(timed, "gave up without a deadline");
            }
          }
        },
        plan.mortal_writers, [&, id] { oracle.died(id, true); });
  }
  for (int i = 0; i != plan.readers; ++i, ++id) {
    world.start(
        [&, id, timed = i < plan.timed_readers] {
          for (int round = 0; round != plan.rounds; ++round) {
            if (lock.try_lock_shared_until(deadline(timed))) {
              oracle.read(id, plan.nested);
            } else {
              require(timed, "gave up without a deadline");
            }
          }
        },
        true, [&, id] { oracle.died(id, false); });
  }
  for (int i = 0; i != plan.trying; ++i, ++id) {
    world.start(
        [&, id] {
          for (int round = 0; round != plan.rounds; ++round) {
            if (lock.try_lock()) oracle.write(id);
            if (lock.try_lock_shared()) oracle.read(id, false);
          }
        },
        plan.mortal_writers, [&, id] { oracle.died(id, true); });
  }
  if (plan.timed_writers + plan.timed_readers != 0) world.let_time_pass();
  require(world.run(), "somebody waits for ever");
  require(oracle.dirty == lock.owner_died() || world.deaths() != 0, "a death that nobody died");
  return world.deaths();
}

TEST(SharedLockSchedules, RandomOrders) {
  with_random_orders("one and two", 0, [](Choices& c) { return run({.rounds = 3}, c); });
  with_random_orders("one and two, deaths", 2, [](Choices& c) { return run({.rounds = 3}, c); });
  with_random_orders("two and three, deaths", 3,
                     [](Choices& c) { return run({.writers = 2, .readers = 3}, c); });
  with_random_orders("three and one, deaths", 2,
                     [](Choices& c) { return run({.writers = 3, .readers = 1}, c); });
}
TEST(SharedLockSchedules, RandomOrdersOfMany) {
  with_random_orders("two and five, deaths", 4,
                     [](Choices& c) { return run({.writers = 2, .readers = 5, .rounds = 3}, c); });
}
TEST(SharedLockSchedules, RandomOrdersWithDeadlines) {
  with_random_orders("timed", 0, [](Choices& c) {
    return run({.writers = 2, .readers = 3, .timed_writers = 1, .timed_readers = 1}, c);
  });
  with_random_orders("timed, deaths", 2, [](Choices& c) {
    return run({.writers = 2, .readers = 3, .timed_writers = 1, .timed_readers = 1}, c);
  });
  with_random_orders("trying, deaths", 2, [](Choices& c) {
    return run({.writers = 2, .readers = 2, .timed_writers = 1, .trying = 2}, c);
  });
}
// A death of a reader is never taken for a writer's, whatever it was about to do at the gate.
TEST(SharedLockSchedules, RandomOrdersInWhichReadersDie) {
  with_random_orders("readers die", 3, [](Choices& c) {
    return run({.writers = 2, .readers = 4, .timed_readers = 1, .mortal_writers = false}, c);
  });
}
TEST(SharedLockSchedules, RandomOrdersWithSharesOfOneThread) {
  with_random_orders(
      "nested", 0, [](Choices& c) { return run({.writers = 2, .readers = 3, .nested = true}, c); });
  with_random_orders("nested, deaths", 2, [](Choices& c) {
    return run({.writers = 2, .readers = 3, .nested = true}, c);
  });
}
TEST(SharedLockSchedules, AllOrdersOfTwo) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("one and one, one death", {.preemptions = 2 + more, .crashes = 1},
                  [](Choices& c) { return run({.readers = 1, .rounds = 1}, c); });
  with_all_orders(
      "one and one timed, one death", {.preemptions = 1 + more, .crashes = 1}, [](Choices& c) {
        return run({.readers = 1, .rounds = 1, .timed_writers = 1, .timed_readers = 1}, c);
      });
}
TEST(SharedLockSchedules, AllOrdersOfThree) {
  const int more = testing::prove_everything() ? 1 : 0;
  with_all_orders("two and one, one death", {.preemptions = 1 + more, .crashes = 1},
                  [](Choices& c) { return run({.writers = 2, .readers = 1, .rounds = 1}, c); });
  with_all_orders("one and two, one death", {.preemptions = 1 + more, .crashes = 1},
                  [](Choices& c) { return run({.readers = 2, .rounds = 1}, c); });
}

// One who was killed while it waited for readers has changed nothing.
TEST(SharedLockSchedules, WhoDiesWaitingForReadersWasNoOwner) {
  with_random_orders("waits and dies", 1, [](Choices& choices) {
    ScheduledWorld world(choices);
    SharedLock lock;
    bool shared = false;
    world.start(
        [&] {
          lock.lock_shared();
          shared = true;
          Schedule::wait_until([&] { return world.dead(1); });
          lock.unlock_shared();
        },
        false);
    world.start(
        [&] {
          Schedule::wait_until([&] { return shared; });
          lock.lock();
          require(false, "has it alone beside a reader");
        },
        true, [] {});
    world.start(
        [&] {
          Schedule::wait_until([&] { return world.dead(1); });
          lock.lock();
          require(!lock.owner_died(), "told of the death of one who only waited");
          lock.unlock();
        },
        false);
    const bool all = world.run();
    require(all || world.deaths() == 0, "somebody waits for ever");
    return world.deaths();
  });
}

// Who comes when a writer waits already is let in after it, though another one has a share.
TEST(SharedLockSchedules, ReadersDoNotStarveAWriter) {
  with_random_orders("turned away", 0, [](Choices& choices) {
    ScheduledWorld world(choices);
    SharedLock lock;
    bool shared = false;
    bool turned_away = false;
    bool written = false;
    world.start([&] {
      lock.lock_shared();
      shared = true;
      Schedule::wait_until([&] { return turned_away; });
      require(!written, "let in beside a reader");
      lock.unlock_shared();
    });
    world.start([&] {
      Schedule::wait_until([&] { return shared; });
      lock.lock();
      written = true;
      lock.unlock();
    });
    for (int i = 0; i != 2; ++i) {
      world.start([&] {
        Schedule::wait_until([&] { return shared; });
        while (!turned_away && lock.try_lock_shared()) {
          lock.unlock_shared();
          Schedule::yield();
        }
        turned_away = true;
        lock.lock_shared();
        require(written, "let in before the writer that waited");
        lock.unlock_shared();
      });
    }
    require(world.run(), "somebody waits for ever");
    return world.deaths();
  });
}

}  // namespace
}  // namespace brood::detail::shared_lock_schedule_test
