// The calls that all kinds of pools have, on each kind: processes, threads, the caller. Names in
// brackets are those of CPython's suites that ask for the same.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/current_item.hpp>
#include <brood/random_stream.hpp>
#include <brood/shared_array.hpp>
#include <brood/shared_memory_info.hpp>
#include <brood/thread_pool.hpp>
#include <brood/worker_state.hpp>

#include "pool_test_support.hpp"

namespace pool_kinds_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::ArgumentError;
using brood::Future;
using brood::Outcome;
using brood::Pool;
using brood::PoolClosed;
using brood::SharedArray;
using brood::StartMethod;
using brood::StateError;
using brood::TaskCancelled;
using brood::ThreadPool;
using brood::WorkerCrashed;

/// What does the work: a process, by its start method; a thread; or whoever calls.
struct PoolKind {
  std::string name;
  std::optional<StartMethod> method = std::nullopt;
};

std::vector<PoolKind> all_kinds() {
  std::vector<PoolKind> kinds{{.name = "threads"}, {.name = "caller"}};
  for (const StartMethod method : brood::get_all_start_methods()) {
    kinds.push_back({.name = to_string(method), .method = method});
  }
  return kinds;
}

class PoolKindsTest : public ::testing::TestWithParam<PoolKind> {
 protected:
  void SetUp() override {
    if (GetParam().method && kThreadSanitizer) {
      GTEST_SKIP() << "processes are not for ThreadSanitizer";
    }
    if (GetParam().method) brood::set_start_method(*GetParam().method);
  }
  void TearDown() override { brood::set_start_method(before_); }

  /// Does the same with pools of each size.
  template <class Test>
  void with_each(Test test) {
    if (GetParam().name == "caller") {
      test(Pool({.workers = 0}));
      return;
    }
    for (const int workers : {1, 2, 5}) {
      SCOPED_TRACE("workers: " + std::to_string(workers));
      if (GetParam().name == "threads") {
        test(ThreadPool({.workers = workers}));
      } else {
        test(Pool({.workers = workers}));
      }
    }
  }

 private:
  StartMethod before_ = brood::get_start_method();
};
INSTANTIATE_TEST_SUITE_P(, PoolKindsTest, ::testing::ValuesIn(all_kinds()),
                         [](const auto& kind) { return kind.param.name; });

/// What has no meaning for the other kinds.
class PoolProcessesTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolProcessesTest);

int twice(int n) { return 2 * n; }
int odd_fails(int n) {
  if (n % 2 == 1) throw BadInput(std::to_string(n));
  return n;
}

TEST_P(PoolKindsTest, CallsGiveTheSame) {
  with_each([](const auto& pool) {
    std::vector<int> doubled;
    for (int i = 0; i < 100; ++i) doubled.push_back(2 * i);
    EXPECT_EQ(pool.map(twice, first_integers(100)), doubled);
    EXPECT_EQ(pool.with({.chunk = 7}).map(twice, first_integers(100)), doubled);
    EXPECT_EQ(pool.map(std::plus<>(), first_integers(100), first_integers(200)), doubled);
    EXPECT_EQ(pool.starmap(std::plus<>(), std::vector<std::pair<int, int>>{{1, 2}, {3, 4}}),
              (std::vector{3, 7}));
    EXPECT_EQ(pool.apply(twice, 4), 8);
    EXPECT_EQ(pool.submit(twice, 5).get(), 10);
    const auto outcomes = pool.try_map(odd_fails, first_integers(6));
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(outcomes[i].has_value(), i % 2 == 0);
    EXPECT_EQ(message_of(outcomes[3].error()), "3");
    EXPECT_TRUE(is_a<BadInput>(thrown_by([&] { pool.map(odd_fails, first_integers(6)); })));
    EXPECT_TRUE(pool.map(twice, std::vector<int>()).empty());
  });
}

TEST_P(PoolKindsTest, LazyCallsGiveTheSame) {  // [test_imap, test_imap_unordered]
  with_each([](const auto& pool) {
    std::vector<int> ordered;
    for (int n : pool.imap(twice, first_integers(50))) ordered.push_back(n);
    EXPECT_EQ(ordered.size(), 50U);
    EXPECT_TRUE(std::ranges::is_sorted(ordered));
    std::multiset<int> any;
    for (int n : pool.imap_unordered(twice, first_integers(50))) any.insert(n);
    EXPECT_EQ(any, std::multiset<int>(ordered.begin(), ordered.end()));
    // Of several ranges, one of them endless.
    int sum = 0;
    for (int n : pool.imap(std::plus<>(), first_integers(4), std::views::iota(10))) sum += n;
    EXPECT_EQ(sum, 6 + 46);
  });
}

TEST_P(PoolKindsTest, AFailureIsThrownInItsPlaceAndTheIterationGoesOn) {
  // [test_imap_handle_iterable_exception, test_imap_unordered_handle_iterable_exception]
  with_each([](const auto& pool) {
    int values = 0;
    int failures = 0;
    auto results = pool.imap_unordered(odd_fails, first_integers(20));
    for (auto at = results.begin(); at != results.end(); ++at) {
      try {
        EXPECT_EQ(*at % 2, 0);
        ++values;
      } catch (const BadInput&) {
        ++failures;
      }
    }
    EXPECT_EQ(values, 10);
    EXPECT_EQ(failures, 10);
  });
}

TEST_P(PoolKindsTest, MapReduceIsWhatALoopGives) {
  with_each([](const auto& pool) {
    // Associative, not commutative.
    const auto text = [](int n) { return std::to_string(n) + ","; };
    std::string expected = "begin:";
    for (int i = 0; i < 300; ++i) expected += text(i);
    EXPECT_EQ(pool.map_reduce([](int n) { return std::to_string(n) + ","; },
                              [](std::string a, std::string b) { return a + b; },
                              std::string("begin:"), first_integers(300)),
              expected);
    EXPECT_EQ(pool.map_reduce(twice, std::plus<>(), 7, std::vector<int>()), 7);
    EXPECT_EQ(pool.with({.chunk = 3}).map_reduce(twice, std::plus<>(), 0, first_integers(100)),
              9900);
    const std::exception_ptr error = thrown_by([&] {
      pool.map_reduce([](int n) { return n == 77 ? throw BadInput("bad") : n; }, std::plus<>(), 0,
                      first_integers(100));
    });
    EXPECT_TRUE(is_a<BadInput>(error)) << message_of(error);
  });
}

TEST_P(PoolProcessesTest, ADeathInAReductionNamesItsItem) {
  Pool pool({.workers = 2});
  const std::exception_ptr error = thrown_by([&] {
    pool.map_reduce(
        [](int n) {
          if (n == 77) ::raise(SIGKILL);
          return n;
        },
        std::plus<>(), 0, first_integers(100));
  });
  EXPECT_EQ(as<WorkerCrashed>(error).item(), 77U);
}

TEST_P(PoolKindsTest, ForEachChangesElementsInPlace) {
  with_each([](const auto& pool) {
    SharedArray<double> array(1000);
    std::iota(array.begin(), array.end(), 0.0);
    pool.for_each([](double& x) { x = 2 * x + 1; }, array);
    for (std::size_t i = 0; i < 1000; ++i) ASSERT_EQ(array[i], 2.0 * static_cast<double>(i) + 1);
    pool.for_each([](double& x) { x = 0; }, array, 10, 20);
    EXPECT_EQ(array[9], 19);
    EXPECT_EQ(array[10], 0);
    EXPECT_EQ(array[19], 0);
    EXPECT_EQ(array[20], 41);
    EXPECT_THROW(pool.for_each([](double&) {}, array, 5, 3), ArgumentError);
    EXPECT_THROW(pool.for_each([](double&) {}, array, 1001, 1002), ArgumentError);
  });
}

TEST_P(PoolProcessesTest, ADeathInForEachNamesTheElement) {
  Pool pool({.workers = 2});
  SharedArray<int> array(100);
  std::iota(array.begin(), array.end(), 0);
  const std::exception_ptr error = thrown_by([&] {
    pool.for_each(
        [](int& n) {
          if (n == 42) ::raise(SIGKILL);
          n = -n;
        },
        array, 10);
  });
  EXPECT_EQ(as<WorkerCrashed>(error).item(), 42U);
  EXPECT_EQ(array[41], -41);
  EXPECT_EQ(array[43], -43);
  EXPECT_EQ(array[9], 9);
}

TEST_P(PoolKindsTest, TheRandomNumbersOfAnItemAreItsOwn) {
  const auto draw = [](int n) {
    std::uint64_t sum = static_cast<std::uint64_t>(n);
    for (int i = 0; i < 10; ++i) sum += brood::random_stream()();
    return sum;
  };
  const auto expected = Pool({.workers = 0}).with({.seed = 7}).map(draw, first_integers(60));
  EXPECT_EQ(std::set<std::uint64_t>(expected.begin(), expected.end()).size(), 60U);
  with_each([&](const auto& pool) {
    for (const std::size_t chunk : {1U, 13U}) {
      EXPECT_EQ(pool.with({.chunk = chunk, .seed = 7}).map(draw, first_integers(60)), expected);
    }
    EXPECT_NE(pool.with({.seed = 8}).map(draw, first_integers(60)), expected);
    EXPECT_NE(pool.map(draw, first_integers(60)), expected);
    std::vector<std::uint64_t> lazily;
    for (std::uint64_t n : pool.with({.seed = 7}).imap(draw, first_integers(60)))
      lazily.push_back(n);
    EXPECT_EQ(lazily, expected);
  });
}

TEST_P(PoolProcessesTest, AnItemThatIsComputedAgainDrawsTheSameNumbers) {
  Pool pool({.workers = 2});
  const auto dies_first = [](std::string folder, int n) {
    const std::uint64_t number = brood::random_stream()();
    const std::string sign = folder + "/" + std::to_string(n);
    if (n % 5 == 0 && !sign_given(sign)) {
      give_sign(sign);
      ::raise(SIGKILL);
    }
    return number;
  };
  const auto once = pool.with({.retries = 1, .seed = 3})
                        .map(brood::bind(dies_first, dir_.file("")), first_integers(10));
  EXPECT_EQ(pool.with({.seed = 3}).map(brood::bind(dies_first, dir_.file("")), first_integers(10)),
            once);
}

TEST_P(PoolKindsTest, AnItemKnowsItsNumber) {
  with_each([](const auto& pool) {
    const auto number = [](int n) {
      return brood::current_item() == std::optional<std::size_t>(static_cast<std::size_t>(n));
    };
    for (const std::size_t chunk : {1U, 8U}) {
      const std::vector<bool> right = pool.with({.chunk = chunk}).map(number, first_integers(40));
      EXPECT_EQ(std::count(right.begin(), right.end(), true), 40);
    }
    for (const bool right : pool.imap(number, first_integers(20))) EXPECT_TRUE(right);
    EXPECT_TRUE(pool.apply([] { return !brood::current_item(); }));
  });
  EXPECT_FALSE(brood::current_item());
}

struct Counter {
  explicit Counter(std::string end = "") : sign(std::move(end)) {}
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  ~Counter() {
    if (!sign.empty()) give_sign(sign);
  }
  int count = 0;
  std::string sign;
};

TEST_P(PoolProcessesTest, AWorkerKeepsItsState) {
  const std::string ended = dir_.file("ended");
  {
    Pool pool({.workers = 2});
    const auto count = [](std::string sign, int) {
      return ++brood::worker_state<Counter>(sign).count;
    };
    const std::vector<int> counts =
        pool.with({.chunk = 1}).map(brood::bind(count, ended), first_integers(40));
    EXPECT_EQ(std::count(counts.begin(), counts.end(), 1),
              *std::ranges::max_element(counts) == 40 ? 1 : 2);
    pool.close();
    pool.join();
  }
  EXPECT_GE(read_file(ended).size(), 1U);
}

TEST_P(PoolProcessesTest, AWindowOfBytesBoundsWhatIsUnderWay) {
  Pool pool({.workers = 2});
  constexpr std::size_t kItem = 100'000;
  const std::size_t before = brood::shared_memory_info().used;
  std::size_t most = 0;
  int count = 0;
  const auto grow = [](const std::string& text) { return text + text; };
  for (const std::string& text :
       pool.with({.window = 1000, .window_bytes = 10 * kItem})
           .imap(grow, std::views::iota(0, 200) |
                           std::views::transform([](int) { return std::string(kItem, 'x'); }))) {
    EXPECT_EQ(text.size(), 2 * kItem);
    most = std::max(most, brood::shared_memory_info().used);
    ++count;
  }
  EXPECT_EQ(count, 200);
  // Pages are larger than what is in them; without the bound it would be 60 MB.
  EXPECT_LT(most - std::min(most, before), 24U << 20U);
}

TEST_P(PoolProcessesTest, ManyItemsNeedNoMoreMemoryThanTheirWindow) {
  Pool pool({.workers = 2});
  const auto text = [](int n) { return std::string(200, static_cast<char>('a' + n % 26)); };
  const int items = kAddressSanitizer ? 10'000 : 400'000;
  std::size_t most = 0;
  int seen = 0;
  for (const std::string& one : pool.imap(text, std::views::iota(0, items))) {
    EXPECT_EQ(one.size(), 200U);
    if (++seen % 100 == 0) most = std::max(most, brood::shared_memory_info().used);
  }
  EXPECT_EQ(seen, items);
  // A few batches of tasks, of 8 MB each, and pages of results. All of it would be 130 MB.
  EXPECT_LE(most, 64U << 20U);
}

// [test_map_close]
TEST_P(PoolProcessesTest, LeavingALazyCallEarlyCancelsTheRest) {
  const auto start = std::chrono::steady_clock::now();
  {
    Pool pool({.workers = 2});
    const auto slow = [](int n) {
      if (n > 0) std::this_thread::sleep_for(1h);
      return n;
    };
    for (const int n : pool.imap(slow, std::views::iota(0))) {
      EXPECT_EQ(n, 0);
      break;
    }
    // Whoever was in them is stopped.
    EXPECT_EQ(pool.apply(twice, 4), 8);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
}

// --- what only threads can -------------------------------------------------------------------

TEST(ThreadPools, NothingCrosses) {
  ThreadPool pool({.workers = 2});
  std::atomic<int> sum{0};
  std::vector<std::unique_ptr<int>> inputs;
  for (int i = 0; i < 100; ++i) inputs.push_back(std::make_unique<int>(i));
  pool.map([&](const std::unique_ptr<int>& p) { sum += *p; }, inputs);
  EXPECT_EQ(sum, 4950);
  std::vector<int> in_place(100, 1);
  pool.for_each([](int& n) { n = 3; }, in_place);
  EXPECT_EQ(std::accumulate(in_place.begin(), in_place.end(), 0), 300);
  std::list<std::string> words{"a", "b"};
  EXPECT_EQ(pool.map([&](const std::string& w) { return &w == &words.front(); }, words),
            (std::vector<bool>{true, false}));
}

TEST(ThreadPools, WhatThreadsCannotLimitIsRefused) {
  ThreadPool pool({.workers = 1});
  EXPECT_THROW(static_cast<void>(pool.with({.timeout = 1s})), ArgumentError);
  EXPECT_THROW(static_cast<void>(pool.with({.cpu_time = 1s})), ArgumentError);
  EXPECT_THROW(static_cast<void>(pool.with({.window_bytes = 1})), ArgumentError);
}

TEST(ThreadPools, CancelDropsWhatWaitsAndAsksWhatRuns) {
  ThreadPool pool({.workers = 1});
  std::atomic<bool> begun{false};
  Future<int> running = pool.submit([&](std::stop_token stop) {
    begun = true;
    while (!stop.stop_requested()) std::this_thread::yield();
    return 7;
  });
  Future<int> waiting = pool.submit([] { return 1; });
  ASSERT_TRUE(eventually([&] { return begun.load(); }));
  EXPECT_TRUE(waiting.cancel());
  EXPECT_TRUE(running.cancel());
  EXPECT_EQ(running.get(), 7);
  EXPECT_TRUE(is_a<TaskCancelled>(thrown_by([&] { waiting.get(); })));
  EXPECT_FALSE(pool.submit([] { return 1; }).then([](int n) { return n; }).get() == 2);
}

TEST(ThreadPools, AWorkerKeepsItsState) {
  const TempDir dir;
  const std::string ended = dir.file("ended");
  {
    ThreadPool pool({.workers = 1});
    for (int i = 1; i <= 5; ++i) {
      EXPECT_EQ(pool.apply([&] { return ++brood::worker_state<Counter>(ended).count; }), i);
    }
  }
  EXPECT_EQ(read_file(ended), ".");
}

TEST(ThreadPools, StatesAreThoseOfPool) {
  ThreadPool pool({.workers = 2});
  EXPECT_THROW(pool.join(), StateError);
  Future<int> last = pool.submit([] { return 3; });
  pool.close();
  EXPECT_THROW(static_cast<void>(pool.submit([] { return 3; })), PoolClosed);
  EXPECT_THROW(pool.map([](int n) { return n; }, std::vector{1}), PoolClosed);
  pool.join();
  EXPECT_EQ(last.get(), 3);
  EXPECT_THROW(ThreadPool({.workers = -1}), StateError);
  EXPECT_THROW(ThreadPool({.workers = 1, .initializer = [] { throw BadInput("no"); }}), BadInput);
}

TEST(ThreadPools, AMapWithinATaskOfTheSamePoolEnds) {
  ThreadPool pool({.workers = 2});
  const auto inner = [&](int n) {
    const std::vector<int> parts = pool.map([](int m) { return m; }, first_integers(10));
    return n + std::accumulate(parts.begin(), parts.end(), 0);
  };
  EXPECT_EQ(pool.map(inner, first_integers(4)), (std::vector{45, 46, 47, 48}));
}

}  // namespace
}  // namespace pool_kinds_test
