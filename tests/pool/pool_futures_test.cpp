// Futures of worker processes: continuations, coroutines, several at once. Names in brackets are
// those of CPython's suites that ask for the same.
// Not for ThreadSanitizer: processes.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <exception>
#include <latch>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/as_completed.hpp>
#include <brood/future.hpp>
#include <brood/thread_pool.hpp>

#include "pool_test_support.hpp"

namespace pool_futures_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::as_completed;
using brood::Future;
using brood::Outcome;
using brood::Pool;
using brood::TaskCancelled;
using brood::ThreadPool;
using brood::TimeoutError;
using brood::wait_all;
using brood::wait_any;
using brood::WorkerCrashed;

class PoolFuturesTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolFuturesTest);

int twice(int n) { return 2 * n; }
int fails(int n) {
  if (n == 1) throw BadInput("one");
  if (n == 2) ::raise(SIGKILL);
  return n;
}
int when_given(std::string sign, int n) {
  await_sign(sign);
  return n;
}

TEST_P(PoolFuturesTest, AContinuationGetsTheValue) {  // [add_done_callback, test_done_callback]
  Pool pool({.workers = 2});
  int base = 100;  // nothing of a continuation crosses to a process
  Future<std::string> text =
      pool.submit(twice, 21).then([&base](int n) { return n + base; }).then([](int n) {
        return std::to_string(n);
      });
  EXPECT_EQ(text.get(), "142");
  // Of one that is ready already.
  Future<int> done = pool.submit(twice, 4);
  done.wait();
  EXPECT_EQ(std::move(done).then([](int n) { return n + 1; }).get(), 9);
  std::atomic<bool> called{false};
  pool.submit([] {}).then([&] { called = true; }).get();
  EXPECT_TRUE(called);
}

TEST_P(PoolFuturesTest, AFailurePassesByAContinuationThatTakesTheValue) {
  Pool pool({.workers = 2});
  std::atomic<int> called{0};
  const auto next = [&](int n) {
    ++called;
    return n;
  };
  EXPECT_TRUE(is_a<BadInput>(thrown_by([&] { pool.submit(fails, 1).then(next).get(); })));
  EXPECT_TRUE(is_a<WorkerCrashed>(thrown_by([&] { pool.submit(fails, 2).then(next).get(); })));
  EXPECT_EQ(called, 0);
  EXPECT_EQ(pool.submit(fails, 1)
                .then([](const Outcome<int>& outcome) { return outcome ? "value" : "failure"; })
                .get(),
            std::string("failure"));
  EXPECT_TRUE(is_a<std::out_of_range>(thrown_by([&] {
    pool.submit(fails, 3).then([](int) -> int { throw std::out_of_range("mine"); }).get();
  })));
}

TEST_P(PoolFuturesTest, AContinuationThatBlocksStopsNoOther) {
  Pool pool({.workers = 2});
  std::latch blocked(8);
  std::latch go(1);
  std::vector<Future<int>> held;
  for (int i = 0; i < 8; ++i) {
    held.push_back(pool.submit(twice, i).then([&](int n) {
      blocked.count_down();
      go.wait();
      return n;
    }));
  }
  blocked.wait();  // all eight at once
  EXPECT_EQ(pool.submit(twice, 5).then([](int n) { return n; }).get(), 10);
  go.count_down();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(held[static_cast<std::size_t>(i)].get(), 2 * i);
}

TEST_P(PoolFuturesTest, AThousandContinuations) {
  Pool pool({.workers = 2});
  std::vector<Future<int>> futures;
  for (int i = 0; i < 1000; ++i) {
    futures.push_back(pool.submit(twice, i).then([](int n) { return n + 1; }));
  }
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), 2 * i + 1);
}

TEST_P(PoolFuturesTest, TheEndOfThePoolIsSeenByContinuations) {
  Future<std::string> said;
  {
    Pool pool({.workers = 1});
    said = pool.submit(when_given, dir_.file("never"), 1).then([](Outcome<int> outcome) {
      return outcome ? std::string("value") : message_of(outcome.error());
    });
  }
  EXPECT_NE(said.get().find("terminated"), std::string::npos);
}

/// A coroutine that begins at once and whose result is waited for.
struct Task {
  struct promise_type {
    // Only who is suspended may be destroyed: so the end is told from there, by what is not part of
    // the coroutine.
    struct TellsTheEnd {
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> coroutine) const noexcept {
        const std::shared_ptr<std::latch> end = coroutine.promise().done;
        end->count_down();
      }
      void await_resume() const noexcept {}
    };
    Task get_return_object() { return Task{this}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    TellsTheEnd final_suspend() noexcept { return {}; }
    void return_value(std::string text) { value = std::move(text); }
    void unhandled_exception() { error = std::current_exception(); }
    std::string value;
    std::exception_ptr error;
    std::shared_ptr<std::latch> done = std::make_shared<std::latch>(1);
  };
  explicit Task(promise_type* p) : promise(p) {}
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { std::coroutine_handle<promise_type>::from_promise(*promise).destroy(); }
  std::string get() const {
    promise->done->wait();
    if (promise->error) std::rethrow_exception(promise->error);
    return promise->value;
  }
  promise_type* promise;
};

Task sum_of(const Pool& pool, int a, int b) {
  const int first = co_await pool.submit(twice, a);
  const int second = co_await pool.submit(twice, b);
  co_return std::to_string(first + second);
}
Task of_a_failure(const Pool& pool) {
  co_await pool.submit(fails, 1);
  co_return "not reached";
}

TEST_P(PoolFuturesTest, ACoroutineGoesOnWithTheResult) {
  Pool pool({.workers = 2});
  EXPECT_EQ(sum_of(pool, 3, 4).get(), "14");
  EXPECT_TRUE(is_a<BadInput>(thrown_by([&] { of_a_failure(pool).get(); })));
}

TEST_P(PoolFuturesTest,
       WhicheverIsFirst) {  // [test_first_completed, test_timeout, test_all_completed]
  Pool one({.workers = 1});
  ThreadPool other({.workers = 1});
  const std::string go = dir_.file("go");
  std::vector<Future<int>> futures;
  futures.push_back(one.submit(when_given, go, 1));
  futures.push_back(other.submit([] { return 2; }));
  EXPECT_EQ(wait_any(futures), 1U);
  EXPECT_FALSE(wait_all(futures, 5ms));
  EXPECT_EQ(wait_any(std::span(futures).first(1), 5ms), std::nullopt);
  give_sign(go);
  wait_all(futures);
  EXPECT_TRUE(wait_all(futures, 1ms));
  EXPECT_EQ(futures[0].get() + futures[1].get(), 3);
}

TEST_P(PoolFuturesTest, InTheOrderOfCompletion) {  // [AsCompletedTests]
  Pool pool({.workers = 2});
  std::vector<std::string> signs;
  std::vector<Future<int>> futures;
  for (int i = 0; i < 2; ++i) {
    signs.push_back(dir_.file("go" + std::to_string(i)));
    futures.push_back(pool.submit(when_given, signs.back(), i));
  }
  give_sign(signs[1]);
  std::vector<int> order;
  for (Future<int>& future : as_completed(futures)) {
    order.push_back(future.get());
    give_sign(signs[0]);
  }
  EXPECT_EQ(order, (std::vector{1, 0}));
  // [test_future_times_out]
  std::vector<Future<int>> slow;
  slow.push_back(pool.submit(when_given, dir_.file("later"), 1));
  EXPECT_TRUE(is_a<TimeoutError>(thrown_by([&] {
    for (Future<int>& future : as_completed(slow, 5ms)) static_cast<void>(future.get());
  })));
  give_sign(dir_.file("later"));
  EXPECT_EQ(slow[0].get(), 1);
}

TEST_P(PoolFuturesTest, FuturesOfSeveralPoolsCompleteTogether) {
  Pool processes({.workers = 2});
  ThreadPool threads({.workers = 2});
  Pool serial({.workers = 0});
  std::vector<Future<int>> futures;
  for (int i = 0; i < 30; ++i) {
    if (i % 3 == 0) futures.push_back(processes.submit(twice, i));
    if (i % 3 == 1) futures.push_back(threads.submit(twice, i));
    if (i % 3 == 2) futures.push_back(serial.submit(twice, i));
  }
  std::multiset<int> all;
  for (Future<int>& future : as_completed(futures)) all.insert(future.get());
  EXPECT_EQ(all.size(), 30U);
  EXPECT_EQ(*all.rbegin(), 58);
}

TEST_P(PoolFuturesTest, ACancelledContinuationCancelsWhatItWaitsFor) {
  Pool pool({.workers = 1});
  Future<int> running = pool.submit(when_given, dir_.file("never"), 1);
  Future<int> next = std::move(running).then([](int n) { return n; });
  EXPECT_TRUE(next.cancel());
  EXPECT_TRUE(is_a<TaskCancelled>(thrown_by([&] { next.get(); })));
  EXPECT_EQ(pool.apply(twice, 1), 2);  // the worker was stopped, or the pool had no other
}

}  // namespace
}  // namespace pool_futures_test
