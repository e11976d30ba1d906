// Limits of single calls: time, attempts, deadlines, priorities, cancellation.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <new>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <brood/array.hpp>
#include <brood/bind.hpp>
#include <brood/value.hpp>

#include "pool_test_support.hpp"

namespace pool_limits_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::ArgumentError;
using brood::Array;
using brood::Future;
using brood::MemoryLimitExceeded;
using brood::Outcome;
using brood::Pool;
using brood::TaskCancelled;
using brood::TaskTimeout;
using brood::Value;
using brood::WorkerCrashed;
using Clock = std::chrono::steady_clock;

/// Instrumented code and processes are slow to begin and to end.
constexpr auto kLimit = kAddressSanitizer ? 400ms : 100ms;

class PoolLimitsTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolLimitsTest);

[[noreturn]] void stuck() {
  for (;;) asm volatile("");
}
int stuck_at_three(int n) {
  if (n == 3) stuck();
  return n;
}

// --- timeout ---------------------------------------------------------------------------------

TEST_P(PoolLimitsTest, NativeCodeThatIsStuckIsStoppedAndCostsNoOtherItem) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    for (const std::size_t chunk : {1U, 4U, 50U}) {
      SCOPED_TRACE(chunk);
      const auto start = Clock::now();
      const auto outcomes = pool.with({.chunk = chunk, .timeout = kLimit})
                                .try_map(stuck_at_three, first_integers(50));
      const auto took = Clock::now() - start;
      for (int i = 0; i < 50; ++i) {
        const Outcome<int>& outcome = outcomes[static_cast<std::size_t>(i)];
        if (i == 3) {
          EXPECT_TRUE(is_a<TaskTimeout>(outcome.error())) << message_of(outcome.error());
          EXPECT_NE(message_of(outcome.error()).find("item 3"), std::string::npos)
              << message_of(outcome.error());
        } else {
          ASSERT_TRUE(outcome.has_value()) << i << ": " << message_of(outcome.error());
          EXPECT_EQ(*outcome, i);
        }
      }
      EXPECT_GE(took, kLimit);
      EXPECT_LT(took, kLimit + 5s);
    }
  }
}

TEST_P(PoolLimitsTest, WhoIgnoresTermIsKilled) {
  Pool pool({.workers = 2});
  const auto deaf = [](int n) {
    if (n == 1) {
      ::signal(SIGTERM, SIG_IGN);
      stuck();
    }
    return n;
  };
  const auto outcomes = pool.with({.chunk = 1, .timeout = kLimit}).try_map(deaf, first_integers(4));
  EXPECT_TRUE(is_a<TaskTimeout>(outcomes[1].error())) << message_of(outcomes[1].error());
  for (const std::size_t i : {0U, 2U, 3U}) EXPECT_TRUE(outcomes[i].has_value()) << i;
}

TEST_P(PoolLimitsTest, WhatAnItemHasStartedEndsWithIt) {
  Pool pool({.workers = 2});
  const std::string pids = dir_.file("pids");
  const auto starts = [](std::string file, int n) {
    if (n != 1) return n;
    // A child, and a grandchild that left its parent as daemons do.
    for (const bool daemon : {false, true}) {
      const int child = ::fork();
      if (child == 0) {
        if (daemon) {
          ::setsid();
          if (::fork() != 0) ::_exit(0);
        }
        std::ofstream(file, std::ios::app) << ::getpid() << std::endl;
        for (;;) ::pause();
      }
    }
    for (;;) ::pause();
  };
  const auto outcomes = pool.with({.chunk = 1, .timeout = 3 * kLimit})
                            .try_map(brood::bind(starts, pids), first_integers(6));
  EXPECT_TRUE(is_a<TaskTimeout>(outcomes[1].error())) << message_of(outcomes[1].error());
  std::istringstream started(read_file(pids));
  std::vector<int> all;
  for (int pid = 0; started >> pid;) all.push_back(pid);
  ASSERT_EQ(all.size(), 2U) << read_file(pids);
  for (const int pid : all) EXPECT_TRUE(eventually([&] { return process_ended(pid); })) << pid;
}

TEST_P(PoolLimitsTest, ATaskIsStoppedThoughNobodyWaitsForIt) {
  Pool pool({.workers = 2});
  Future<int> hung = pool.with({.timeout = kLimit}).submit(stuck_at_three, 3);
  Future<int> fine = pool.with({.timeout = 1h}).submit(stuck_at_three, 4);
  EXPECT_TRUE(eventually([&] { return hung.ready() && fine.ready(); }));
  EXPECT_TRUE(is_a<TaskTimeout>(thrown_by([&] { hung.get(); })));
  EXPECT_EQ(fine.get(), 4);
  EXPECT_EQ(pool.apply(stuck_at_three, 5), 5);
}

TEST_P(PoolLimitsTest, TheTimeOfAnItemCountsFromItsOwnBeginning) {
  Pool pool({.workers = 1});
  // Together they take much longer than each may.
  const auto nap = [](int n) {
    std::this_thread::sleep_for(kLimit / 4);
    return n;
  };
  EXPECT_EQ(pool.with({.timeout = kLimit}).map(nap, first_integers(12)), first_integers(12));
  std::vector<Future<int>> futures;
  for (int i = 0; i < 12; ++i) futures.push_back(pool.with({.timeout = kLimit}).submit(nap, i));
  for (int i = 0; i < 12; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
}

TEST_P(PoolLimitsTest, CpuTimeIsLimitedAndSleepIsNotCpuTime) {
  Pool pool({.workers = 2});
  const auto work = [](int n) {
    if (n == 1) stuck();
    std::this_thread::sleep_for(3 * kLimit);
    return n;
  };
  const auto outcomes =
      pool.with({.chunk = 1, .cpu_time = kLimit}).try_map(work, first_integers(3));
  EXPECT_TRUE(outcomes[0].has_value()) << message_of(outcomes[0].error());
  EXPECT_NE(message_of(outcomes[1].error()).find("CPU time"), std::string::npos)
      << message_of(outcomes[1].error());
  EXPECT_TRUE(outcomes[2].has_value()) << message_of(outcomes[2].error());
}

// --- memory ----------------------------------------------------------------------------------

constexpr std::size_t kMiB = std::size_t{1} << 20U;

int greedy_at_three(int n) {
  std::vector<char> memory;
  memory.reserve((n == 3 ? 400 : 10) * kMiB);  // to ask is enough
  memory.push_back('x');
  return memory[0] == 'x' ? n : -1;
}

TEST_P(PoolLimitsTest, AnItemThatAsksForTooMuchMemoryFailsAlone) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has a memory management of its own";
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    for (const std::size_t chunk : {0U, 1U, 8U}) {
      SCOPED_TRACE(chunk);
      const auto outcomes = pool.with({.chunk = chunk, .memory = 100 * kMiB})
                                .try_map(greedy_at_three, first_integers(8));
      for (int n = 0; n < 8; ++n) {
        const auto& outcome = outcomes[static_cast<std::size_t>(n)];
        if (n != 3) {
          ASSERT_TRUE(outcome.has_value()) << n << ": " << message_of(outcome.error());
          EXPECT_EQ(outcome.value(), n);
          continue;
        }
        ASSERT_TRUE(is_a<MemoryLimitExceeded>(outcome.error())) << message_of(outcome.error());
        EXPECT_NE(message_of(outcome.error()).find("104857600 bytes"), std::string::npos)
            << message_of(outcome.error());
      }
    }
    EXPECT_EQ(pool.counts().crashed, 0U);
    EXPECT_EQ(pool.apply(greedy_at_three, 3), 3) << "a limit was left behind";
  }
}

TEST_P(PoolLimitsTest, TasksHaveTheirOwnLimitsOfMemory) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has a memory management of its own";
  Pool pool({.workers = 1});
  std::vector<Future<int>> futures;
  for (const std::size_t limit : {100U, 0U, 600U, 1U}) {
    futures.push_back(pool.with({.memory = limit * kMiB}).submit(greedy_at_three, 3));
  }
  EXPECT_TRUE(is_a<MemoryLimitExceeded>(thrown_by([&] { futures[0].get(); })));
  EXPECT_EQ(futures[1].get(), 3);
  EXPECT_EQ(futures[2].get(), 3);
  EXPECT_TRUE(is_a<MemoryLimitExceeded>(thrown_by([&] { futures[3].get(); })));
  EXPECT_EQ(pool.counts().started, 1U);
}

int takes(int mebibytes) {
  const std::vector<char> memory(static_cast<std::size_t>(mebibytes) * kMiB, 'x');
  return memory[kMiB] == 'x' ? mebibytes : -1;
}

// What an earlier item has freed is neither a gift to the next nor its burden.
TEST_P(PoolLimitsTest, ALimitOfMemoryCountsNothingThatWasFreed) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has a memory management of its own";
  Pool pool({.workers = 1});
  const auto limited = pool.with({.memory = 100 * kMiB});
  EXPECT_EQ(pool.apply(takes, 60), 60);
  EXPECT_TRUE(is_a<MemoryLimitExceeded>(thrown_by([&] { limited.apply(takes, 110); })));
  EXPECT_EQ(limited.map(takes, std::vector{60, 80, 60, 30, 90}), (std::vector{60, 80, 60, 30, 90}));
}

// Its own std::bad_alloc, and one who does not look at what malloc says.
TEST_P(PoolLimitsTest, CodeThatDoesNotCheckItsMemoryCrashesAlone) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has a memory management of its own";
  Pool pool({.workers = 2});
  const auto careless = [](int n) {
    if (n == 1) throw std::bad_alloc();
    auto* const memory = static_cast<volatile char*>(std::malloc((n == 3 ? 400 : 10) * kMiB));
    memory[5] = 1;
    std::free(const_cast<char*>(memory));
    return n;
  };
  const auto outcomes = pool.with({.memory = 100 * kMiB}).try_map(careless, first_integers(5));
  EXPECT_TRUE(is_a<WorkerCrashed>(outcomes[3].error()));
  for (const std::size_t n : {0U, 2U, 4U}) EXPECT_TRUE(outcomes[n].has_value()) << n;
  EXPECT_TRUE(is_a<std::bad_alloc>(thrown_by([&] { pool.apply(careless, 1); })))
      << "without a limit it is what it is";
  const auto again =
      pool.with({.retries = 1, .memory = 100 * kMiB}).try_map(careless, first_integers(5));
  EXPECT_EQ(as<WorkerCrashed>(again[3].error()).crash().attempt, 2U);
}

// --- deadline --------------------------------------------------------------------------------

// [test_map_timeout]
TEST_P(PoolLimitsTest, ADeadlineEndsTheWholeMap) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    const auto work = [](int n) {
      if (n >= 4) std::this_thread::sleep_for(1h);
      return n;
    };
    const auto start = Clock::now();
    const auto outcomes =
        pool.with({.chunk = 1, .deadline = 3 * kLimit}).try_map(work, first_integers(40));
    EXPECT_LT(Clock::now() - start, 3 * kLimit + 5s);
    for (std::size_t i = 0; i < 40; ++i) {
      if (outcomes[i].has_value()) {
        EXPECT_LT(i, 4U);
      } else {
        EXPECT_TRUE(is_a<TaskTimeout>(outcomes[i].error())) << message_of(outcomes[i].error());
      }
    }
    EXPECT_TRUE(outcomes[0].has_value());
    EXPECT_EQ(pool.map(stuck_at_three, std::vector{1, 2}), (std::vector{1, 2}));
    EXPECT_TRUE(is_a<TaskTimeout>(thrown_by([&] {
      pool.with({.deadline = kLimit}).map(work, std::vector{9, 9, 9});
    })));
  }
}

TEST_P(PoolLimitsTest, ADeadlineEndsATaskThatWaitsOrRuns) {
  Pool pool({.workers = 1});
  Future<int> running = pool.with({.deadline = kLimit}).submit(stuck_at_three, 3);
  Future<int> waiting = pool.with({.deadline = kLimit / 2}).submit(stuck_at_three, 4);
  Future<int> patient = pool.submit(stuck_at_three, 5);
  EXPECT_TRUE(is_a<TaskTimeout>(thrown_by([&] { waiting.get(); })));
  EXPECT_TRUE(is_a<TaskTimeout>(thrown_by([&] { running.get(); })));
  EXPECT_EQ(patient.get(), 5);
}

// --- retries ---------------------------------------------------------------------------------

/// Counts an attempt at an item, which may be killed at once.
int count_one(const Array<int>& counts, int n) {
  const auto items = counts.lock();
  return ++*(items.begin() + n);
}

int fails_twice(Array<int> attempts, int n) {
  const int attempt = count_one(attempts, n);
  if (n % 3 == 1 && attempt <= 2) throw BadInput("attempt " + std::to_string(attempt));
  if (n % 3 == 2 && attempt <= 2) ::raise(SIGKILL);
  return n;
}

TEST_P(PoolLimitsTest, ExceptionsAreRunAgainWhereThePredicateSaysSo) {
  constexpr int kItems = 12;
  for (const int workers : {1, 2, 5}) {
    for (const std::size_t chunk : {1U, 7U, 0U}) {
      SCOPED_TRACE("workers " + std::to_string(workers) + ", chunk " + std::to_string(chunk));
      Pool pool({.workers = workers});
      Array<int> attempts(kItems);
      const auto again =
          pool.with({.chunk = chunk,
                     .retries = 2,
                     .retry_if = brood::retry_on<BadInput>() || brood::retry_on_signal(SIGKILL)});
      EXPECT_EQ(again.map(brood::bind(fails_twice, attempts), first_integers(kItems)),
                first_integers(kItems));
      for (int i = 0; i < kItems; ++i) {
        EXPECT_EQ(attempts.get(static_cast<std::size_t>(i)), i % 3 == 0 ? 1 : 3) << i;
      }
    }
  }
}

TEST_P(PoolLimitsTest, TasksAreRunAgainToo) {
  Pool pool({.workers = 2});
  Array<int> attempts(30);
  const auto again =
      pool.with({.retries = 2, .backoff = 1ms, .retry_if = [](const auto&) { return true; }});
  std::vector<Future<int>> futures;
  for (int i = 0; i < 30; ++i) futures.push_back(again.submit(fails_twice, attempts, i));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(attempts.get(static_cast<std::size_t>(i)), i % 3 == 0 ? 1 : 3) << i;
  }
}

TEST_P(PoolLimitsTest, AnExceptionIsAnAnswerUnlessSomebodySaysOtherwise) {
  Pool pool({.workers = 2});
  Array<int> attempts(3);
  const auto outcomes =
      pool.with({.retries = 5}).try_map(brood::bind(fails_twice, attempts), first_integers(3));
  EXPECT_EQ(as<BadInput>(outcomes[1].error()).what(), std::string("attempt 1"));
  EXPECT_EQ(*outcomes[2], 2);
  EXPECT_EQ(attempts.get(1), 1);
  EXPECT_EQ(attempts.get(2), 3);
}

TEST_P(PoolLimitsTest, WhenAttemptsAreUsedUpTheLastFailureCounts) {
  Pool pool({.workers = 2});
  Array<int> attempts(3);
  const auto outcomes =
      pool.with({.retries = 1, .retry_if = [](const std::exception&) { return true; }})
          .try_map(brood::bind(fails_twice, attempts), first_integers(3));
  EXPECT_EQ(as<BadInput>(outcomes[1].error()).what(), std::string("attempt 2"));
  EXPECT_EQ(as<WorkerCrashed>(outcomes[2].error()).attempt(), 2U);
}

TEST_P(PoolLimitsTest, OtherSignalsAndOtherExceptionsAreNotRunAgain) {
  Pool pool({.workers = 1});
  Value<int> attempts(0);
  const auto dies = [](int, Value<int> count) {
    count.fetch_add(1);
    ::raise(SIGKILL);
  };
  EXPECT_TRUE(is_a<WorkerCrashed>(thrown_by([&] {
    pool.with({.retries = 3, .retry_if = brood::retry_on_signal(SIGBUS, SIGILL)})
        .apply(dies, 1, attempts);
  })));
  EXPECT_EQ(attempts.get(), 1);
  const auto throws = [](int, Value<int> count) {
    count.fetch_add(1);
    throw std::out_of_range("no");
  };
  EXPECT_TRUE(is_a<std::out_of_range>(thrown_by([&] {
    pool.with({.retries = 3, .retry_if = brood::retry_on<std::system_error, BadInput>()})
        .apply(throws, 1, attempts);
  })));
  EXPECT_EQ(attempts.get(), 2);
}

TEST_P(PoolLimitsTest, APredicateThatThrowsSaysNo) {
  Pool pool({.workers = 1});
  Value<int> attempts(0);
  const auto throws = [](Value<int> count) {
    count.fetch_add(1);
    throw BadInput("bad");
  };
  EXPECT_TRUE(is_a<BadInput>(thrown_by([&] {
    pool.with({.retries = 3, .retry_if = [](const std::exception&) -> bool { throw 1; }})
        .apply(throws, attempts);
  })));
  EXPECT_EQ(attempts.get(), 1);
}

TEST_P(PoolLimitsTest, TimeoutsMayBeRunAgain) {
  Pool pool({.workers = 2});
  Value<int> attempts(0);
  const auto slow_at_first = [](Value<int> count, int n) {
    if (n == 2 && count.fetch_add(1) == 0) stuck();
    return n;
  };
  EXPECT_EQ(pool.with({.chunk = 1,
                       .timeout = kLimit,
                       .retries = 1,
                       .retry_if = brood::retry_on<TaskTimeout>()})
                .map(brood::bind(slow_at_first, attempts), first_integers(5)),
            first_integers(5));
  EXPECT_EQ(attempts.get(), 2);
}

TEST_P(PoolLimitsTest, APauseIsMadeBetweenAttempts) {
  Pool pool({.workers = 1});
  Array<int> attempts(3);
  const auto start = Clock::now();
  pool.with({.retries = 2, .backoff = 40ms, .jitter = 0}).apply(fails_twice, attempts, 2);
  EXPECT_GE(Clock::now() - start, 40ms + 80ms);
}

// --- cancel ----------------------------------------------------------------------------------

TEST_P(PoolLimitsTest, CancelStopsWhatRunsAndWhatWaits) {
  Pool pool({.workers = 1});
  const std::string busy = dir_.file("busy");
  const auto hold = [](std::string sign) {
    give_sign(sign);
    stuck();
  };
  Future<void> running = pool.submit(hold, busy);
  Future<int> waiting = pool.submit(stuck_at_three, 3);
  Future<int> other = pool.submit(stuck_at_three, 4);
  await_sign(busy);
  EXPECT_TRUE(waiting.cancel());
  EXPECT_TRUE(running.cancel());
  EXPECT_TRUE(running.ready());
  EXPECT_TRUE(is_a<TaskCancelled>(thrown_by([&] { running.get(); })));
  EXPECT_TRUE(is_a<TaskCancelled>(thrown_by([&] { waiting.get(); })));
  EXPECT_EQ(other.get(), 4);
  Future<int> done = pool.submit(stuck_at_three, 5);
  done.wait();
  EXPECT_FALSE(done.cancel());
  EXPECT_EQ(done.get(), 5);
}

TEST_P(PoolLimitsTest, CancellingManyAtRandomLosesNoOther) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    // However slow this thread is, one is still there to be cancelled.
    const auto nap = [](const std::string& never, int n) {
      if (n == 195) await_sign(never);
      std::this_thread::sleep_for(std::chrono::microseconds(n % 7 * 100));
      return n;
    };
    const std::string never = dir_.file("never");
    std::vector<Future<int>> futures;
    for (int i = 0; i < 200; ++i) futures.push_back(pool.submit(nap, never, i));
    int cancelled = 0;
    for (int i = 0; i < 200; ++i) {
      if (i % 5 != 0) continue;
      if (!futures[static_cast<std::size_t>(i)].cancel()) continue;
      ++cancelled;
      EXPECT_TRUE(
          is_a<TaskCancelled>(thrown_by([&] { futures[static_cast<std::size_t>(i)].get(); })));
      futures[static_cast<std::size_t>(i)] = {};
    }
    for (int i = 0; i < 200; ++i) {
      if (futures[static_cast<std::size_t>(i)].valid()) {
        EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
      }
    }
    EXPECT_GT(cancelled, 0);
  }
}

// --- priority --------------------------------------------------------------------------------

TEST_P(PoolLimitsTest, WhatIsUrgentGoesFirst) {
  Pool pool({.workers = 1});
  const std::string go = dir_.file("go");
  const std::string log = dir_.file("log");
  const auto note = [](std::string file, std::string text) {
    std::ofstream(file, std::ios::app) << text;
  };
  Future<void> first = pool.submit(await_sign, go);
  std::vector<Future<void>> rest;
  for (const char* name : {"a", "b", "c"})
    rest.push_back(pool.submit(note, log, std::string(name)));
  for (const char* name : {"X", "Y"}) {
    rest.push_back(pool.with({.priority = 5}).submit(note, log, std::string(name)));
  }
  rest.push_back(pool.with({.priority = -5}).submit(note, log, std::string("z")));
  give_sign(go);
  first.get();
  for (Future<void>& future : rest) future.get();
  EXPECT_EQ(read_file(log), "XYabcz");
}

TEST_P(PoolLimitsTest, AMapMakesRoomForWhatIsUrgent) {
  Pool pool({.workers = 1});
  Value<int> done(0);
  const std::string go = dir_.file("go");
  const auto work = [](Value<int> count, std::string sign, int n) {
    if (n == 0) await_sign(sign);
    count.fetch_add(1);
  };
  std::jthread mapper(
      [&] { pool.with({.chunk = 1}).map(brood::bind(work, done, go), first_integers(1000)); });
  Future<int> urgent;
  ASSERT_TRUE(eventually([&] { return pool.worker_pids().size() == 1; }));
  urgent = pool.with({.priority = 1}).submit([](Value<int> count) { return count.get(); }, done);
  give_sign(go);
  EXPECT_LE(urgent.get(), 2);
  mapper.join();
  EXPECT_EQ(done.get(), 1000);
}

// --- bad limits ------------------------------------------------------------------------------

TEST_P(PoolLimitsTest, LimitsThatCannotBeAreRefused) {
  Pool pool({.workers = 1});
  EXPECT_THROW(static_cast<void>(pool.with({.timeout = -1ms})), ArgumentError);
  EXPECT_THROW(static_cast<void>(pool.with({.deadline = -1ms})), ArgumentError);
  EXPECT_THROW(static_cast<void>(pool.with({.backoff = -1ms})), ArgumentError);
  EXPECT_THROW(static_cast<void>(pool.with({.jitter = 1.5})), ArgumentError);
  EXPECT_THROW(static_cast<void>(pool.with({.cpu_time = -1ms})), ArgumentError);
  EXPECT_EQ(pool.apply(stuck_at_three, 1), 1);
}

// --- all of it at once -----------------------------------------------------------------------

TEST_P(PoolLimitsTest, KillsTimeoutsAndExceptionsTogetherLoseNothing) {
  Pool pool({.workers = 3});
  Array<int> attempts(400);
  const auto unlucky = [](Array<int> counts, int n) {
    const int attempt = count_one(counts, n);
    if (attempt == 1) {
      if (n % 97 == 5) stuck();
      if (n % 11 == 3) throw BadInput("at first");
      if (n % 31 == 7) ::raise(SIGKILL);
    }
    return n * n;
  };
  std::vector<int> squares;
  for (int i = 0; i < 400; ++i) squares.push_back(i * i);
  for (const std::size_t chunk : {1U, 16U}) {
    SCOPED_TRACE(chunk);
    for (int& count : *attempts.lock()) count = 0;
    EXPECT_EQ(pool.with({.chunk = chunk,
                         .timeout = kLimit,
                         .retries = 3,
                         .backoff = 1ms,
                         .retry_if = [](const std::exception&) { return true; }})
                  .map(brood::bind(unlucky, attempts), first_integers(400)),
              squares);
  }
}

}  // namespace
}  // namespace pool_limits_test
