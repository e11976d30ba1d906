// How a pool ends: close, join, terminate, destructor, and what becomes of the work. Names in
// brackets are the tests of CPython's suites that ask for the same.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <brood/process.hpp>

#include "pool_test_support.hpp"

namespace pool_lifetime_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Pool;
using brood::PoolClosed;
using brood::StateError;
using brood::TaskCancelled;
using Clock = std::chrono::steady_clock;

/// Workers that do not end by themselves are killed after less than a second.
constexpr auto kSoon = kAddressSanitizer ? 10s : 2s;

class PoolLifetimeTest : public PoolTest {
 protected:
  /// All of them ended.
  static bool all_ended(const std::vector<int>& pids) {
    return eventually([&] {
      for (const int pid : pids) {
        if (!process_ended(pid)) return false;
      }
      return true;
    });
  }
};
BROOD_UNDER_EVERY_START_METHOD(PoolLifetimeTest);

int same(int n) { return n; }
void sleep_long(int) { std::this_thread::sleep_for(std::chrono::hours(1)); }
int wait_for(std::string sign, int n) {
  await_sign(sign);
  return n;
}

// [test_context, test_enter, test_run_after_shutdown, test_force_shutdown_workers_stops_pool]
TEST_P(PoolLifetimeTest, StatesAllowWhatTheTableSays) {
  Pool pool({.workers = 2});
  EXPECT_THROW(pool.join(), StateError);
  pool.close();
  pool.close();
  EXPECT_THROW(pool.map(same, first_integers(3)), PoolClosed);
  EXPECT_THROW(static_cast<void>(pool.submit(same, 1)), PoolClosed);
  EXPECT_THROW(pool.map(same, std::vector<int>()), PoolClosed);
  pool.join();
  pool.join();
  EXPECT_TRUE(pool.worker_pids().empty());
  pool.terminate();
  pool.terminate();
  pool.join();
  EXPECT_THROW(pool.map(same, first_integers(3)), PoolClosed);

  Pool other({.workers = 2});
  other.terminate();
  EXPECT_THROW(other.apply(same, 1), PoolClosed);
  EXPECT_THROW(other.map(same, first_integers(3)), PoolClosed);
  other.close();
  EXPECT_THROW(other.apply(same, 1), PoolClosed) << "closing does not revive it";
  other.join();
}

// [test_hang_issue12364, test_interpreter_shutdown, test_context_manager_shutdown]
TEST_P(PoolLifetimeTest, AClosedPoolFinishesItsWork) {
  Pool pool({.workers = 2});
  const std::string go = dir_.file("go");
  std::vector<brood::Future<int>> futures;
  for (int i = 0; i < 500; ++i) futures.push_back(pool.submit(wait_for, go, i));
  pool.close();
  give_sign(go);
  pool.join();
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(futures[static_cast<std::size_t>(i)].ready());
    EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
  }
}

TEST_P(PoolLifetimeTest, AWorkerKilledAfterCloseIsReplacedForTheRestOfTheWork) {
  // [test_shutdown_deadlock]
  Pool pool({.workers = 1});
  const std::string busy = dir_.file("busy");
  auto first = pool.submit(
      [](std::string sign) {
        give_sign(sign);
        for (;;) ::pause();
      },
      busy);
  std::vector<brood::Future<int>> rest;
  for (int i = 0; i < 50; ++i) rest.push_back(pool.submit(same, i));
  await_sign(busy);
  pool.close();
  ::kill(pool.worker_pids().at(0), SIGKILL);
  pool.join();
  EXPECT_THROW(first.get(), brood::WorkerCrashed);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(rest[static_cast<std::size_t>(i)].get(), i);
}

// [test_terminate, test_terminate_workers, test_kill_workers, test_force_shutdown_workers]
TEST_P(PoolLifetimeTest, TerminateCancelsWhatIsNotDone) {
  Pool pool({.workers = 2});
  auto done = pool.submit(same, 5);
  done.wait();
  std::vector<brood::Future<void>> futures;
  for (int i = 0; i < 10'000; ++i) futures.push_back(pool.submit(sleep_long, i));
  const std::vector<int> pids = pool.worker_pids();
  const auto begin = Clock::now();
  pool.terminate();
  EXPECT_LT(Clock::now() - begin, kSoon);
  EXPECT_TRUE(all_ended(pids));
  pool.join();
  EXPECT_EQ(done.get(), 5);
  for (auto& future : futures) {
    ASSERT_TRUE(future.ready());
    EXPECT_THROW(future.get(), TaskCancelled);
  }
}

// [test_resource_warning: nobody need be warned]
TEST_P(PoolLifetimeTest, TheDestructorEndsWhateverWorkersDo) {
  std::vector<int> pids;
  const std::string deaf = dir_.file("deaf");
  const auto begin = [&] {
    const Pool pool({.workers = 2});
    pids = pool.worker_pids();
    for (int i = 0; i < 2; ++i) {
      static_cast<void>(pool.submit(
          [](std::string sign) {
            ::signal(SIGTERM, SIG_IGN);
            give_sign(sign);
            for (;;) asm volatile("");  // busy, and not to be optimised away
          },
          deaf));
    }
    EXPECT_TRUE(eventually([&] { return read_file(deaf).size() == 2; }));
    return Clock::now();
  }();
  EXPECT_LT(Clock::now() - begin, kSoon);
  EXPECT_TRUE(all_ended(pids));
}

TEST_P(PoolLifetimeTest, TheDestructorEndsStoppedWorkers) {
  std::vector<int> pids;
  const auto begin = [&] {
    const Pool pool({.workers = 2});
    EXPECT_EQ(pool.map(same, first_integers(10)), first_integers(10));
    pids = pool.worker_pids();
    for (const int pid : pids) ::kill(pid, SIGSTOP);
    for (const int pid : pids) {
      EXPECT_TRUE(eventually([&] { return process_state(pid) == 'T'; }));
    }
    return Clock::now();
  }();
  EXPECT_LT(Clock::now() - begin, kSoon);
  EXPECT_TRUE(all_ended(pids));
}

// [test_force_shutdown_workers_not_started_yet]
TEST_P(PoolLifetimeTest, AnUnusedPoolEndsAtOnce) {
  for (int i = 0; i < 5; ++i) {
    const auto begin = Clock::now();
    { const Pool pool({.workers = 3}); }
    EXPECT_LT(Clock::now() - begin, kSoon);
  }
}

// [test_del_shutdown, test_shutdown_no_wait]
TEST_P(PoolLifetimeTest, FuturesOutliveThePool) {
  std::optional<brood::Future<std::string>> done;
  std::optional<brood::Future<void>> never;
  std::optional<brood::Future<std::string>> dropped;
  {
    Pool pool({.workers = 2});
    const auto text = [](int n) { return std::string(static_cast<std::size_t>(n), 'x'); };
    done = pool.submit(text, 100'000);
    dropped = pool.submit(text, 1000);
    never = pool.submit(sleep_long, 1);
    done->wait();
    dropped->wait();
  }
  EXPECT_EQ(done->get(), std::string(100'000, 'x'));
  EXPECT_THROW(never->get(), TaskCancelled);
  EXPECT_TRUE(dropped->ready());
}

TEST_P(PoolLifetimeTest, CallersOutliveThePoolButNotItsWorkers) {
  std::optional<Pool> pool(std::in_place, brood::PoolOptions{.workers = 1});
  const brood::PoolCaller caller = pool->with({.chunk = 2});
  EXPECT_EQ(caller.map(same, first_integers(5)), first_integers(5));
  pool.reset();
  EXPECT_THROW(caller.map(same, first_integers(5)), PoolClosed);
}

TEST_P(PoolLifetimeTest, PoolsMove) {
  Pool pool({.workers = 2});
  const std::vector<int> first = pool.worker_pids();
  Pool moved = std::move(pool);
  EXPECT_EQ(moved.worker_pids(), first);
  EXPECT_EQ(moved.map(same, first_integers(5)), first_integers(5));
  EXPECT_THROW(pool.map(same, first_integers(5)), StateError);
  moved = Pool({.workers = 1});
  EXPECT_TRUE(all_ended(first)) << "what it was is terminated";
  EXPECT_EQ(moved.map(same, first_integers(5)), first_integers(5));
}

TEST_P(PoolLifetimeTest, TerminateFromAnotherThreadEndsAMap) {
  if (GetParam() == brood::StartMethod::fork) GTEST_SKIP() << "threads and fork do not go together";
  Pool pool({.workers = 2});
  const std::string busy = dir_.file("busy");
  std::exception_ptr error;
  {
    const std::jthread mapping([&] {
      error = thrown_by([&] {
        pool.map(brood::bind(
                     [](std::string sign, int) {
                       give_sign(sign);
                       for (;;) ::pause();
                     },
                     busy),
                 first_integers(100));
      });
    });
    await_sign(busy);
    pool.terminate();
  }
  EXPECT_TRUE(is_a<TaskCancelled>(error)) << message_of(error);
}

TEST_P(PoolLifetimeTest, WorkersEndWithAProcessThatForgetsItsPool) {
  const std::string out = dir_.file("pids");
  brood::Process child(
      [](std::string path) {
        static auto* forgotten = new Pool({.workers = 2});
        std::string pids;
        for (const int pid : forgotten->worker_pids()) pids += std::to_string(pid) + " ";
        static_cast<void>(forgotten->submit(sleep_long, 1));
        write_file(path, pids);
      },
      out);
  child.start().join();
  EXPECT_EQ(child.exitcode(), 0);
  std::istringstream text(read_file(out));
  std::vector<int> pids;
  for (int pid = 0; text >> pid;) pids.push_back(pid);
  ASSERT_EQ(pids.size(), 2u);
  EXPECT_TRUE(all_ended(pids));
}

TEST_P(PoolLifetimeTest, ManyPoolsComeAndGo) {
  const auto& extents = brood::detail::Family::require()->segment().extents();
  const std::size_t before = extents.used_bytes();
  for (int i = 0; i < 20; ++i) {
    const Pool pool({.workers = 2});
    EXPECT_EQ(pool.map(same, first_integers(i)), first_integers(i));
    EXPECT_EQ(pool.apply([](int n) { return std::string(static_cast<std::size_t>(n), 'x'); }, i),
              std::string(static_cast<std::size_t>(i), 'x'));
  }
  EXPECT_LE(extents.used_bytes(), before + (std::size_t{8} << 20U));
}

}  // namespace
}  // namespace pool_lifetime_test
