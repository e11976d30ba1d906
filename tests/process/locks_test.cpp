// Locks, semaphores and events between processes, under every start method.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <csignal>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include <brood/brood.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::locks_test {
namespace {

using namespace std::chrono_literals;
using testing::await_sign;
using testing::eventually;
using testing::give_sign;
using testing::sign_given;
using testing::TempDir;

class LocksTest : public testing::EveryStartMethod {
 protected:
  TempDir dir_;
};

void add_slowly(Lock lock, Value<int> counter, int times) {
  for (int i = 0; i < times; ++i) {
    const std::scoped_lock guard(lock);
    counter.set(counter.get() + 1);
  }
}

void hold_until(Lock lock, std::string held, std::string enough) {
  const std::scoped_lock guard(lock);
  give_sign(held);
  await_sign(enough);
}

void die_with(Lock lock) {
  lock.lock();
  std::raise(SIGKILL);
}

void die_with_r(RLock lock) {
  lock.lock();
  lock.lock();
  std::raise(SIGKILL);
}

void end_with(Lock lock) { lock.lock(); }

template <class S>
void die_with_permits(S seats, int permits) {
  for (int i = 0; i < permits; ++i) seats.acquire();
  std::raise(SIGKILL);
}

template <class S>
void hold_permit(S seats, std::string held, std::string enough) {
  const Permit permit(seats);
  give_sign(held);
  await_sign(enough);
}

template <class... Arguments>
void run(Arguments&&... arguments) {
  Process process(std::forward<Arguments>(arguments)...);
  process.start();
  process.join();
}

TEST_P(LocksTest, OneAtATime) {
  Lock lock;
  Value<int> counter(0);
  Process one(add_slowly, lock, counter, 2000);
  Process two(add_slowly, lock, counter, 2000);
  one.start();
  two.start();
  add_slowly(lock, counter, 2000);
  one.join();
  two.join();
  EXPECT_EQ(counter.get(), 6000);
  EXPECT_FALSE(lock.locked());
}

// _TestLock.test_lock_locked_2processes
TEST_P(LocksTest, AnotherProcessHoldIsSeen) {
  Lock lock;
  const std::string held = dir_.file("held");
  const std::string enough = dir_.file("enough");
  Process holder(hold_until, lock, held, enough);
  holder.start();
  await_sign(held);
  EXPECT_TRUE(lock.locked());
  EXPECT_FALSE(lock.try_lock());
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(lock.try_lock_for(20ms));
  EXPECT_GE(std::chrono::steady_clock::now() - before, 20ms);
  EXPECT_FALSE(lock.try_lock_until(std::chrono::system_clock::now() + 1ms));
  give_sign(enough);
  lock.lock();
  EXPECT_FALSE(lock.owner_died()) << "it was unlocked in order";
  lock.unlock();
  holder.join();
  EXPECT_EQ(holder.exitcode(), 0);
}

TEST_P(LocksTest, AKilledHoldersLockIsTakenOverAndSaysSo) {
  Lock lock;
  run(die_with, lock);
  EXPECT_FALSE(lock.locked());
  ASSERT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.owner_died());
  lock.unlock();
  ASSERT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.owner_died());
  lock.unlock();
}

TEST_P(LocksTest, AKilledHolderWakesWhoWaits) {
  Lock lock;
  const std::string held = dir_.file("held");
  Process holder(hold_until, lock, held, dir_.file("never"));
  holder.start();
  await_sign(held);
  Process waiter(die_with, lock);  // it waits, gets the lock, and dies in its turn
  waiter.start();
  holder.kill();
  waiter.join();
  EXPECT_EQ(waiter.exitcode(), -SIGKILL);
  ASSERT_TRUE(lock.try_lock_for(20s));
  EXPECT_TRUE(lock.owner_died());
  lock.unlock();
}

TEST_P(LocksTest, WhoeverEndsWithALockIsADeadHolder) {
  Lock lock;
  run(end_with, lock);
  ASSERT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.owner_died());
  lock.unlock();
}

TEST_P(LocksTest, AStoppedHolderKeepsItsLock) {
  Lock lock;
  const std::string held = dir_.file("held");
  const std::string enough = dir_.file("enough");
  Process holder(hold_until, lock, held, enough);
  holder.start();
  await_sign(held);
  ::kill(*holder.pid(), SIGSTOP);
  ASSERT_TRUE(eventually([&] { return testing::process_state(*holder.pid()) == 'T'; }));
  EXPECT_TRUE(lock.locked());
  EXPECT_FALSE(lock.try_lock_for(30ms));
  give_sign(enough);
  ::kill(*holder.pid(), SIGCONT);
  EXPECT_TRUE(lock.try_lock_for(20s));
  EXPECT_FALSE(lock.owner_died());
  lock.unlock();
  holder.join();
}

// _TestLock.test_rlock, test_rlock_locked_2processes
TEST_P(LocksTest, ARecursiveLockIsFreeWhenUnlockedAsOften) {
  RLock lock;
  lock.lock();
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
  EXPECT_TRUE(lock.locked());
  lock.unlock();
  EXPECT_FALSE(lock.locked());
  EXPECT_THROW(lock.unlock(), StateError);
  run(die_with_r, lock);
  ASSERT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.owner_died());
  lock.unlock();
  EXPECT_FALSE(lock.locked()) << "who takes it over holds it once";
}

TEST_P(LocksTest, PermitsLimitHowManyAndComeBackFromTheDead) {
  Semaphore seats(2);
  run(die_with_permits<Semaphore>, seats, 2);
  EXPECT_EQ(seats.value(), 2);
  const std::string held = dir_.file("held");
  const std::string enough = dir_.file("enough");
  Process holder(hold_permit<Semaphore>, seats, held, enough);
  holder.start();
  await_sign(held);
  EXPECT_EQ(seats.value(), 1);
  seats.acquire();
  EXPECT_FALSE(seats.try_acquire());
  EXPECT_FALSE(seats.try_acquire_for(10ms));
  give_sign(enough);
  EXPECT_TRUE(seats.try_acquire_for(20s));
  holder.join();
  seats.release(2);
  EXPECT_EQ(seats.value(), 2);
}

TEST_P(LocksTest, SignalsOfTheDeadStayUsed) {
  Semaphore signals(3, {.permits_of_dead = PermitsOfDead::stay_taken});
  run(die_with_permits<Semaphore>, signals, 2);
  EXPECT_EQ(signals.value(), 1);
}

TEST_P(LocksTest, AnEventLetsAllGo) {
  Event ready;
  Event done;
  std::vector<Process> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters
        .emplace_back(
            [](Event first, Event second) {
              first.wait();
              second.wait();
            },
            ready, done)
        .start();
  }
  EXPECT_FALSE(done.wait_for(1ms));
  ready.set();
  EXPECT_TRUE(ready.is_set());
  ready.clear();
  EXPECT_FALSE(ready.wait_until(std::chrono::steady_clock::now()));
  ready.set();
  done.set();
  for (Process& waiter : waiters) waiter.join();
  for (Process& waiter : waiters) EXPECT_EQ(waiter.exitcode(), 0);
}

struct Bundle {
  std::map<std::string, Lock> locks;
  std::pair<Event, RLock> more;
};

TEST_P(LocksTest, HandlesTravelInAggregatesContainersAndTasks) {
  Bundle bundle{.locks = {{"a", Lock()}, {"b", Lock()}}, .more = {}};
  Pool pool({.workers = 2});
  Lock result = pool.apply(
      [](Bundle there) {
        there.locks.at("b").lock();
        there.more.first.set();
        return there.locks.at("a");
      },
      bundle);
  EXPECT_EQ(result, bundle.locks.at("a"));
  EXPECT_NE(result, bundle.locks.at("b"));
  EXPECT_TRUE(bundle.more.first.is_set());
  EXPECT_TRUE(bundle.locks.at("b").locked()) << "the worker lives and holds it";
  pool.terminate();
  EXPECT_TRUE(bundle.locks.at("b").try_lock_for(20s));
  EXPECT_TRUE(bundle.locks.at("b").owner_died());
  const std::unordered_set<Lock> set{result, bundle.locks.at("a"), bundle.locks.at("b")};
  EXPECT_EQ(set.size(), 2u);
}

BROOD_UNDER_EVERY_START_METHOD(LocksTest);

TEST(Locks, AreLockables) {
  Lock one;
  Lock two;
  RLock three;
  {
    const std::scoped_lock all(one, two, three);
    EXPECT_TRUE(one.locked() && two.locked() && three.locked());
  }
  std::unique_lock<Lock> guard(one, 1ms);
  EXPECT_TRUE(guard.owns_lock());
  std::unique_lock<Lock> other(one, std::try_to_lock);
  EXPECT_FALSE(other.owns_lock());
  const std::array<std::unique_lock<Lock>, 1> moved{std::move(guard)};
  EXPECT_TRUE(one.locked());
}

TEST(Locks, AThreadThatEndsWithALockIsADeadHolder) {
  Lock lock;
  std::thread([&] { lock.lock(); }).join();
  ASSERT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.owner_died());
  lock.unlock();
}

// Python's _TestLock.test_lock; any thread may unlock.
TEST(Locks, ErrorsSayWhatIsWrong) {
  Lock lock;
  EXPECT_THROW(lock.unlock(), StateError);
  lock.lock();
  std::thread([&] { lock.unlock(); }).join();
  EXPECT_FALSE(lock.locked());
  const Lock moved = std::move(lock);
  EXPECT_THROW(lock.lock(), StateError);  // NOLINT(bugprone-use-after-move): it is what is tested
  EXPECT_FALSE(moved.locked());
  RLock recursive;
  recursive.lock();
  std::thread([&] { EXPECT_THROW(recursive.unlock(), StateError); }).join();
  recursive.unlock();
}

// _TestSemaphore.test_semaphore, test_bounded_semaphore
TEST(Semaphores, MayExceedTheInitialValueUnlessBounded) {
  Semaphore semaphore(1);
  semaphore.release(2);
  EXPECT_EQ(semaphore.value(), 3);
  BoundedSemaphore bounded(1);
  EXPECT_THROW(bounded.release(), StateError);
  bounded.acquire();
  bounded.release();
  EXPECT_EQ(bounded.value(), 1);
  EXPECT_EQ(bounded.max(), 1);
}

TEST(Semaphores, OfManyPermits) {
  Semaphore semaphore(100'000);
  EXPECT_EQ(semaphore.value(), 100'000);
  EXPECT_EQ(semaphore.max(), 200'000);
  for (int i = 0; i < 1000; ++i) semaphore.acquire();
  EXPECT_EQ(semaphore.value(), 99'000);
  semaphore.release(1000);
  EXPECT_EQ(semaphore.value(), 100'000);
}

TEST(Semaphores, NumbersThatMakeNoSenseAreRefused) {
  EXPECT_THROW(Semaphore(-1), ArgumentError);
  EXPECT_THROW(Semaphore(1'000'001), ArgumentError);
  EXPECT_THROW(Semaphore(5, {.most = 4}), ArgumentError);
  EXPECT_THROW(BoundedSemaphore(0), ArgumentError);
  Semaphore semaphore(0, {.most = 1});
  EXPECT_THROW(semaphore.release(0), ArgumentError);
  semaphore.release();
  EXPECT_THROW(semaphore.release(), StateError);
}

}  // namespace
}  // namespace brood::locks_test
