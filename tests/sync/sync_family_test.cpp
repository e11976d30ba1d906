// The words in the real family: threads and processes that really die.
#include <brood/sync/barrier_word.hpp>
#include <brood/sync/condition_word.hpp>
#include <brood/sync/event_word.hpp>
#include <brood/sync/lock_word.hpp>
#include <brood/sync/rlock_word.hpp>
#include <brood/sync/semaphore_word.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <new>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/process/family.hpp>

#include "support/eventually.hpp"
#include "support/forked.hpp"
#include "support/sanitizers.hpp"
#include "support/single_step.hpp"
#include "sync/relative.hpp"

namespace brood::detail::sync_family_test {
namespace {

using testing::patience;

TEST(SyncThreads, EachHasATagOfItsOwn) {
  Registry& registry = Member::require()->registry();
  EXPECT_EQ(ThisThread::tag(), Member::require()->self());
  std::set<std::uint32_t> tags{ThisThread::tag().bits()};
  for (int i = 0; i != 5; ++i) {
    Tag tag;
    std::thread([&] {
      tag = ThisThread::tag();
      EXPECT_EQ(ThisThread::tag(), tag);
      EXPECT_TRUE(registry.alive(tag));
      EXPECT_EQ(registry.process_of(tag), Member::require()->self());
    }).join();
    EXPECT_FALSE(registry.alive(tag)) << "it has ended";
    EXPECT_FALSE(tag.is_process());
    EXPECT_TRUE(tags.insert(tag.bits()).second) << "the tag is used again at once";
  }
}

TEST_F(SyncFamily, AForkThatBroodDidNotMakeIsNobody) {
  testing::in_child([] { EXPECT_THROW(ThisThread::tag(), StateError); });
}

TEST(SyncThreads, AThreadThatEndsWithALockIsDead) {
  Placed<LockWord<>> lock;
  std::thread([&] { lock->lock(); }).join();
  EXPECT_FALSE(lock->locked());
  ASSERT_TRUE(lock->try_lock());
  EXPECT_TRUE(lock->owner_died());
  lock->unlock();
  EXPECT_FALSE(lock->owner_died());
}

TEST(SyncThreads, AnyThreadMayUnlockButNotTwice) {
  Placed<LockWord<>> lock;
  EXPECT_THROW(lock->unlock(), StateError);
  lock->lock();
  EXPECT_TRUE(lock->locked());
  EXPECT_FALSE(lock->try_lock());
  EXPECT_FALSE(lock->try_lock_until(Deadline::after(std::chrono::milliseconds(1))));
  std::thread([&] { lock->unlock(); }).join();
  EXPECT_FALSE(lock->locked());
  EXPECT_THROW(lock->unlock(), StateError);
}

TEST(SyncThreads, OnlyItsHolderUnlocksAnRLock) {
  Placed<RLockWord<>> lock;
  lock->lock();
  lock->lock();
  std::thread([&] {
    EXPECT_FALSE(lock->try_lock());
    EXPECT_THROW(lock->unlock(), StateError);
  }).join();
  lock->unlock();
  EXPECT_TRUE(lock->locked());
  const std::uint32_t depth = lock->unlock_all();
  EXPECT_FALSE(lock->locked());
  lock->lock_again(depth);
  lock->unlock();
  EXPECT_THROW(lock->unlock(), StateError);
}

// For ThreadSanitizer too: plain memory, ordered by the lock only.
TEST(SyncThreads, ManyCountUnderALock) {
  Placed<LockWord<>> lock;
  Placed<EventWord<>> start;
  std::uint64_t count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i != 4; ++i) {
    threads.emplace_back([&] {
      start->wait();
      for (int n = 0; n != 20'000; ++n) {
        lock->lock();
        ++count;
        lock->unlock();
      }
    });
  }
  start->set();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 80'000U);
}

TEST(SyncThreads, ManyShareASemaphore) {
  const Block block = Member::require()->heap().allocate(SemaphoreWord<>::bytes_needed(2));
  auto* semaphore = SemaphoreWord<>::format(block.data, 1, 1, DeadPermits::kReturn);
  std::uint64_t count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i != 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n != 10'000; ++n) {
        semaphore->acquire();
        ++count;
        semaphore->release();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 40'000U);
  EXPECT_EQ(semaphore->value(), 1U);
  EXPECT_THROW(semaphore->release(), StateError);
  Member::require()->heap().free(block);
}

// The kernel tells one sleeper of the holder's death; all must come to their end.
TEST_F(SyncFamily, AKilledHolderIsTakenOverByAllWhoWait) {
  Placed<LockWord<>> lock;
  Placed<std::atomic<int>> told;
  Relative holder([&] {
    lock->lock();
    for (;;) ::pause();
  });
  ASSERT_TRUE(testing::eventually([&] { return lock->holder() == holder.tag(); }));
  std::vector<Relative> waiters;
  for (int i = 0; i != 4; ++i) {
    waiters.emplace_back([&] {
      ASSERT_TRUE(lock->try_lock_until(patience()));
      if (lock->owner_died()) told->fetch_add(1);
      lock->unlock();
    });
  }
  for (Relative& waiter : waiters) {
    ASSERT_TRUE(testing::await_state(waiter.process().pid(), 'S'));
  }
  holder.process().kill();
  for (Relative& waiter : waiters) EXPECT_EQ(waiter.process().wait(), 0);
  EXPECT_EQ(told->load(), 1) << "one takes over from the dead, the others from the living";
}

// For ThreadSanitizer too: what each wrote before it arrived is seen by all.
TEST(SyncThreads, ManyMeetAtABarrier) {
  constexpr std::uint32_t kParties = 3;
  const Block block = Member::require()->heap().allocate(BarrierWord<>::bytes_needed(kParties));
  auto* barrier = BarrierWord<>::format(block.data, kParties);
  std::array<std::uint32_t, kParties> round_of{};
  std::atomic<std::uint32_t> wrong = 0;
  std::atomic<std::uint32_t> indices = 0;
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i != kParties; ++i) {
    threads.emplace_back([&, i] {
      for (std::uint32_t round = 1; round != 1'001; ++round) {
        round_of[i] = round;
        indices += barrier->arrive_and_wait();
        for (const std::uint32_t other : round_of) {
          if (other != round) ++wrong;
        }
        barrier->arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(indices, 1'000U * (0 + 1 + 2));
  EXPECT_EQ(barrier->n_waiting(), 0U);
  EXPECT_FALSE(barrier->broken());
  Member::require()->heap().free(block);
}

TEST(SyncThreads, ABarrierIsBrokenUntilItIsReset) {
  EXPECT_THROW(BarrierWord<>::format(nullptr, 0), StateError);
  const Block block = Member::require()->heap().allocate(BarrierWord<>::bytes_needed(2));
  auto* barrier = BarrierWord<>::format(block.data, 2);
  EXPECT_EQ(barrier->parties(), 2U);
  EXPECT_THROW(barrier->arrive_and_wait_until(Deadline::after(std::chrono::milliseconds(1))),
               BrokenBarrierError);
  EXPECT_TRUE(barrier->broken());
  EXPECT_THROW(barrier->arrive_and_wait(), BrokenBarrierError);
  barrier->reset();
  EXPECT_FALSE(barrier->broken());
  for (const bool abort : {true, false}) {
    std::string why;
    std::thread waiter([&] {
      try {
        barrier->arrive_and_wait();
      } catch (const BrokenBarrierError& e) {
        why = e.what();
      }
    });
    EXPECT_TRUE(testing::eventually([&] { return barrier->n_waiting() == 1; }));
    abort ? barrier->abort() : barrier->reset();
    waiter.join();
    EXPECT_NE(why.find(abort ? "aborted" : "was reset"), std::string::npos) << why;
    EXPECT_EQ(barrier->broken(), abort);
    barrier->reset();
  }
  std::thread third([&] { barrier->enlist(); });  // and ends
  third.join();
  EXPECT_TRUE(barrier->broken()) << "a thread that has enlisted has ended";
  barrier->reset();
  EXPECT_FALSE(barrier->broken());
  barrier->enlist();
  barrier->enlist();
  barrier->withdraw();
  EXPECT_FALSE(barrier->broken());
  Member::require()->heap().free(block);
}

TEST_F(SyncFamily, AKilledPartyBreaksTheBarrierAndIsNamed) {
  const Block block = Member::require()->heap().allocate(BarrierWord<>::bytes_needed(3));
  auto* barrier = BarrierWord<>::format(block.data, 3);
  for (const bool waits : {true, false}) {
    Relative victim([&] {
      if (waits) barrier->arrive_and_wait();
      barrier->enlist();
      for (;;) ::pause();
    });
    if (waits) {
      ASSERT_TRUE(testing::eventually([&] { return barrier->n_waiting() == 1; }));
    }
    ASSERT_TRUE(testing::await_state(victim.process().pid(), 'S'));
    const std::string name = "relative (pid " + std::to_string(victim.process().pid()) + ") died";
    Relative other([&] {
      try {
        barrier->arrive_and_wait_until(patience());
        FAIL() << "let go";
      } catch (const BrokenBarrierError& e) {
        ASSERT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
      }
    });
    ASSERT_TRUE(testing::eventually([&] { return barrier->n_waiting() == (waits ? 2U : 1U); }));
    victim.process().kill();
    EXPECT_EQ(other.process().wait(), 0);
    EXPECT_TRUE(barrier->broken());
    barrier->reset();
    EXPECT_FALSE(barrier->broken());
  }
  Member::require()->heap().free(block);
}

// For ThreadSanitizer too: plain memory, ordered by the lock only.
TEST(SyncThreads, ManyWaitForACondition) {
  Placed<RLockWord<>> lock;
  Placed<ConditionWord<>> condition;
  constexpr int kItems = 2'000;
  int items = 0;
  int taken = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i != 3; ++i) {
    threads.emplace_back([&] {
      lock->lock();
      lock->lock();
      while (taken != kItems) {
        condition->wait_until(*lock, Deadline::never(),
                              [&] { return items != 0 || taken == kItems; });
        EXPECT_EQ(lock->depth(), 2U);
        if (items == 0) break;
        --items;
        if (++taken == kItems) condition->notify_all(*lock);
      }
      lock->unlock();
      lock->unlock();
    });
  }
  for (int i = 0; i != kItems; ++i) {
    lock->lock();
    ++items;
    condition->notify(*lock);
    lock->unlock();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, kItems);
}

TEST(SyncThreads, AConditionNeedsItsLock) {
  Placed<LockWord<>> lock;
  Placed<ConditionWord<>> condition;
  EXPECT_THROW(condition->wait(*lock), StateError);
  EXPECT_THROW(condition->notify(*lock), StateError);
  EXPECT_THROW(condition->notify_all(*lock), StateError);
  lock->lock();
  EXPECT_FALSE(condition->wait_until(*lock, Deadline::now()));
  EXPECT_TRUE(lock->held_by_self());
  lock->unlock();
}

// One changes the state and is killed before it notifies: all who wait look again, and whoever
// locks next is told.
TEST_F(SyncFamily, AKilledNotifierLosesNoWakeUp) {
  struct Guarded {
    LockWord<> lock;
    ConditionWord<> condition;
    std::atomic<int> waiting;
    std::atomic<int> ready;
  };
  Placed<Guarded> data;
  std::vector<Relative> waiters;
  for (int i = 0; i != 3; ++i) {
    waiters.emplace_back([&] {
      data->lock.lock();
      data->waiting.fetch_add(1);
      ASSERT_TRUE(data->condition.wait_until(data->lock, patience(),
                                             [&] { return data->ready.load() != 0; }));
      data->lock.unlock();
    });
  }
  ASSERT_TRUE(testing::eventually([&] { return data->waiting.load() == 3; }));
  for (Relative& waiter : waiters) {
    ASSERT_TRUE(testing::await_state(waiter.process().pid(), 'S'));
  }
  Relative notifier([&] {
    data->lock.lock();
    data->ready.store(1);
    for (;;) ::pause();
  });
  ASSERT_TRUE(testing::eventually([&] { return data->ready.load() == 1; }));
  notifier.process().kill();
  announce(Member::require()->segment().header());  // the watchdog's part: it is no child of its
  for (Relative& waiter : waiters) EXPECT_EQ(waiter.process().wait(), 0);
}

// Kills and stops at random under load: two counters that are changed one after the other say
// whether two were ever inside at once.
TEST_F(SyncFamily, RandomKillsAndStops) {
  struct Guarded {
    LockWord<> lock;
    std::atomic<std::uint64_t> before;
    std::atomic<std::uint64_t> after;
    std::atomic<std::uint64_t> wrong;
    std::atomic<std::uint64_t> deaths;
    std::atomic<std::uint64_t> permits_wrong;
    std::atomic<std::uint32_t> inside;
  };
  Placed<Guarded> data;
  const Block block = Member::require()->heap().allocate(SemaphoreWord<>::bytes_needed(2));
  auto* semaphore = SemaphoreWord<>::format(block.data, 2, 2, DeadPermits::kReturn);
  const auto work = [&] {
    for (;;) {
      data->lock.lock();
      const std::uint64_t before = data->before.load();
      if (data->lock.owner_died()) {
        data->after.store(before);
        data->deaths.fetch_add(1);
      } else if (before != data->after.load()) {
        data->wrong.fetch_add(1);
      }
      data->before.store(before + 1);
      data->after.store(before + 1);
      data->lock.unlock();
      semaphore->acquire();
      semaphore->release();
    }
  };
  std::vector<std::unique_ptr<Relative>> workers(4);
  const int kills = kill_and_stop_at_random(workers, work);
  const std::uint64_t rounds = data->before.load();
  EXPECT_TRUE(testing::eventually([&] { return data->before.load() > rounds + 1'000; }))
      << "they do not go on";
  workers.clear();
  EXPECT_EQ(data->wrong.load(), 0U);
  EXPECT_TRUE(data->lock.try_lock_until(patience()));
  data->lock.unlock();
  EXPECT_EQ(semaphore->value(), 2U) << "a permit is lost";
  std::printf("%d killed, %llu times while they held the lock, %llu rounds\n", kills,
              static_cast<unsigned long long>(data->deaths.load()),
              static_cast<unsigned long long>(data->before.load()));
  EXPECT_GT(kills, 10);
  Member::require()->heap().free(block);
}

}  // namespace
}  // namespace brood::detail::sync_family_test
