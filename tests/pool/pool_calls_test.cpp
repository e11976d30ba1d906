// The calls of a pool: what goes in, what comes out, in which order. Names in brackets are the
// tests of CPython's _TestPool and ExecutorTest that ask for the same.
// Not for ThreadSanitizer: processes.
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <brood/bind.hpp>
#include <brood/process.hpp>

#include "pool_test_support.hpp"

namespace pool_calls_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Pool;
using brood::StartMethod;

class PoolCallsTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolCallsTest);

int twice(int n) { return 2 * n; }
std::string shout(const std::string& text) { return text + "!"; }
int add(int a, int b) { return a + b; }

std::vector<int> doubled(int count) {
  std::vector<int> numbers = first_integers(count);
  for (int& n : numbers) n *= 2;
  return numbers;
}

TEST_P(PoolCallsTest, MapGivesTheResultsInOrder) {  // [test_map]
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    EXPECT_EQ(pool.workers(), workers);
    EXPECT_EQ(pool.worker_pids().size(), static_cast<std::size_t>(workers));
    for (const int items : {0, 1, 2, 3, 4, 7, 64, 1000}) {
      EXPECT_EQ(pool.map(twice, first_integers(items)), doubled(items)) << items << " items";
    }
  }
}

TEST_P(PoolCallsTest, AnyChunkSizeGivesTheSame) {  // [test_map_chunksize]
  Pool pool({.workers = 2});
  for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}, std::size_t{1000},
                                  std::size_t{1001}, std::size_t{1} << 40U}) {
    EXPECT_EQ(pool.with({.chunk = chunk}).map(twice, first_integers(1000)), doubled(1000))
        << "chunk " << chunk;
    EXPECT_EQ(pool.with({.chunk = chunk}).map(twice, std::vector<int>()), std::vector<int>());
    EXPECT_EQ(pool.with({.chunk = chunk}).map(twice, first_integers(1)), doubled(1));
  }
}

TEST_P(PoolCallsTest, EmptyInputsAreEmptyOutputs) {  // [test_empty_iterable]
  Pool pool({.workers = 2});
  EXPECT_TRUE(pool.map(shout, std::vector<std::string>()).empty());
  EXPECT_TRUE(pool.try_map(twice, std::vector<int>()).empty());
  EXPECT_TRUE(pool.starmap(add, std::vector<std::pair<int, int>>()).empty());
  EXPECT_TRUE(pool.map(add, first_integers(5), std::vector<int>()).empty());
  EXPECT_TRUE(pool.map(twice, std::views::iota(3, 3)).empty());
  pool.map([](int) {}, std::vector<int>());
  for ([[maybe_unused]] int n : pool.imap(twice, std::vector<int>())) ADD_FAILURE();
}

TEST_P(PoolCallsTest, SeveralRangesAreZippedToTheShortest) {
  Pool pool({.workers = 2});
  const std::vector<int> a{1, 2, 3, 4};
  const std::list<int> b{10, 20, 30};
  const std::array<std::string, 5> names{"a", "b", "c", "d", "e"};
  EXPECT_EQ(pool.map(add, a, b), (std::vector<int>{11, 22, 33}));
  EXPECT_EQ(pool.map(add, b, a), (std::vector<int>{11, 22, 33}));
  EXPECT_EQ(pool.map([](int x, std::string name, int y) { return name + std::to_string(x + y); }, a,
                     names, b),
            (std::vector<std::string>{"a11", "b22", "c33"}));
}

TEST_P(PoolCallsTest, AnySizedRangeWillDo) {
  Pool pool({.workers = 2});
  const std::vector<int> expected{2, 4, 6};
  EXPECT_EQ(pool.map(twice, std::list<int>{1, 2, 3}), expected);
  EXPECT_EQ(pool.map(twice, std::set<int>{3, 1, 2}), expected);
  EXPECT_EQ(pool.map(twice, std::views::iota(1, 4)), expected);
  EXPECT_EQ(pool.map(twice, std::array<int, 3>{1, 2, 3}), expected);
  const int plain[] = {1, 2, 3};
  EXPECT_EQ(pool.map(twice, plain), expected);
  const std::vector<int> numbers{1, 2, 3};
  EXPECT_EQ(pool.map(twice, std::span(numbers)), expected);
  EXPECT_EQ(pool.map(twice, numbers | std::views::reverse), (std::vector<int>{6, 4, 2}));
  EXPECT_EQ(pool.map(twice, numbers | std::views::transform([](int n) { return n + 1; })),
            (std::vector<int>{4, 6, 8}));
  EXPECT_EQ(pool.map(shout, std::vector<std::string>{"a", std::string(100'000, 'x'), ""}),
            (std::vector<std::string>{"a!", std::string(100'000, 'x') + "!", "!"}));
  EXPECT_EQ(pool.map(shout, std::array<const char*, 2>{"one", "two"}),
            (std::vector<std::string>{"one!", "two!"}));
  EXPECT_EQ(pool.map([](bool b) { return !b; }, std::vector<bool>{true, false, true}),
            (std::vector<bool>{false, true, false}));
  EXPECT_EQ(pool.map(
                [](const std::pair<const std::string, int>& entry) {
                  return entry.first + std::to_string(entry.second);
                },
                std::map<std::string, int>{{"b", 2}, {"a", 1}}),
            (std::vector<std::string>{"a1", "b2"}));
}

TEST_P(PoolCallsTest, ItemsConvertToTheParameter) {
  Pool pool({.workers = 2});
  EXPECT_EQ(pool.map([](double x) { return x / 2; }, std::vector<int>{1, 2}),
            (std::vector<double>{0.5, 1.0}));
  EXPECT_EQ(pool.map([](std::int64_t n) { return n; }, std::views::iota(1, 4)),
            (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(pool.map([](std::uint8_t n) { return n + 0; }, std::vector<int>{1, 256, 257}),
            (std::vector<int>{1, 0, 1}));
}

struct Sample {
  std::string name;
  std::vector<double> values;
  std::map<std::string, std::optional<int>> notes;
};
Sample grow(Sample s) {
  s.values.push_back(std::accumulate(s.values.begin(), s.values.end(), 0.0));
  s.notes[s.name] = std::nullopt;
  return s;
}

TEST_P(PoolCallsTest, AggregatesAndContainersCross) {
  Pool pool({.workers = 2});
  const std::vector<Sample> samples{{"wren", {1, 2}, {{"x", 1}}}, {"", {}, {}}};
  const auto grown = pool.map(grow, samples);
  ASSERT_EQ(grown.size(), 2u);
  EXPECT_EQ(grown[0].values, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(grown[0].notes.at("x"), 1);
  EXPECT_EQ(grown[0].notes.at("wren"), std::nullopt);
  EXPECT_EQ(grown[1].values, (std::vector<double>{0}));
}

TEST_P(PoolCallsTest, ResultsMayBeMoveOnly) {
  Pool pool({.workers = 2});
  const auto make = [](int n) {
    return n == 1 ? std::unique_ptr<std::string>()
                  : std::make_unique<std::string>(std::to_string(n));
  };
  const auto made = pool.map(make, first_integers(3));
  ASSERT_EQ(made.size(), 3u);
  EXPECT_EQ(*made[0], "0");
  EXPECT_EQ(made[1], nullptr);
  EXPECT_EQ(*made[2], "2");
  EXPECT_EQ(*pool.apply(make, 7), "7");
  auto outcomes = pool.try_map(make, first_integers(1));
  EXPECT_EQ(*std::move(outcomes[0]).value(), "0");
  std::vector<std::string> fetched;
  for (std::unique_ptr<std::string> text : pool.imap(make, std::views::iota(2, 4))) {
    fetched.push_back(*text);
  }
  EXPECT_EQ(fetched, (std::vector<std::string>{"2", "3"}));
}

struct Model {
  double scale = 1;
  std::string name;
  double run(double x) const { return scale * x; }
  std::string label() const { return name; }
  double operator()(double x) const { return scale + x; }
};

TEST_P(PoolCallsTest, AnyCallableWillDo) {
  Pool pool({.workers = 2});
  const std::vector<double> xs{1, 2};
  const Model model{.scale = 3, .name = "m"};
  EXPECT_EQ(pool.map(model, xs), (std::vector<double>{4, 5}));
  EXPECT_EQ(pool.map(brood::bind(&Model::run, model), xs), (std::vector<double>{3, 6}));
  EXPECT_EQ(pool.map(&Model::label, std::vector<Model>{model, {1, "n"}}),
            (std::vector<std::string>{"m", "n"}));
  EXPECT_EQ(pool.map(&Model::run, std::vector<Model>{model, {1, "n"}}, xs),
            (std::vector<double>{3, 2}));
  EXPECT_EQ(pool.map(brood::bind([](const std::vector<int>& table,
                                    int n) { return table[static_cast<std::size_t>(n)]; },
                                 std::vector<int>{7, 8, 9}),
                     std::vector<int>{2, 0}),
            (std::vector<int>{9, 7}));
  EXPECT_EQ(pool.apply(add, 2, 3), 5);
  EXPECT_EQ(pool.apply(&Model::run, model, 5), 15);
  EXPECT_EQ(pool.apply([] { return 42; }), 42);
}

TEST_P(PoolCallsTest, FunctionsMayReturnNothing) {
  Pool pool({.workers = 2});
  const std::string path = dir_.file("out");
  pool.map(brood::bind([](std::string file, int) { give_sign(file); }, path), first_integers(50));
  EXPECT_EQ(read_file(path).size(), 50u);
  pool.apply([](std::string file) { give_sign(file); }, path);
  EXPECT_EQ(read_file(path).size(), 51u);
  for (const auto& outcome : pool.try_map([](int) {}, first_integers(3))) EXPECT_TRUE(outcome);
  pool.starmap([](int, std::string file) { give_sign(file); },
               std::vector<std::pair<int, std::string>>{{1, path}, {2, path}});
  EXPECT_EQ(read_file(path).size(), 53u);
}

TEST_P(PoolCallsTest, StarmapUnpacksPairsTuplesAndArrays) {  // [test_starmap]
  Pool pool({.workers = 2});
  std::vector<std::pair<int, int>> pairs;
  for (int i = 0; i < 500; ++i) pairs.emplace_back(i, 2 * i);
  std::vector<int> sums;
  for (const auto& [a, b] : pairs) sums.push_back(a + b);
  EXPECT_EQ(pool.starmap(add, pairs), sums);
  EXPECT_EQ(pool.with({.chunk = 17}).starmap(add, pairs), sums);
  EXPECT_EQ(pool.starmap(
                [](std::string s, int n, double d) {
                  return s + std::to_string(n) + std::to_string(static_cast<int>(d));
                },
                std::list<std::tuple<std::string, int, double>>{{"a", 1, 2.5}, {"b", 3, 4.5}}),
            (std::vector<std::string>{"a12", "b34"}));
  EXPECT_EQ(pool.starmap(add, std::array<std::tuple<int, int>, 1>{{{4, 5}}}),
            (std::vector<int>{9}));
}

TEST_P(PoolCallsTest, ResultsOfManyMegabytesArriveWhole) {
  Pool pool({.workers = 2});
  const auto block = [](int n) {
    std::vector<std::uint32_t> values(static_cast<std::size_t>(n) << 20U);
    std::iota(values.begin(), values.end(), static_cast<std::uint32_t>(n));
    return values;
  };
  const auto right = [](const std::vector<std::uint32_t>& values, int n) {
    if (values.size() != static_cast<std::size_t>(n) << 20U) return false;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] != static_cast<std::uint32_t>(n) + i) return false;
    }
    return true;
  };
  for (int round = 0; round < 3; ++round) {
    const auto results = pool.map(block, std::vector<int>{1, 5, 0, 2});
    EXPECT_TRUE(right(results[0], 1));
    EXPECT_TRUE(right(results[1], 5));
    EXPECT_TRUE(right(results[2], 0));
    EXPECT_TRUE(right(results[3], 2));
    EXPECT_TRUE(right(pool.apply(block, 6), 6));
    const std::vector<std::string> texts{std::string(std::size_t{9} << 20U, 'a'), ""};
    const auto shouted = pool.map(shout, texts);
    EXPECT_TRUE(shouted[0] == texts[0] + "!");
    EXPECT_EQ(shouted[1], "!");
  }
}

// [test_gh105829_should_not_deadlock_if_wakeup_pipe_full]
TEST_P(PoolCallsTest, ManyTinyTasksMayBeInFlight) {
  Pool pool({.workers = 2});
  constexpr int kTasks = 100'000;
  std::vector<brood::Future<int>> futures;
  futures.reserve(kTasks);
  for (int i = 0; i < kTasks; ++i) futures.push_back(pool.submit(twice, i));
  int wrong = 0;
  for (int i = 0; i < kTasks; ++i) {
    wrong += futures[static_cast<std::size_t>(i)].get() == 2 * i ? 0 : 1;
  }
  EXPECT_EQ(wrong, 0);
}

TEST_P(PoolCallsTest, FuturesMayBeDroppedAndFetchedInAnyOrder) {
  Pool pool({.workers = 2});
  std::vector<std::optional<brood::Future<std::string>>> futures;
  for (int i = 0; i < 2000; ++i) {
    futures.emplace_back(
        pool.submit([](int n) { return std::string(static_cast<std::size_t>(n % 200), 'x'); }, i));
  }
  for (std::size_t i = 0; i < futures.size(); i += 2) futures[i].reset();
  for (std::size_t i = futures.size(); i-- > 0;) {
    if (futures[i]) {
      EXPECT_EQ(futures[i]->get().size(), i % 200);
    }
  }
}

// [test_cancel, test_cancelled, test_done, test_running, test_duplicate_futures]
TEST_P(PoolCallsTest, AFutureIsFetchedOnce) {
  Pool pool({.workers = 2});
  brood::Future<int> future = pool.submit(twice, 4);
  EXPECT_TRUE(future.valid());
  EXPECT_EQ(future.get(), 8);
  EXPECT_FALSE(future.valid());
  EXPECT_THROW(future.get(), brood::StateError);
  EXPECT_THROW(future.wait(), brood::StateError);
  EXPECT_THROW(static_cast<void>(future.ready()), brood::StateError);
  EXPECT_THROW(brood::Future<int>().get(), brood::StateError);
  brood::Future<int> first = pool.submit(twice, 1);
  brood::Future<int> second = std::move(first);
  EXPECT_FALSE(first.valid());
  first = pool.submit(twice, 2);
  second = std::move(first);
  EXPECT_EQ(second.get(), 4);
}

// [test_async_timeout, test_result_with_timeout, test_correct_timeout_exception_msg]
TEST_P(PoolCallsTest, GetMayHaveATimeLimit) {
  Pool pool({.workers = 1});
  const std::string go = dir_.file("go");
  brood::Future<int> future = pool.submit(
      [](std::string sign) {
        await_sign(sign);
        return 3;
      },
      go);
  EXPECT_THROW(future.get(20ms), brood::TimeoutError);
  EXPECT_THROW(future.get(0s), brood::TimeoutError);
  EXPECT_THROW(future.get(-1s), brood::TimeoutError);
  EXPECT_FALSE(future.wait(1ms));
  EXPECT_FALSE(future.ready());
  EXPECT_TRUE(future.valid());
  give_sign(go);
  future.wait();
  EXPECT_TRUE(future.ready());
  EXPECT_TRUE(future.wait(0s));
  EXPECT_EQ(future.get(std::chrono::hours(24 * 365 * 1000)), 3);
}

TEST_P(PoolCallsTest, ProgressCountsToTheEnd) {
  Pool pool({.workers = 2});
  std::vector<std::size_t> seen;
  const auto caller = pool.with({.chunk = 1, .progress = [&](std::size_t done, std::size_t total) {
                                   EXPECT_EQ(total, 8u);
                                   seen.push_back(done);
                                 }});
  const auto slow = [](int n) {
    std::this_thread::sleep_for(80ms);
    return n;
  };
  EXPECT_EQ(caller.map(slow, first_integers(8)), first_integers(8));
  ASSERT_FALSE(seen.empty());
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 8u);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), std::size_t{8}), 1) << "the end is told once";
  EXPECT_GT(seen.size(), 1u) << "320 ms passed, so it was called before the end too";
}

TEST_P(PoolCallsTest, ProgressSeesTheItemsOfAChunkUnderWay) {
  Pool pool({.workers = 1});
  const std::string go = dir_.file("go");
  const auto hold_in_the_middle = brood::bind(
      [](std::string sign, int n) {
        if (n == 5) await_sign(sign);
        return n;
      },
      go);
  std::vector<std::size_t> seen;
  const auto caller = pool.with({.chunk = 10, .progress = [&](std::size_t done, std::size_t) {
                                   seen.push_back(done);
                                   if (done == 5) give_sign(go);
                                 }});
  EXPECT_EQ(caller.map(hold_in_the_middle, first_integers(10)), first_integers(10));
  EXPECT_NE(std::count(seen.begin(), seen.end(), std::size_t{5}), 0) << "items 0 to 4 had ended";
}

TEST_P(PoolCallsTest, WhatProgressThrowsEndsTheCall) {
  Pool pool({.workers = 2});
  const std::string go = dir_.file("go");
  const auto hold = brood::bind(
      [](std::string sign, int n) {
        await_sign(sign);
        return n;
      },
      go);
  const auto caller =
      pool.with({.progress = [](std::size_t, std::size_t) { throw BadInput("stop it"); }});
  EXPECT_THROW(caller.map(hold, first_integers(1000)), BadInput);
  give_sign(go);
  EXPECT_EQ(pool.map(twice, first_integers(100)), doubled(100));
  // Thrown at the very end, when all is done.
  EXPECT_THROW(caller.map(twice, first_integers(3)), BadInput);
  EXPECT_EQ(pool.map(twice, first_integers(100)), doubled(100));
}

TEST_P(PoolCallsTest, PoolsMayBeNested) {
  Pool pool({.workers = 2});
  const auto inner_sum = [](int n) {
    Pool inner({.workers = 2});
    const auto doubled_ones = inner.map(twice, std::views::iota(0, n));
    return std::accumulate(doubled_ones.begin(), doubled_ones.end(), 0);
  };
  EXPECT_EQ(pool.map(inner_sum, std::vector<int>{10, 100, 0}), (std::vector<int>{90, 9900, 0}));
  EXPECT_EQ(pool.apply(inner_sum, 4), 12);
}

TEST_P(PoolCallsTest, SeveralPoolsLiveSideBySide) {
  Pool first({.workers = 2, .name = "first"});
  Pool second({.workers = 1, .name = "second"});
  brood::Future<int> early = second.submit(twice, 21);
  EXPECT_EQ(first.map(twice, first_integers(100)), doubled(100));
  EXPECT_EQ(early.get(), 42);
  const auto name = [] { return brood::current_process().name(); };
  EXPECT_TRUE(first.apply(name).starts_with("first-"));
  EXPECT_EQ(second.apply(name), "second-1");
}

TEST(PoolThreadsTest, ThreadsMayShareAPool) {
  Pool pool({.workers = 2, .start_method = StartMethod::forkserver});
  std::vector<int> wrong(4);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        for (int round = 0; round < 50; ++round) {
          const int count = 1 + round * 7;
          if (pool.map(twice, first_integers(count)) != doubled(count)) ++wrong[t];
          if (pool.apply(add, round, count) != round + count) ++wrong[t];
          if (!is_a<BadInput>(thrown_by([&] { pool.apply([] { throw BadInput("yes"); }); }))) {
            ++wrong[t];
          }
        }
      });
    }
  }
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(PoolThreadsTest, SeveralThreadsMayWaitForTasksOfOneBatch) {
  Pool pool({.workers = 2, .start_method = StartMethod::forkserver});
  const TempDir dir;
  const auto hold = [](std::string sign, int n) {
    await_sign(sign);
    return n;
  };
  std::vector<int> got(2);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      auto future = std::make_shared<brood::Future<int>>(
          pool.submit(hold, dir.file("go" + std::to_string(t)), t + 1));
      threads.emplace_back([&got, t, future] { got[static_cast<std::size_t>(t)] = future->get(); });
    }
    give_sign(dir.file("go1"));
    give_sign(dir.file("go0"));
  }
  EXPECT_EQ(got, (std::vector<int>{1, 2}));
}

Pool* inherited_pool = nullptr;

TEST(PoolForkedTest, ACopyInAForkedChildRefusesAndDoesNoHarm) {
  const TempDir dir;
  Pool pool({.workers = 2, .start_method = StartMethod::fork});
  brood::Future<int> future = pool.submit(twice, 4);
  inherited_pool = &pool;
  brood::Process child(
      {.start_method = StartMethod::fork},
      [](std::string path) {
        const Pool& copy = *inherited_pool;
        std::string text;
        const auto note = [&](const std::exception_ptr& error) {
          text += is_a<brood::StateError>(error) ? "refused " : "NOT REFUSED ";
        };
        note(thrown_by([&] { copy.map(twice, first_integers(3)); }));
        note(thrown_by([&] { copy.apply(twice, 1); }));
        note(thrown_by([&] { static_cast<void>(copy.worker_pids()); }));
        note(thrown_by([&] { inherited_pool->close(); }));
        note(thrown_by([&] { inherited_pool->join(); }));
        inherited_pool->terminate();
        Pool moved = std::move(*inherited_pool);  // destroyed here
        write_file(path, text);
      },
      dir.file("said"));
  child.start().join();
  EXPECT_EQ(child.exitcode(), 0);
  EXPECT_EQ(read_file(dir.file("said")), "refused refused refused refused refused ");
  EXPECT_EQ(future.get(), 8);
  EXPECT_EQ(pool.map(twice, first_integers(100)), doubled(100));
}

TEST_P(PoolCallsTest, AnInputThatThrowsEndsTheCallAndNotThePool) {
  // [test_map_handle_iterable_exception]
  Pool pool({.workers = 2});
  const auto fails_late = [](int n) {
    if (n == 700) throw BadInput("the input itself");
    return std::to_string(n);
  };
  const auto input = std::views::iota(0, 1000) | std::views::transform(fails_late);
  for (int i = 0; i < 20; ++i) EXPECT_THROW(pool.map(shout, input), BadInput);
  EXPECT_EQ(pool.map(twice, first_integers(100)), doubled(100));
}

TEST_P(PoolCallsTest, CallsThatFailGiveTheirMemoryBack) {
  Pool pool({.workers = 2});
  const auto& extents = brood::detail::Family::require()->segment().extents();
  const auto input = std::views::iota(0, 20'000) | std::views::transform([](int n) {
                       if (n == 19'999) throw BadInput("the input itself");
                       return std::string(100, 'x');
                     });
  EXPECT_THROW(pool.map(shout, input), BadInput);
  EXPECT_EQ(pool.apply(twice, 1), 2);
  const std::size_t before = extents.used_bytes();
  for (int i = 0; i < 20; ++i) EXPECT_THROW(pool.map(shout, input), BadInput);
  EXPECT_LE(extents.used_bytes(), before + (std::size_t{4} << 20U))
      << "20 calls of 2 MB each: at most what one keeps for the next";
}

}  // namespace
}  // namespace pool_calls_test
