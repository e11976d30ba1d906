// What the suites of CPython's pools and executors pin down and no other test here asks for. Names
// in brackets are theirs. What has no counterpart: warnings about pools that are dropped (the
// destructor ends them), reference cycles and garbage (there is none), a callable's exceptions that
// are false.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <brood/as_completed.hpp>
#include <brood/bind.hpp>
#include <brood/memory/objects.hpp>
#include <brood/platform/process_tree.hpp>
#include <brood/process.hpp>
#include <brood/process/family.hpp>
#include <brood/value.hpp>

#include "pool_test_support.hpp"

namespace pool_peer_suites_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Future;
using brood::Outcome;
using brood::Pool;
using brood::PoolClosed;
using brood::Process;
using brood::TaskCancelled;
using brood::Value;
using brood::WorkerCrashed;

class PoolPeerSuitesTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolPeerSuitesTest);

int same(int n) { return n; }
int power(int base, int exponent) {
  int result = 1;
  for (int i = 0; i < exponent; ++i) result *= base;
  return result;
}
int process_of(int) { return ::getpid(); }
int throw_one(int n) {
  if (n == 1) throw BadInput("one");
  return n;
}
int nap(int n) {
  ::usleep(1000);
  return n;
}

// [test_apply, test_submit, test_submit_keyword, test_async]
TEST_P(PoolPeerSuitesTest, ATaskGetsItsArguments) {
  Pool pool({.workers = 2});
  EXPECT_EQ(pool.apply(power, 2, 10), 1024);
  EXPECT_EQ(pool.submit(power, 3, 4).get(), 81);
  // Arguments that are said in advance are bound: there are no keywords.
  EXPECT_EQ(pool.submit(brood::bind(power, 5), 2).get(), 25);
}

// [test_map_async, test_starmap_async]
TEST_P(PoolPeerSuitesTest, TasksOneByOneGiveWhatAMapGives) {
  Pool pool({.workers = 2});
  std::vector<Future<int>> squares;
  for (int i = 0; i < 100; ++i) squares.push_back(pool.submit(power, i, 2));
  brood::wait_all(squares);
  std::vector<int> results;
  for (Future<int>& square : squares) results.push_back(square.get());
  EXPECT_EQ(results, pool.map([](int n) { return power(n, 2); }, first_integers(100)));
  const std::vector<std::pair<int, int>> pairs{{2, 3}, {3, 2}, {4, 1}};
  EXPECT_EQ(pool.starmap(power, pairs), (std::vector{8, 9, 4}));
}

// [test_map_async_callbacks, test_async_error_callback, test_done_callback_raises]
TEST_P(PoolPeerSuitesTest, EachOutcomeIsToldOnce) {
  Pool pool({.workers = 2});
  std::mutex mutex;
  std::vector<int> values;
  std::vector<std::string> failures;
  std::vector<Future<void>> told;
  for (int i = 0; i < 3; ++i) {
    told.push_back(pool.submit(throw_one, i).then([&](const Outcome<int>& outcome) {
      const std::scoped_lock guard(mutex);
      if (outcome) {
        values.push_back(*outcome);
      } else {
        failures.push_back(message_of(outcome.error()));
      }
      throw BadInput("a callback's own");
    }));
  }
  for (Future<void>& each : told) {
    EXPECT_EQ(message_of(thrown_by([&] { each.get(); })), "a callback's own");
  }
  std::sort(values.begin(), values.end());
  EXPECT_EQ(values, (std::vector{0, 2}));
  EXPECT_EQ(failures, (std::vector<std::string>{"one"}));
}

// [test_release_task_refs, test_no_stale_references, test_free_reference,
// test_ressources_gced_in_workers, test_free_reference_yielded_future]
TEST_P(PoolPeerSuitesTest, NobodyKeepsArgumentsAndResults) {
  Pool pool({.workers = 2});
  auto& objects = brood::detail::Family::require()->objects();
  const std::size_t before = objects.count();
  const auto back = [](const Value<int>& value) { return value; };
  {
    std::vector<Value<int>> values;
    for (int i = 0; i < 10; ++i) values.emplace_back(i);
    EXPECT_EQ(pool.map(back, values)[9].get(), 9);
    for (const Value<int>& value : pool.imap(back, values)) EXPECT_LT(value.get(), 10);
    EXPECT_EQ(pool.submit(back, values[3]).get().get(), 3);
    // A result that nobody fetches.
    static_cast<void>(pool.submit(back, values[4]));
  }
  // Nor the workers, without being given anything else to do. Where workers are forks no thread of
  // the pool's looks after what nobody waits for: the next call does.
  EXPECT_TRUE(eventually([&] {
    if (GetParam() == brood::StartMethod::fork) pool.apply(same, 1);
    return objects.count() <= before;
  })) << objects.count()
      << " objects, before " << before;
}

// [test_swallows_falsey_exceptions]
TEST_P(PoolPeerSuitesTest, AnExceptionWithoutTextIsOne) {
  Pool pool({.workers = 1});
  const auto silent = [](int) -> int { throw BadInput(""); };
  EXPECT_THROW(pool.apply(silent, 1), BadInput);
  EXPECT_THROW(pool.map(silent, first_integers(2)), BadInput);
}

// [test_map_timeout_from_callable]
TEST_P(PoolPeerSuitesTest, ATimeoutOfATasksOwnIsNotThePools) {
  Pool pool({.workers = 1});
  const auto late = [](int) -> int { throw brood::TimeoutError("its own"); };
  const std::exception_ptr error =
      thrown_by([&] { pool.with({.timeout = 10s, .deadline = 20s}).map(late, first_integers(1)); });
  EXPECT_FALSE(is_a<brood::TaskTimeout>(error));
  EXPECT_EQ(message_of(error), "its own");
}

// [test_map_buffersize_on_infinite_iterable, test_map_buffersize_on_multiple_infinite_iterables,
// test_map_buffersize_on_multiple_iterables, test_map_buffersize_on_empty_iterable,
// test_map_buffersize_without_iterable, test_map_buffersize_value_validation,
// test_map_buffersize_type_validation]
TEST_P(PoolPeerSuitesTest, EndlessInputsAreTakenAsFarAsTheWindow) {
  Pool pool({.workers = 2});
  int taken = 0;
  const auto numbers = std::views::iota(0) | std::views::transform([&](int n) {
                         ++taken;
                         return n;
                       });
  int next = 0;
  for (const int n : pool.with({.window = 3}).imap(same, numbers)) {
    EXPECT_EQ(n, next++);
    if (next == 10) break;
  }
  EXPECT_GE(taken, 10);
  EXPECT_LE(taken, 14);
  next = 0;
  for (const int n :
       pool.with({.window = 1})
           .imap(power, std::views::iota(0),
                 std::views::iota(0) | std::views::transform([](int) { return 2; }))) {
    EXPECT_EQ(n, next * next);
    if (++next == 10) break;
  }
  for ([[maybe_unused]] const int n : pool.with({.window = 1}).imap(same, std::vector<int>())) {
    ADD_FAILURE() << "of nothing comes nothing";
  }
}

// [test_saturation, test_idle_process_reuse_one, test_idle_process_reuse_multiple]
TEST_P(PoolPeerSuitesTest, ThereAreNeverMoreProcessesThanWorkers) {
  Pool pool({.workers = 3});
  const std::vector<int> pids = pool.worker_pids();
  const std::set<int> workers(pids.begin(), pids.end());
  EXPECT_EQ(workers.size(), 3U);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(workers.contains(pool.apply(process_of, i)));
  std::vector<Future<int>> futures;
  for (int i = 0; i < 500; ++i) futures.push_back(pool.submit(process_of, i));
  for (Future<int>& future : futures) EXPECT_TRUE(workers.contains(future.get()));
  EXPECT_EQ(pool.worker_pids(), pids);
  EXPECT_EQ(pool.counts().started, 3U);
}

// [test_pool_worker_lifetime_early_close, test_max_tasks_early_shutdown,
// test_shutdown_no_wait_max_tasks_gh119592, test_max_tasks_per_child_pending_tasks_gh115634]
TEST_P(PoolPeerSuitesTest, AClosedPoolThatReplacesItsWorkersFinishesItsWork) {
  for (const int workers : {1, 3}) {
    Pool pool({.workers = workers, .max_tasks_per_worker = 1});
    std::vector<Future<int>> futures;
    for (int i = 0; i < 12; ++i) futures.push_back(pool.submit(nap, i));
    pool.close();
    pool.join();
    for (int i = 0; i < 12; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
    EXPECT_TRUE(pool.worker_pids().empty());
  }
}

// [test_shutdown_gh_132969_case_1, test_shutdown_gh_132969_case_2]
TEST_P(PoolPeerSuitesTest, SoItDoesWhenTasksFail) {
  Pool pool({.workers = 1, .max_tasks_per_worker = 1});
  std::vector<Future<int>> futures;
  for (int i = 0; i < 4; ++i) futures.push_back(pool.submit(throw_one, i));
  pool.close();
  EXPECT_EQ(futures[0].get(), 0);
  EXPECT_THROW(futures[1].get(), BadInput);
  EXPECT_EQ(futures[2].get(), 2);
  EXPECT_EQ(futures[3].get(), 3);
  pool.join();
}

// [test_gc_during_max_tasks_worker_exit_gh152967,
// test_force_shutdown_during_max_tasks_worker_exit, test_processes_terminate]
TEST_P(PoolPeerSuitesTest, ThePoolsEndFailsWhatIsLeftAndNoReplacementEscapes) {
  for (int round = 0; round < 5; ++round) {
    std::vector<Future<int>> futures;
    {
      Pool pool({.workers = 2, .max_tasks_per_worker = 1});
      for (int i = 0; i < 50; ++i) futures.push_back(pool.submit(process_of, i));
      futures[static_cast<std::size_t>(round)].wait();
    }
    std::set<int> pids;
    for (Future<int>& future : futures) {
      const std::exception_ptr error = thrown_by([&] { pids.insert(future.get()); });
      EXPECT_TRUE(!error || is_a<TaskCancelled>(error)) << message_of(error);
    }
    for (const int pid : pids) EXPECT_TRUE(eventually([&] { return process_ended(pid); })) << pid;
    EXPECT_TRUE(brood::active_children().empty());
  }
}

// [test_force_shutdown_workers_dead_workers]
TEST_P(PoolPeerSuitesTest, DeadWorkersAreEndedWithoutAnError) {
  Pool pool({.workers = 2});
  for (const int pid : pool.worker_pids()) ::kill(pid, SIGKILL);
  pool.terminate();
  pool.join();
  EXPECT_THROW(pool.apply(same, 1), PoolClosed);
}

// [test_shutdown_race_issue12456, test_hang_gh94440, test_cancel_futures]
TEST_P(PoolPeerSuitesTest, AFullQueueAndCancelledTasksDoNotHoldUpTheEnd) {
  Pool pool({.workers = 2});
  std::vector<Future<int>> futures;
  for (int i = 0; i < 3000; ++i) futures.push_back(pool.submit(same, i));
  std::size_t cancelled = 0;
  for (std::size_t i = 2000; i < 3000; ++i) cancelled += futures[i].cancel() ? 1 : 0;
  pool.close();
  pool.join();
  std::size_t failed = 0;
  for (std::size_t i = 0; i < 3000; ++i) {
    EXPECT_TRUE(futures[i].ready());
    const std::exception_ptr error =
        thrown_by([&] { EXPECT_EQ(futures[i].get(), static_cast<int>(i)); });
    if (!error) continue;
    EXPECT_TRUE(i >= 2000 && is_a<TaskCancelled>(error)) << i << ": " << message_of(error);
    ++failed;
  }
  EXPECT_EQ(failed, cancelled);
}

struct NotWritten {
  template <class Archive>
  void save(Archive&) const {
    throw BadInput("not written");
  }
  template <class Archive>
  void load(Archive&) {}
};

// [test_shutdown_deadlock_pickle]
TEST_P(PoolPeerSuitesTest, AnArgumentThatCannotBeWrittenDoesNotHoldUpTheEnd) {
  Pool pool({.workers = 2});
  Future<int> before = pool.submit(nap, 4);
  EXPECT_THROW(static_cast<void>(pool.submit([](const NotWritten&) {}, NotWritten())), BadInput);
  pool.close();
  pool.join();
  EXPECT_EQ(before.get(), 4);
}

// [test_first_exception, test_first_exception_some_already_complete,
// test_first_exception_one_already_failed, test_pending_calls_race]
TEST_P(PoolPeerSuitesTest, TheFirstFailureEndsTheWait) {
  Pool pool({.workers = 2});
  const std::string never = dir_.file("never");
  std::vector<Future<int>> futures;
  for (int i = 0; i < 100; ++i) futures.push_back(pool.submit(throw_one, i == 50 ? 1 : 2));
  futures.push_back(pool.submit(
      [](const std::string& sign) {
        await_sign(sign);
        return 0;
      },
      never));
  std::exception_ptr first;
  std::size_t seen = 0;
  for (Future<int>& future : brood::as_completed(futures)) {
    ++seen;
    first = thrown_by([&] { future.get(); });
    if (first) break;
  }
  EXPECT_TRUE(is_a<BadInput>(first)) << message_of(first);
  EXPECT_LE(seen, 100U);
  give_sign(never);
  EXPECT_EQ(futures.back().get(), 0);
}

// [test_release_unused_processes]
TEST_P(PoolPeerSuitesTest, IfNotAllWorkersCanBeStartedNoneIsLeft) {
  constexpr int kWorkers = 40;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(0);
  ::close(next);
  const rlimit few{static_cast<rlim_t>(next) + 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const std::exception_ptr error = thrown_by([&] { Pool pool({.workers = kWorkers}); });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(is_a<brood::Error>(error)) << message_of(error);
  EXPECT_NE(message_of(error).find("descriptor"), std::string::npos) << message_of(error);
  EXPECT_TRUE(brood::active_children().empty());
  EXPECT_TRUE(eventually([&] {
    for (const int child : brood::detail::children_of(::getpid())) {
      if (read_file("/proc/" + std::to_string(child) + "/comm").starts_with("brood-worker")) {
        return false;
      }
    }
    return true;
  }));
  EXPECT_EQ(Pool({.workers = 2}).apply(same, 3), 3);
}

// [test_submit_after_interpreter_shutdown, test_python_finalization_error, test_hang_gh83386,
// test_worker_finalization_via_atexit_handler_of_multiprocessing]
TEST_P(PoolPeerSuitesTest, APoolThatIsUsedWhileItsProcessExitsHoldsUpNothing) {
  static Pool* forgotten = nullptr;
  Process child([] {
    forgotten = new Pool({.workers = 2});
    if (forgotten->apply(same, 1) != 1) ::_exit(4);
    std::atexit([] {
      try {
        if (forgotten->apply(same, 2) != 2) ::_exit(5);
      } catch (const brood::Error&) {
        return;
      }
    });
    std::exit(0);
  });
  child.start();
  ASSERT_TRUE(child.join(20s));
  EXPECT_EQ(child.exitcode(), 0);
}

}  // namespace
}  // namespace pool_peer_suites_test
