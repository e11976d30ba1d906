// Workers that are killed from outside at any time: idle, busy, all at once, again and again.
// Not for ThreadSanitizer: processes that are killed.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <random>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>

#include "pool_test_support.hpp"
#include "support/proof.hpp"

namespace pool_kills_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Pool;
using brood::StartMethod;
using brood::WorkerCrashed;

class PoolKillsTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolKillsTest);

int same(int n) { return n; }

/// Kills a process and waits until the kernel has ended it.
void kill_and_see(int pid) {
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return process_ended(pid); })) << pid;
}

// [test_killed_child]
TEST_P(PoolKillsTest, AnIdleWorkerIsReplaced) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    EXPECT_EQ(pool.map(same, first_integers(50)), first_integers(50));
    for (int round = 0; round < 3; ++round) {
      const std::vector<int> pids = pool.worker_pids();
      kill_and_see(pids[static_cast<std::size_t>(round) % pids.size()]);
      EXPECT_EQ(pool.map(same, first_integers(50)), first_integers(50));
      EXPECT_EQ(pool.apply(same, 3), 3);
    }
    EXPECT_TRUE(eventually([&] {
      pool.apply(same, 1);
      return all_live(pool);
    }));
  }
}

TEST_P(PoolKillsTest, AllIdleWorkersAtOnceAreReplaced) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    for (int round = 0; round < 3; ++round) {
      for (const int pid : pool.worker_pids()) ::kill(pid, SIGKILL);
      EXPECT_EQ(pool.map(same, first_integers(50)), first_integers(50));
      for (const int pid : pool.worker_pids()) ::kill(pid, SIGKILL);
      EXPECT_EQ(pool.apply(same, 7), 7);
    }
  }
}

TEST_P(PoolKillsTest, AllBusyWorkersAtOnceCostTheirItems) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    const std::string busy = dir_.file("busy" + std::to_string(workers));
    const std::string go = dir_.file("go" + std::to_string(workers));
    const auto hold = [](std::string sign, std::string open, int n) {
      if (sign_given(open)) return n;
      give_sign(sign);
      for (;;) ::pause();
    };
    std::vector<brood::Future<int>> futures;
    for (int i = 0; i < 3 * workers; ++i) futures.push_back(pool.submit(hold, busy, go, i));
    ASSERT_TRUE(
        eventually([&] { return read_file(busy).size() == static_cast<std::size_t>(workers); }));
    give_sign(go);
    for (const int pid : pool.worker_pids()) ::kill(pid, SIGKILL);
    int crashed = 0;
    for (int i = 0; i < 3 * workers; ++i) {
      const std::exception_ptr error =
          thrown_by([&] { EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i); });
      if (!error) continue;
      ++crashed;
      EXPECT_EQ(as<WorkerCrashed>(error).signal(), SIGKILL);
    }
    EXPECT_EQ(crashed, workers);
    EXPECT_TRUE(all_live(pool));
  }
}

// Of the tasks that dead workers had taken, more than there are places for them come back at once.
TEST_P(PoolKillsTest, TasksThatComeBackWhenThereIsNoRoomAreNotForgotten) {
  Pool pool({.workers = 2});
  const auto again = pool.with({.retries = 3});
  const auto dies_at_first = [](std::string sign) {
    if (sign_given(sign)) return 1;
    give_sign(sign);
    ::raise(SIGKILL);
    return 0;
  };
  const auto submit = [&](const std::string& name) {
    return again.submit(dies_at_first, dir_.file(name));
  };
  // As many deaths, but one after the other.
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(submit("one." + std::to_string(i)).get(), 1);
  const auto usual = std::chrono::steady_clock::now() - begin;
  // What is forgotten is found again when the family looks around, which it does once a second.
  int quick = 0;
  std::string seen;
  for (int round = 0; round < 10; ++round) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<brood::Future<int>> futures;
    for (int i = 0; i < 40; ++i) {
      futures.push_back(submit(std::to_string(round) + "." + std::to_string(i / 2)));
    }
    for (brood::Future<int>& future : futures) EXPECT_EQ(future.get(), 1);
    const auto took = std::chrono::steady_clock::now() - start;
    if (took < usual + 500ms) ++quick;
    seen += std::to_string(took / 1ms) + " ";
  }
  EXPECT_GE(quick, kAddressSanitizer ? 0 : 5) << seen << "ms, usual " << usual / 1ms;
}

using Clock = std::chrono::steady_clock;

/// How long to leave workers alone between kills: about as long as they took to come to work on
/// this machine, or a pool whose workers die again and again before they can begin gives up.
Clock::duration kill_period(const Pool& pool, Clock::time_point made) {
  pool.map(same, first_integers(100));
  return std::max<Clock::duration>(Clock::now() - made, 10ms);
}

/// Kills a random worker in every period while it lives.
class Killer {
 public:
  Killer(const Pool& pool, Clock::duration period) : pool_(pool) {
    thread_ = std::jthread([this, period](std::stop_token stop) {
      std::mt19937 random(12345);
      while (!stop.stop_requested()) {
        const std::vector<int> pids = pool_.worker_pids();
        if (!pids.empty() && ::kill(pids[random() % pids.size()], SIGKILL) == 0) ++kills_;
        std::this_thread::sleep_for(period);
      }
    });
  }
  [[nodiscard]] int kills() const { return kills_; }

 private:
  const Pool& pool_;
  std::atomic<int> kills_{0};
  std::jthread thread_;
};

/// About 20 us of work.
std::uint64_t hash_often(int n) {
  auto value = static_cast<std::uint64_t>(n) + 1;
  for (int i = 0; i < 8000; ++i) value = value * 6364136223846793005U + 1442695040888963407U;
  return value;
}
/// A million with BROOD_PROVE=1, in which some thousand workers are killed.
int storm_items() { return prove_everything() ? 1'000'000 : 20'000; }

// A thread beside the pool's owner kills, so that this is not for fork.
StartMethod threaded(StartMethod method) {
  return method == StartMethod::fork ? StartMethod::forkserver : method;
}

TEST_P(PoolKillsTest, AStormOfKillsChangesNoResultWhenItemsAreRetried) {
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "fork is refused beside other threads";
  const int items = storm_items();
  for (const int workers : {2, 5}) {
    for (const std::size_t chunk : {std::size_t{0}, std::size_t{1}}) {
      const auto start = Clock::now();
      Pool pool({.workers = workers, .start_method = threaded(GetParam())});
      const auto period = kill_period(pool, start);
      std::vector<std::uint64_t> results;
      int kills = 0;
      {
        const Killer killer(pool, period);
        results = pool.with({.chunk = chunk, .retries = 1000})
                      .map(hash_often, std::views::iota(0, items));
        kills = killer.kills();
      }
      ASSERT_EQ(results.size(), static_cast<std::size_t>(items));
      int wrong = 0;
      for (int i = 0; i < items; ++i) {
        wrong += results[static_cast<std::size_t>(i)] == hash_often(i) ? 0 : 1;
      }
      EXPECT_EQ(wrong, 0);
      EXPECT_GT(kills, 0);
      EXPECT_EQ(pool.map(same, first_integers(100)), first_integers(100));
    }
  }
}

TEST_P(PoolKillsTest, AStormOfKillsCostsTheItemsInHand) {
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "fork is refused beside other threads";
  const int items = storm_items();
  const auto start = Clock::now();
  Pool pool({.workers = 2, .start_method = threaded(GetParam())});
  const auto period = kill_period(pool, start);
  std::vector<brood::Outcome<std::uint64_t>> outcomes;
  int kills = 0;
  {
    const Killer killer(pool, period);
    outcomes = pool.try_map(hash_often, std::views::iota(0, items));
    kills = killer.kills();
  }
  ASSERT_EQ(outcomes.size(), static_cast<std::size_t>(items));
  int failed = 0;
  int wrong = 0;
  for (int i = 0; i < items; ++i) {
    const auto& outcome = outcomes[static_cast<std::size_t>(i)];
    if (outcome) {
      wrong += *outcome == hash_often(i) ? 0 : 1;
    } else {
      ++failed;
      const auto crash = as<WorkerCrashed>(outcome.error());
      EXPECT_EQ(crash.item(), static_cast<std::size_t>(i));
      EXPECT_EQ(crash.signal(), SIGKILL);
    }
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(failed, kills);
}

TEST_P(PoolKillsTest, AStormOfKillsCostsTasksButNoneIsLost) {
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "fork is refused beside other threads";
  const auto start = Clock::now();
  Pool pool({.workers = 2, .start_method = threaded(GetParam())});
  const auto period = kill_period(pool, start);
  std::vector<brood::Future<std::string>> futures;
  int kills = 0;
  int failed = 0;
  {
    const Killer killer(pool, period);
    for (int i = 0; i < 5000; ++i) {
      futures.push_back(pool.submit(
          [](int n) { return std::string(static_cast<std::size_t>(hash_often(n) % 1000), 'x'); },
          i));
    }
    for (int i = 0; i < 5000; ++i) {
      auto& future = futures[static_cast<std::size_t>(i)];
      const std::exception_ptr error =
          thrown_by([&] { EXPECT_EQ(future.get().size(), hash_often(i) % 1000); });
      if (!error) continue;
      ++failed;
      EXPECT_TRUE(is_a<WorkerCrashed>(error)) << message_of(error);
    }
    kills = killer.kills();
  }
  EXPECT_LE(failed, kills);
}

TEST_P(PoolKillsTest, AStoppedWorkerIsWaitedForAndLosesNothing) {
  Pool pool({.workers = 2});
  const std::string held = dir_.file("held");
  const std::string go = dir_.file("go");
  auto future = pool.submit(
      [](std::string sign, std::string open) {
        write_file(sign + ".part", std::to_string(::getpid()));
        std::filesystem::rename(sign + ".part", sign);
        await_sign(open);
        return ::getpid();
      },
      held, go);
  await_sign(held);
  const int pid = std::stoi(read_file(held));
  const std::vector<int> before = pool.worker_pids();
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return process_state(pid) == 'T'; }));
  give_sign(go);
  EXPECT_EQ(pool.map(same, first_integers(1000)), first_integers(1000)) << "the other does it all";
  EXPECT_FALSE(future.wait(50ms));
  EXPECT_EQ(pool.worker_pids(), before) << "a stopped worker is not a dead one";
  ASSERT_EQ(::kill(pid, SIGCONT), 0);
  EXPECT_EQ(future.get(), pid);
  EXPECT_EQ(pool.worker_pids(), before);
}

TEST_P(PoolKillsTest, AnIdleWorkerThatIsStoppedHoldsUpNoMap) {
  auto fastest = std::chrono::steady_clock::duration::max();
  for (int round = 0; round < 6; ++round) {
    Pool pool({.workers = 2});
    EXPECT_EQ(pool.map(same, first_integers(50)), first_integers(50));
    const int pid = pool.worker_pids()[static_cast<std::size_t>(round) % 2];
    // Asleep, so that it is one of those that a map wakes.
    ASSERT_TRUE(eventually([&] { return process_state(pid) == 'S'; }));
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    ASSERT_TRUE(eventually([&] { return process_state(pid) == 'T'; }));
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(pool.map(same, first_integers(1000)), first_integers(1000));
    // The pool wakes the first worker, and that one the second.
    if (round % 2 == 0) fastest = std::min(fastest, std::chrono::steady_clock::now() - start);
    ASSERT_EQ(::kill(pid, SIGCONT), 0);
  }
  EXPECT_LT(fastest, 500ms) << "the other one was not woken, but looked by itself after a second";
}

TEST_P(PoolKillsTest, AWorkerThatIsStoppedAndContinuedAllTheTimeLosesNothing) {
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "fork is refused beside other threads";
  constexpr int kItems = 20'000;
  Pool pool({.workers = 2, .start_method = threaded(GetParam())});
  const std::vector<int> pids = pool.worker_pids();
  std::vector<std::uint64_t> results;
  {
    std::jthread stopper([&](std::stop_token stop) {
      while (!stop.stop_requested()) {
        for (const int pid : pids) {
          ::kill(pid, SIGSTOP);
          std::this_thread::sleep_for(1ms);
          ::kill(pid, SIGCONT);
        }
      }
    });
    results = pool.map(hash_often, std::views::iota(0, kItems));
  }
  int wrong = 0;
  for (int i = 0; i < kItems; ++i) {
    wrong += results[static_cast<std::size_t>(i)] == hash_often(i) ? 0 : 1;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(pool.worker_pids(), pids);
}

TEST_P(PoolKillsTest, AWorkerThatCannotBeReplacedIsLaterOn) {
  Pool pool({.workers = 2});
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(0);
  ::close(next);
  const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
  const std::vector<int> pids = pool.worker_pids();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  ::kill(pids[0], SIGKILL);
  while (::kill(pids[0], 0) == 0 && pool.worker_pids().size() == 2)
    std::this_thread::sleep_for(1ms);
  const auto results = pool.map(same, first_integers(100));
  const std::size_t left = pool.worker_pids().size();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(results, first_integers(100));
  EXPECT_LE(left, 2u);
  EXPECT_EQ(pool.map(same, first_integers(100)), first_integers(100));
  EXPECT_TRUE(all_live(pool)) << "a call after the shortage starts what is missing";
}

// [test_failed_worker_replacement_breaks_pool]
TEST_P(PoolKillsTest, WhenNoWorkerIsLeftAndNoneCanBeStartedWaitersAreTold) {
  Pool pool({.workers = 1});
  const std::string busy = dir_.file("busy");
  auto future = pool.submit(
      [](std::string sign) {
        give_sign(sign);
        for (;;) ::pause();
      },
      busy);
  auto behind = pool.submit(same, 3);
  await_sign(busy);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{3, before.rlim_max};  // what the dead worker leaves is not enough either
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  ::kill(pool.worker_pids().at(0), SIGKILL);
  const std::exception_ptr first = thrown_by([&] { future.get(); });
  const std::exception_ptr second = thrown_by([&] { behind.get(); });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(is_a<WorkerCrashed>(first)) << message_of(first);
  EXPECT_TRUE(is_a<brood::WorkerLost>(second)) << message_of(second);
  EXPECT_NE(message_of(second).find("descriptor"), std::string::npos) << message_of(second);
}

}  // namespace
}  // namespace pool_kills_test
