// SharedLockWord in the real family: threads and processes that really die.
#include <brood/sync/event_word.hpp>
#include <brood/sync/shared_lock_word.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/single_step.hpp"
#include "sync/relative.hpp"

namespace brood::detail::shared_lock_family_test {
namespace {

using testing::patience;

static_assert(sizeof(SharedLockWord<>) == 64 + 4 * Tag::kSlots);

TEST(SyncThreads, ASharedLockIsForManyOrOne) {
  Placed<SharedLockWord<>> lock;
  lock->lock_shared();
  std::thread([&] {
    EXPECT_TRUE(lock->try_lock_shared());
    EXPECT_EQ(lock->readers(), 2U);
    EXPECT_FALSE(lock->try_lock());
    EXPECT_TRUE(lock->try_lock_shared());
    EXPECT_EQ(lock->shares(), 2U);
    lock->unlock_shared();
    lock->unlock_shared();
    EXPECT_FALSE(lock->try_lock_until(Deadline::after(std::chrono::milliseconds(1))));
    EXPECT_TRUE(lock->try_lock_shared()) << "who has given up is in nobody's way";
    lock->unlock_shared();
    EXPECT_FALSE(lock->locked());
    EXPECT_THROW(lock->unlock_shared(), StateError);
    EXPECT_THROW(lock->unlock(), StateError);
  }).join();
  EXPECT_THROW(lock->lock(), StateError) << "it would wait for itself";
  lock->unlock_shared();
  lock->lock();
  EXPECT_TRUE(lock->locked());
  EXPECT_THROW(lock->lock(), StateError);
  EXPECT_THROW(lock->lock_shared(), StateError);
  EXPECT_THROW(lock->unlock_shared(), StateError);
  std::thread([&] {
    EXPECT_FALSE(lock->try_lock());
    EXPECT_FALSE(lock->try_lock_shared());
    EXPECT_FALSE(lock->try_lock_shared_until(Deadline::after(std::chrono::milliseconds(1))));
    EXPECT_THROW(lock->unlock(), StateError);
  }).join();
  lock->unlock();
  EXPECT_FALSE(lock->locked());
  EXPECT_EQ(lock->readers(), 0U);
}

TEST(SyncThreads, AThreadThatEndsWithASharedLockIsDead) {
  Placed<SharedLockWord<>> lock;
  std::thread([&] { lock->lock_shared(); }).join();
  EXPECT_EQ(lock->readers(), 0U);
  ASSERT_TRUE(lock->try_lock());
  EXPECT_FALSE(lock->owner_died());
  lock->unlock();
  std::thread([&] { lock->lock(); }).join();
  EXPECT_FALSE(lock->locked());
  ASSERT_TRUE(lock->try_lock_shared());
  EXPECT_TRUE(lock->owner_died());
  lock->unlock_shared();
  ASSERT_TRUE(lock->try_lock());
  EXPECT_TRUE(lock->owner_died());
  lock->unlock();
  EXPECT_FALSE(lock->owner_died());
}

// For ThreadSanitizer too: plain memory, ordered by the lock only.
TEST(SyncThreads, ManyReadWhatOneWrites) {
  Placed<SharedLockWord<>> lock;
  Placed<EventWord<>> start;
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  std::atomic<std::uint64_t> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i != 5; ++i) {
    threads.emplace_back([&, writes = i < 2] {
      start->wait();
      for (int n = 0; n != 10'000; ++n) {
        if (writes) {
          lock->lock();
          ++first;
          ++second;
          lock->unlock();
        } else {
          lock->lock_shared();
          if (first != second) ++wrong;
          lock->unlock_shared();
        }
      }
    });
  }
  start->set();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first, 20'000U);
  EXPECT_EQ(second, 20'000U);
  EXPECT_EQ(wrong, 0U);
}

// Each thread has a slot, and so a cell, of its own: more than lie on one line, and than one sleep
// can watch.
TEST(SyncThreads, AWriterWaitsForAHundredAndFiftyReaders) {
  Placed<SharedLockWord<>> lock;
  Placed<EventWord<>> enough;
  constexpr std::uint32_t kReaders = 150;
  std::atomic<std::uint32_t> left = 0;
  std::vector<std::thread> readers;
  for (std::uint32_t i = 0; i != kReaders; ++i) {
    readers.emplace_back([&] {
      lock->lock_shared();
      enough->wait();
      ++left;
      lock->unlock_shared();
    });
  }
  ASSERT_TRUE(testing::eventually([&] { return lock->readers() == kReaders; }));
  std::thread writer([&] {
    lock->lock();
    EXPECT_EQ(left, kReaders);
    lock->unlock();
  });
  // The writer waits: who comes now waits behind it.
  ASSERT_TRUE(testing::eventually([&] {
    if (!lock->try_lock_shared()) return true;
    lock->unlock_shared();
    return false;
  }));
  enough->set();
  for (std::thread& reader : readers) reader.join();
  writer.join();
  EXPECT_EQ(lock->readers(), 0U);
}

TEST(SyncThreads, WhoHasAShareMayTakeAnotherWhileAWriterWaits) {
  Placed<SharedLockWord<>> lock;
  lock->lock_shared();
  std::thread writer([&] {
    lock->lock();
    lock->unlock();
  });
  std::thread([&] {
    ASSERT_TRUE(testing::eventually([&] {
      if (!lock->try_lock_shared()) return true;
      lock->unlock_shared();
      return false;
    }));
    EXPECT_FALSE(lock->try_lock_shared_until(Deadline::after(std::chrono::milliseconds(1))));
  }).join();
  EXPECT_TRUE(lock->try_lock_shared());
  EXPECT_EQ(lock->shares(), 2U);
  lock->unlock_shared();
  lock->unlock_shared();
  writer.join();
}

TEST_F(SyncFamily, AKilledReadersShareIsGone) {
  Placed<SharedLockWord<>> lock;
  Relative reader([&] {
    lock->lock_shared();
    for (;;) ::pause();
  });
  ASSERT_TRUE(testing::eventually([&] { return lock->readers() == 1; }));
  Relative writer([&] {
    ASSERT_TRUE(lock->try_lock_until(patience()));
    ASSERT_FALSE(lock->owner_died());
    lock->unlock();
  });
  ASSERT_TRUE(testing::await_state(writer.process().pid(), 'S'));
  EXPECT_FALSE(lock->try_lock());
  reader.process().kill();
  EXPECT_EQ(writer.process().wait(), 0);
  EXPECT_EQ(lock->readers(), 0U);
}

// Readers and writers wait for one who is killed; the readers come in and are told, as is the first
// writer, and nobody after that one.
TEST_F(SyncFamily, AKilledWriterIsTakenOverByAllWhoWait) {
  Placed<SharedLockWord<>> lock;
  Placed<std::atomic<int>> told;
  Placed<std::atomic<int>> wrong;
  Relative holder([&] {
    lock->lock();
    for (;;) ::pause();
  });
  ASSERT_TRUE(testing::eventually([&] { return lock->locked(); }));
  std::vector<Relative> waiters;
  for (int i = 0; i != 6; ++i) {
    waiters.emplace_back([&, writes = i % 2 == 0] {
      if (writes) {
        ASSERT_TRUE(lock->try_lock_until(patience()));
        if (lock->owner_died()) told->fetch_add(1);
        lock->unlock();
      } else {
        ASSERT_TRUE(lock->try_lock_shared_until(patience()));
        if (lock->owner_died() != (told->load() == 0)) wrong->fetch_add(1);
        lock->unlock_shared();
      }
    });
  }
  for (Relative& waiter : waiters) {
    ASSERT_TRUE(testing::await_state(waiter.process().pid(), 'S'));
  }
  holder.process().kill();
  for (Relative& waiter : waiters) EXPECT_EQ(waiter.process().wait(), 0);
  EXPECT_EQ(told->load(), 1) << "one takes over from the dead, the others from the living";
  EXPECT_EQ(wrong->load(), 0);
  EXPECT_FALSE(lock->owner_died());
}

TEST_F(SyncFamily, AStoppedReaderKeepsItsShare) {
  Placed<SharedLockWord<>> lock;
  Relative reader([&] {
    lock->lock_shared();
    for (;;) ::pause();
  });
  ASSERT_TRUE(testing::eventually([&] { return lock->readers() == 1; }));
  reader.process().signal(SIGSTOP);
  ASSERT_TRUE(testing::await_state(reader.process().pid(), 'T'));
  EXPECT_FALSE(lock->try_lock_until(Deadline::after(std::chrono::milliseconds(20))));
  EXPECT_EQ(lock->readers(), 1U);
  reader.process().kill();
  EXPECT_TRUE(lock->try_lock_until(patience()));
  lock->unlock();
}

// Kills and stops at random under load: two counters that writers change one after the other, and
// that readers compare.
TEST_F(SyncFamily, RandomKillsAndStopsOfThoseWhoShare) {
  struct Guarded {
    SharedLockWord<> lock;
    std::atomic<std::uint64_t> before;
    std::atomic<std::uint64_t> after;
    std::atomic<std::uint64_t> read;
    std::atomic<std::uint64_t> wrong;
    std::atomic<std::uint64_t> deaths;
  };
  Placed<Guarded> data;
  const auto work = [&] {
    for (std::uint64_t round = 0;; ++round) {
      const bool writes = round % 4 == 0;
      writes ? data->lock.lock() : data->lock.lock_shared();
      const std::uint64_t before = data->before.load();
      if (before != data->after.load() && !data->lock.owner_died()) data->wrong.fetch_add(1);
      if (!writes) {
        data->read.fetch_add(1);
        data->lock.unlock_shared();
        continue;
      }
      if (data->lock.owner_died()) data->deaths.fetch_add(1);
      data->before.store(before + 1);
      data->after.store(before + 1);
      data->lock.unlock();
    }
  };
  std::vector<std::unique_ptr<Relative>> workers(4);
  const int kills = kill_and_stop_at_random(workers, work);
  const std::uint64_t written = data->before.load();
  const std::uint64_t read = data->read.load();
  EXPECT_TRUE(testing::eventually([&] {
    return data->before.load() > written + 500 && data->read.load() > read + 500;
  })) << "they do not go on";
  workers.clear();
  EXPECT_EQ(data->wrong.load(), 0U);
  EXPECT_EQ(data->lock.readers(), 0U);
  EXPECT_TRUE(data->lock.try_lock_until(patience()));
  data->lock.unlock();
  std::printf("%d killed, %llu times while they held the lock, %llu written, %llu read\n", kills,
              static_cast<unsigned long long>(data->deaths.load()),
              static_cast<unsigned long long>(data->before.load()),
              static_cast<unsigned long long>(data->read.load()));
  EXPECT_GT(kills, 10);
}

}  // namespace
}  // namespace brood::detail::shared_lock_family_test
