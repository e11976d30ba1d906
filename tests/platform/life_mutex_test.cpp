#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include <brood/platform/life_mutex.hpp>
#include <brood/platform/process_handle.hpp>

#include "support/forked.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::life_mutex_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;

/// Lives in shared memory; deaths of processes are not for ThreadSanitizer.
class LifeMutexOfProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  }
  /// A child that holds `life` and waits to be killed.
  Forked holder() {
    Forked child([this] {
      ASSERT_TRUE(life_->lock_for_life());
      locked_.open();
      for (;;) ::pause();
    });
    EXPECT_TRUE(locked_.pass());
    return child;
  }
  LifeMutex& life() { return *life_; }

  Shared<LifeMutex> life_;
  Gate locked_;
};

TEST_F(LifeMutexOfProcess, IsDeadBeforeAnybodyHeldIt) { EXPECT_FALSE(life().alive()); }

TEST_F(LifeMutexOfProcess, IsAliveInOtherProcessesUntilKilled) {
  Forked child = holder();
  EXPECT_TRUE(life().alive());
  in_child([&] { EXPECT_TRUE(life().alive()); });
  child.kill();
  EXPECT_FALSE(life().alive());
  in_child([&] { EXPECT_FALSE(life().alive()); });
}

TEST_F(LifeMutexOfProcess, DeathWakesWhoWatches) {
  Forked child = holder();
  const Shared<std::atomic<std::uint32_t>> other;
  Forked watcher([&] {
    while (life().alive()) {
      const std::array<FutexWord, 2> words{life().watch(), FutexWord{&*other, 0}};
      ASSERT_NE(futex_wait_any(words, patience()), FutexWake::timed_out);
    }
  });
  ASSERT_TRUE(await_state(watcher.pid(), 'S'));
  child.signal(SIGKILL);
  EXPECT_EQ(watcher.wait(), 0);
}

TEST_F(LifeMutexOfProcess, DeathWakesWhoWatchesOneWord) {
  Forked child = holder();
  Forked watcher([&] {
    while (life().alive()) ASSERT_NE(futex_wait(life().watch(), patience()), FutexWake::timed_out);
  });
  ASSERT_TRUE(await_state(watcher.pid(), 'S'));
  child.signal(SIGKILL);
  EXPECT_EQ(watcher.wait(), 0);
}

TEST_F(LifeMutexOfProcess, LettingGoWakesWhoWatches) {
  const Gate leave;
  Forked child([&] {
    ASSERT_TRUE(life().lock_for_life());
    locked_.open();
    ASSERT_TRUE(leave.pass());
    life().release();
    for (;;) ::pause();
  });
  ASSERT_TRUE(locked_.pass());
  Forked watcher([&] {
    while (life().alive()) ASSERT_NE(futex_wait(life().watch(), patience()), FutexWake::timed_out);
  });
  ASSERT_TRUE(await_state(watcher.pid(), 'S'));
  leave.open();
  EXPECT_EQ(watcher.wait(), 0);
  EXPECT_FALSE(life().alive());
}

TEST_F(LifeMutexOfProcess, IsDeadAfterExit) {
  in_child([&] {
    ASSERT_TRUE(life().lock_for_life());
    EXPECT_TRUE(life().alive());
  });
  EXPECT_FALSE(life().alive());
}

TEST_F(LifeMutexOfProcess, IsDeadAfterExec) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const Gate go;
  Forked child([&] {
    ASSERT_TRUE(life().lock_for_life());
    locked_.open();
    ASSERT_TRUE(go.pass());
    ::dup2(pipe[0], 0);
    ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), 1);
    ::execlp("cat", "cat", nullptr);
  });
  ASSERT_TRUE(locked_.pass());
  EXPECT_TRUE(life().alive());
  go.open();
  const Deadline deadline = patience();
  while (life().alive() && !deadline.passed()) {
    futex_wait(life().watch(), deadline);
  }
  EXPECT_FALSE(life().alive());
  EXPECT_EQ(::kill(child.pid(), 0), 0);
  EXPECT_NE(state_of(child.pid()), 'Z') << "the process goes on as another program";
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_F(LifeMutexOfProcess, AStoppedHolderIsAlive) {
  Forked child = holder();
  child.signal(SIGSTOP);
  ASSERT_TRUE(await_state(child.pid(), 'T'));
  EXPECT_TRUE(life().alive());
  EXPECT_EQ(futex_wait(life().watch(), Deadline::after(5ms)), FutexWake::timed_out);
  child.signal(SIGCONT);
  ASSERT_TRUE(await_state(child.pid(), 'S'));
  EXPECT_TRUE(life().alive());
  child.signal(SIGSTOP);
  ASSERT_TRUE(await_state(child.pid(), 'T'));
  child.kill();
  EXPECT_FALSE(life().alive());
}

TEST_F(LifeMutexOfProcess, IsReusedByTheNextHolder) {
  for (int round = 0; round < 5; ++round) {
    Forked child = holder();
    EXPECT_TRUE(life().alive()) << round;
    Forked watcher([&] {
      while (life().alive()) {
        ASSERT_NE(futex_wait(life().watch(), patience()), FutexWake::timed_out);
      }
    });
    ASSERT_TRUE(await_state(watcher.pid(), 'S'));
    child.kill();
    EXPECT_EQ(watcher.wait(), 0) << round;
    EXPECT_FALSE(life().alive()) << round;
  }
  ASSERT_TRUE(life().lock_for_life());
  EXPECT_TRUE(life().alive());
  life().release();
  EXPECT_FALSE(life().alive());
  ASSERT_TRUE(life().lock_for_life());
  EXPECT_TRUE(life().alive());
  life().release();
}

TEST_F(LifeMutexOfProcess, IsNotTakenFromAHolderThatLives) {
  Forked child = holder();
  EXPECT_FALSE(life().lock_for_life());
  EXPECT_EQ(errno, EBUSY);
  EXPECT_TRUE(life().alive());
  child.signal(SIGSTOP);
  ASSERT_TRUE(await_state(child.pid(), 'T'));
  EXPECT_FALSE(life().lock_for_life());
  child.kill();
  EXPECT_FALSE(life().alive());
  ASSERT_TRUE(life().lock_for_life());
  EXPECT_TRUE(life().alive());
  life().release();
}

TEST_F(LifeMutexOfProcess, AForkOfTheHolderDoesNotHoldIt) {
  ASSERT_TRUE(life().lock_for_life());
  in_child([&] {
    EXPECT_TRUE(life().alive());
    life().release();  // not its own
    EXPECT_TRUE(life().alive());
  });
  EXPECT_TRUE(life().alive()) << "the end of the fork is not the holder's";
  life().release();

  // The other way round: the holder dies, its fork lives on.
  const Shared<std::atomic<int>> grandchild;
  const Gate forked;
  Forked child([&] {
    ASSERT_TRUE(life().lock_for_life());
    const pid_t pid = ::fork();
    if (pid == 0) {
      grandchild->store(::getpid());
      forked.open();
      ::prctl(PR_SET_PDEATHSIG, 0);
      for (;;) ::pause();
    }
    for (;;) ::pause();
  });
  ASSERT_TRUE(forked.pass());
  EXPECT_TRUE(life().alive());
  child.kill();
  EXPECT_FALSE(life().alive());
  EXPECT_EQ(::kill(grandchild->load(), SIGKILL), 0) << "the fork outlived the holder";
}

TEST(LifeMutex, IsDeadAfterTheEndOfAThread) {
  const Shared<LifeMutex> life;
  std::thread thread([&] {
    ASSERT_TRUE(life->lock_for_life());
    EXPECT_TRUE(life->alive());
  });
  thread.join();
  EXPECT_FALSE(life->alive());
  // Another thread may have it now.
  std::thread next([&] {
    ASSERT_TRUE(life->lock_for_life());
    EXPECT_TRUE(life->alive());
    life->release();
    EXPECT_FALSE(life->alive());
  });
  next.join();
}

TEST(LifeMutex, OneThreadHoldsManyAndLosesAllAtItsEnd) {
  struct Lives {
    // ThreadSanitizer follows at most 64 of a thread.
    std::array<LifeMutex, brood::testing::kThreadSanitizer ? 60 : 100> all;
  };
  const Shared<Lives> lives;
  std::thread thread([&] {
    for (LifeMutex& life : lives->all) ASSERT_TRUE(life.lock_for_life());
    lives->all[50].release();
    for (std::size_t i = 0; i < lives->all.size(); ++i) EXPECT_EQ(lives->all[i].alive(), i != 50);
  });
  thread.join();
  for (const LifeMutex& life : lives->all) EXPECT_FALSE(life.alive());
}

TEST(LifeMutex, WhatTheDeadWroteIsVisible) {
  const Shared<LifeMutex> life;
  for (int round = 1; round <= 50; ++round) {
    int written = 0;  // not atomic: the life word orders
    std::atomic<bool> locked{false};
    std::thread thread([&] {
      ASSERT_TRUE(life->lock_for_life());
      locked.store(true);
      written = round;
    });
    while (!locked.load()) std::this_thread::yield();
    while (life->alive()) futex_wait(life->watch(), Deadline::after(1ms));
    if (!kThreadSanitizer) {  // which does not know that the end of a thread releases
      EXPECT_EQ(written, round);
    }
    thread.join();
  }
}

}  // namespace
}  // namespace brood::detail::life_mutex_test
