// Pipelines: order, bounds, failures, kills, ends.
// Length: what stages do is defined once, for all tests.
// Not for ThreadSanitizer: processes.
#include <brood/pipeline.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <ranges>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/current_item.hpp>
#include <brood/event.hpp>
#include <brood/random_stream.hpp>
#include <brood/shared_array.hpp>

#include "support/eventually.hpp"
#include "support/program.hpp"
#include "support/start_methods.hpp"

namespace pipeline_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Outcome;
using brood::pipeline;
using brood::PipelineOptions;
using brood::PipelineStats;

class PipelineTest : public EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(PipelineTest);

/// What throws is this, so that it is known by its type.
using Odd = std::domain_error;

int twice(int n) { return 2 * n; }
int plus_one(int n) { return n + 1; }
int not_seven(int n) {
  if (n == 7) throw Odd("seven");
  return n;
}
int spin(int n) {  // of uneven length
  volatile int left = n % 37 * 20;
  while (left > 0) left = left - 1;
  return n;
}

std::vector<int> numbers(int count, int factor = 1) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(factor * i);
  return all;
}

template <class F>
std::string failure_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

TEST_P(PipelineTest, ResultsAreInTheOrderOfTheInput) {
  for (const int workers : {0, 1, 3}) {
    for (const int count : {0, 1, 2, 100, 3000}) {
      EXPECT_EQ(pipeline()
                    .source(numbers(count))
                    .parallel(spin)
                    .parallel(twice)
                    .collect({.workers = workers}),
                numbers(count, 2));
    }
  }
}

TEST_P(PipelineTest, TakesSourcesOfEachKind) {
  int next = 0;
  const auto counted = pipeline()
                           .source([&]() -> std::optional<int> {
                             return next == 50 ? std::nullopt : std::optional(next++);
                           })
                           .parallel(twice);
  EXPECT_EQ(counted.collect({.workers = 2}), numbers(50, 2));

  std::istringstream text("0 1 2 3");  // an input range that can be read once
  EXPECT_EQ(pipeline()
                .source(std::ranges::istream_view<int>(text))
                .parallel(twice)
                .collect({.workers = 1}),
            numbers(4, 2));
  const std::vector<int> kept = numbers(5);
  EXPECT_EQ(pipeline().source(kept).parallel(twice).collect({.workers = 1}), numbers(5, 2));
  EXPECT_EQ(pipeline()
                .source(std::views::iota(0) | std::views::take(9))
                .parallel(twice)
                .collect({.workers = 2}),
            numbers(9, 2));
  EXPECT_EQ(pipeline().source(numbers(3)).collect({.workers = 0}), numbers(3));
}

TEST_P(PipelineTest, StagesOfAllKindsBesideEachOther) {
  for (const int workers : {0, 2}) {
    SCOPED_TRACE(workers);
    std::vector<int> middle;
    std::vector<int> end;
    const PipelineStats stats =
        pipeline()
            .source(std::views::iota(0, 1000))
            .parallel(spin, {.name = "spin"})
            .parallel([](int n) { return std::to_string(n); })
            .in_order([&](const std::string& text) {
              middle.push_back(std::stoi(text));
              return std::make_unique<int>(middle.back());  // does not cross, nor copy
            })
            .parallel([&](std::unique_ptr<int> n) { return std::make_unique<int>(*n + 1); },
                      {.threads = 3})
            .serial([](std::unique_ptr<int> n) { return *n; })
            .parallel(twice, {.workers = 1})
            .in_order([&](int n) { end.push_back(n); })
            .run({.workers = workers});
    EXPECT_EQ(middle, numbers(1000));
    std::vector<int> wanted = numbers(1000);
    for (int& n : wanted) n = (n + 1) * 2;
    EXPECT_EQ(end, wanted);

    EXPECT_EQ(stats.items, 1000U);
    EXPECT_EQ(stats.done, 1000U);
    ASSERT_EQ(stats.stages.size(), 7U);
    EXPECT_EQ(stats.stages[0].name, "spin");
    EXPECT_EQ(stats.stages[1].name, "parallel 2");
    EXPECT_EQ(stats.stages[3].on, workers == 0 ? "here" : "threads");
    for (const brood::StageStats& stage : stats.stages) {
      EXPECT_EQ(stage.items, 1000U) << stage.name;
      EXPECT_EQ(stage.failed, 0U) << stage.name;
      EXPECT_GT(stage.busy, 0ns) << stage.name;
      EXPECT_EQ(stage.depth, 0U) << stage.name;
    }
  }
}

TEST_P(PipelineTest, ConsecutiveStagesAreOneTaskUnlessTheySaySo) {
  const auto pid = [](int) { return ::getpid(); };
  const auto same_as_here = [](int before) { return before == ::getpid() ? 1 : 0; };
  // The second stage sees the process that the first was in.
  for (const int same : pipeline()
                            .source(numbers(200))
                            .parallel(pid)
                            .parallel(same_as_here)
                            .collect({.workers = 3})) {
    EXPECT_EQ(same, 1);
  }
  for (const int same : pipeline()
                            .source(numbers(20))
                            .parallel(pid)
                            .parallel(same_as_here, {.workers = 1})
                            .collect({.workers = 1})) {
    EXPECT_EQ(same, 0);
  }
}

TEST_P(PipelineTest, KeepsItsBounds) {
  struct Big {
    std::vector<char> bytes;
  };
  const auto grow = [](std::vector<char> bytes) {
    bytes.resize(bytes.size() * 2);
    return bytes;
  };
  for (const std::size_t most : {1U, 2U, 3U, 7U, 64U}) {
    SCOPED_TRACE(most);
    std::size_t in = 0;
    std::size_t out = 0;
    std::size_t seen = 0;
    const PipelineStats stats = pipeline()
                                    .source([&]() -> std::optional<int> {
                                      if (in == 400) return std::nullopt;
                                      seen = std::max(seen, ++in - out);
                                      return static_cast<int>(in);
                                    })
                                    .parallel(spin)
                                    .parallel(spin, {.workers = 1})
                                    .in_order([&](int) { ++out; })
                                    .run({.workers = 2, .max_in_flight = most});
    EXPECT_EQ(out, 400U);
    EXPECT_LE(seen, most);
    EXPECT_EQ(stats.most_in_flight, seen);
  }
  // By bytes: inputs of 1000, results of 2000, each with a few more.
  constexpr std::size_t kMost = 20'500;
  std::size_t in = 0;
  std::size_t out = 0;
  std::size_t seen = 0;
  const PipelineStats stats = pipeline()
                                  .source([&]() -> std::optional<std::vector<char>> {
                                    if (in == 300) return std::nullopt;
                                    seen = std::max(seen, ++in - out);
                                    return std::vector<char>(1000);
                                  })
                                  .parallel(grow)
                                  .in_order([&](const std::vector<char>& bytes) {
                                    EXPECT_EQ(bytes.size(), 2000U);
                                    ++out;
                                  })
                                  .run({.workers = 2, .max_bytes_in_flight = kMost});
  EXPECT_EQ(out, 300U);
  EXPECT_LE(seen * 2000, kMost);
  EXPECT_GT(seen, 3U);
  EXPECT_LE(stats.most_bytes, kMost);
  EXPECT_GT(stats.most_bytes, 2000U);
}

TEST_P(PipelineTest, TheSourceWaitsForASlowEnd) {
  brood::Event go;
  std::atomic<int> pulled{0};
  std::thread watcher([&] {
    EXPECT_TRUE(eventually([&] { return pulled.load() == 5; }));
    go.set();
  });
  // Nothing gets on while the workers wait for the event, and more than five never are pulled.
  const auto wait = brood::bind(
      [](const brood::Event& event, int n) {
        event.wait();
        return n;
      },
      go);
  int out = 0;
  pipeline()
      .source([&]() -> std::optional<int> {
        if (pulled.load() == 5) {
          EXPECT_TRUE(go.is_set());
        }
        return pulled.load() == 30 ? std::nullopt : std::optional(pulled.fetch_add(1));
      })
      .parallel(wait)
      .in_order([&](int) { ++out; })
      .run({.workers = 2, .max_in_flight = 5, .start_method = brood::StartMethod::spawn});
  watcher.join();
  EXPECT_EQ(out, 30);
}

// What was before the failed item is done, and nothing behind it.
TEST_P(PipelineTest, TheFirstFailureEndsItBehindWhatWasBefore) {
  for (const int workers : {0, 1, 3}) {
    SCOPED_TRACE(workers);
    std::vector<int> done;
    const auto sink = [&](int n) { done.push_back(n); };
    const PipelineOptions options{.workers = workers, .max_in_flight = 50};
    // In a parallel stage.
    const auto endless = std::views::iota(0);
    EXPECT_THROW(pipeline().source(endless).parallel(not_seven).in_order(sink).run(options), Odd);
    EXPECT_EQ(done, numbers(7));
    // Among others that fail as well.
    done.clear();
    EXPECT_EQ(failure_of([&] {
                pipeline()
                    .source(endless)
                    .parallel(spin)
                    .parallel([](int n) {
                      if (n >= 20) throw Odd(std::to_string(n));
                      return n;
                    })
                    .in_order(sink)
                    .run(options);
              }),
              "20");
    EXPECT_EQ(done, numbers(20));
    // On threads.
    done.clear();
    EXPECT_THROW(
        pipeline().source(endless).parallel(not_seven, {.threads = 2}).in_order(sink).run(options),
        Odd);
    EXPECT_EQ(done, numbers(7));
    // Here, in the middle; the next stage gets what was before.
    done.clear();
    EXPECT_THROW(
        pipeline().source(endless).in_order(not_seven).parallel(spin).in_order(sink).run(options),
        Odd);
    EXPECT_EQ(done, numbers(7));
    // In the sink.
    done.clear();
    EXPECT_THROW(pipeline()
                     .source(endless)
                     .parallel(spin)
                     .in_order([&](int n) { done.push_back(not_seven(n)); })
                     .run(options),
                 Odd);
    EXPECT_EQ(done, numbers(7));
    // In the source.
    done.clear();
    int next = 0;
    EXPECT_THROW(pipeline()
                     .source([&]() -> std::optional<int> { return not_seven(next++); })
                     .parallel(spin)
                     .in_order(sink)
                     .run(options),
                 Odd);
    EXPECT_EQ(done, numbers(7));
  }
}

TEST_P(PipelineTest, FailuresAsOutcomes) {
  for (const int workers : {0, 2}) {
    SCOPED_TRACE(workers);
    std::vector<int> order;
    const PipelineStats stats = pipeline()
                                    .source(std::views::iota(0, 20))
                                    .parallel(not_seven)
                                    .parallel(plus_one, {.threads = 2})
                                    .try_in_order([&](Outcome<int> n) {
                                      order.push_back(n ? *n : -1);
                                      EXPECT_EQ(n.error() == nullptr, n.has_value());
                                    })
                                    .run({.workers = workers});
    std::vector<int> wanted;
    for (int i = 0; i < 20; ++i) wanted.push_back(i == 7 ? -1 : i + 1);
    EXPECT_EQ(order, wanted);
    EXPECT_EQ(stats.done, 20U);
    EXPECT_EQ(stats.stages[0].failed, 1U);

    std::vector<std::size_t> failed;
    std::vector<int> done;
    const PipelineStats told =
        pipeline()
            .source(std::views::iota(0, 20))
            .parallel(not_seven)
            .in_order([&](int n) {
              if (n == 9) throw Odd("nine");
              done.push_back(n);
            })
            .run({.workers = workers,
                  .on_failure = [&](std::size_t item, const std::exception_ptr& failure) {
                    EXPECT_THROW(std::rethrow_exception(failure), Odd);
                    failed.push_back(item);
                  }});
    EXPECT_EQ(failed, (std::vector<std::size_t>{7, 9}));
    EXPECT_EQ(done.size(), 18U);
    EXPECT_EQ(told.failed, 2U);
    EXPECT_EQ(told.done, 18U);
  }
}

TEST_P(PipelineTest, WhatTheCallbackThrowsEndsIt) {
  EXPECT_EQ(
      failure_of([] {
        pipeline()
            .source(std::views::iota(0))
            .parallel(not_seven)
            .run({.workers = 2, .on_failure = [](std::size_t item, const std::exception_ptr&) {
                    throw std::runtime_error("item " + std::to_string(item));
                  }});
      }),
      "item 7");
}

TEST_P(PipelineTest, AKilledWorkerCostsOneItem) {
  const auto deadly = [](int n) {
    if (n % 100 == 42) ::kill(::getpid(), SIGKILL);
    return 2 * n;
  };
  std::vector<std::size_t> lost;
  std::size_t done = 0;
  const PipelineStats stats =
      pipeline()
          .source(std::views::iota(0, 300))
          .parallel(deadly)
          .in_order([&](int) { ++done; })
          .run({.workers = 2, .on_failure = [&](std::size_t item, const std::exception_ptr& e) {
                  lost.push_back(item);
                  try {
                    std::rethrow_exception(e);
                  } catch (const brood::WorkerCrashed& crash) {
                    EXPECT_EQ(crash.signal(), SIGKILL);
                    EXPECT_EQ(crash.item(), item);
                  }
                }});
  std::ranges::sort(lost);
  EXPECT_EQ(lost, (std::vector<std::size_t>{42, 142, 242}));
  EXPECT_EQ(done, 297U);
  EXPECT_EQ(stats.stages[0].deaths, 3U);
}

TEST_P(PipelineTest, TimeLimitsAndRetriesOfAStage) {
  const auto slow = [](int n) {
    if (n == 3) std::this_thread::sleep_for(1h);
    return n;
  };
  EXPECT_THROW(pipeline()
                   .source(numbers(5))
                   .parallel(slow, {.call = {.timeout = 30ms}})
                   .collect({.workers = 1}),
               brood::TaskTimeout);
  // Every item needs a second attempt, and some a third.
  const brood::SharedArray<int> attempts(50);
  const auto stubborn = brood::bind(
      [](const brood::SharedArray<int>& tried, int n) {
        if (++tried[static_cast<std::size_t>(n)] < 2 + n % 2) throw Odd("again");
        return n;
      },
      attempts);
  std::vector<int> done;
  const PipelineStats stats =
      pipeline()
          .source(numbers(50))
          .parallel(stubborn, {.call = {.retries = 2, .retry_if = brood::retry_on<Odd>()}})
          .in_order([&](int n) { done.push_back(n); })
          .run({.workers = 2});
  EXPECT_EQ(done, numbers(50));
  EXPECT_EQ(stats.stages[0].retries, 75U);
  // A death is worth another attempt without more being said.
  const brood::SharedArray<int> deaths(10);
  const auto mortal = brood::bind(
      [](const brood::SharedArray<int>& tried, int n) {
        if (++tried[static_cast<std::size_t>(n)] == 1 && n == 5) ::kill(::getpid(), SIGKILL);
        return n;
      },
      deaths);
  EXPECT_EQ(pipeline()
                .source(numbers(10))
                .parallel(mortal, {.call = {.retries = 1}})
                .collect({.workers = 2}),
            numbers(10));
  // On threads.
  std::mutex mutex;
  std::set<int> tried;
  EXPECT_EQ(pipeline()
                .source(numbers(30))
                .parallel(
                    [&](int n) {
                      const std::lock_guard lock(mutex);
                      if (tried.insert(n).second) throw Odd("first");
                      return n;
                    },
                    {.threads = 3, .retries = 1, .retry_if = brood::retry_on<Odd>()})
                .collect({.workers = 1}),
            numbers(30));
}

TEST_P(PipelineTest, IsStoppedFromOutside) {
  std::stop_source stop;
  std::vector<int> done;
  EXPECT_THROW(pipeline()
                   .source(std::views::iota(0))
                   .parallel(spin)
                   .in_order([&](int n) {
                     done.push_back(n);
                     if (n == 100) stop.request_stop();
                   })
                   .run({.workers = 2, .stop = stop.get_token()}),
               brood::TaskCancelled);
  EXPECT_EQ(done, numbers(static_cast<int>(done.size())));
  EXPECT_GE(done.size(), 101U);
  EXPECT_THROW(pipeline().source(numbers(3)).run({.workers = 0, .stop = stop.get_token()}),
               brood::TaskCancelled);
  // While it sleeps: nothing would ever come.
  if (GetParam() == brood::StartMethod::fork) return;  // no worker beside a thread
  std::stop_source late;
  brood::Event begun;
  std::thread stopper([&] {
    begun.wait();
    late.request_stop();
  });
  const auto forever = brood::bind(
      [](brood::Event event, int n) {
        event.set();
        std::this_thread::sleep_for(1h);
        return n;
      },
      begun);
  EXPECT_THROW(
      pipeline().source(numbers(3)).parallel(forever).run({.workers = 2, .stop = late.get_token()}),
      brood::TaskCancelled);
  stopper.join();
}

TEST_P(PipelineTest, RunsAgain) {
  std::vector<int> done;
  const auto twice_each = pipeline()
                              .source(std::views::iota(0, 100))
                              .parallel(twice)
                              .parallel(not_seven, {.threads = 1})
                              .in_order([&](int n) { done.push_back(n); });
  twice_each.run({.workers = 2});
  twice_each.run({.workers = 0});
  std::vector<int> wanted = numbers(100, 2);
  wanted.insert(wanted.end(), wanted.begin(), wanted.begin() + 100);
  EXPECT_EQ(done, wanted);
  // Copies go their own ways.
  const auto start = pipeline().source(numbers(10));
  EXPECT_EQ(start.parallel(twice).collect({.workers = 1}), numbers(10, 2));
  EXPECT_EQ(start.parallel(spin).collect({.workers = 1}), numbers(10));
}

TEST_P(PipelineTest, PoolsOfTheUserLiveOn) {
  brood::Pool pool({.workers = 2});
  const std::vector<int> pids = pool.worker_pids();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(pipeline()
                  .source(numbers(500))
                  .parallel(spin, {.pool = &pool})
                  .parallel(twice, {.pool = &pool})
                  .collect({.workers = 1}),
              numbers(500, 2));
    EXPECT_THROW(pipeline().source(std::views::iota(0)).parallel(not_seven, {.pool = &pool}).run(),
                 Odd);
  }
  EXPECT_EQ(pool.worker_pids(), pids);
  EXPECT_EQ(pool.apply(twice, 4), 8);
  pool.terminate();
  EXPECT_THROW(pipeline().source(numbers(5)).parallel(twice, {.pool = &pool}).run(),
               brood::PoolClosed);
}

TEST_P(PipelineTest, ItemsKnowTheirNumbers) {
  const auto with_number = [](int n) {
    return std::pair(static_cast<int>(brood::current_item().value_or(9999)) - n,
                     std::uniform_int_distribution<int>(0, 1 << 30)(brood::random_stream()));
  };
  std::vector<int> first;
  for (const int workers : {0, 1, 3}) {
    std::vector<int> random;
    pipeline()
        .source(std::views::iota(0, 300))
        .parallel(with_number)
        .in_order([&](std::pair<int, int> made) {
          EXPECT_EQ(made.first, 0);
          random.push_back(made.second);
        })
        .run({.workers = workers, .seed = 5});
    if (first.empty()) first = random;
    EXPECT_EQ(random, first);
  }
}

TEST_P(PipelineTest, WithinAWorker) {
  brood::Pool pool({.workers = 2});
  const auto inner = [](int n) {
    const std::vector<int> all =
        pipeline().source(std::views::iota(0, n)).parallel(twice).collect({.workers = 2});
    return std::accumulate(all.begin(), all.end(), 0);
  };
  EXPECT_EQ(pool.map(inner, std::vector<int>{10, 20}), (std::vector<int>{90, 380}));
  EXPECT_EQ(pipeline().source(std::vector<int>{10, 20}).parallel(inner).collect({.workers = 2}),
            (std::vector<int>{90, 380}));
}

TEST_P(PipelineTest, TellsHowFarItIs) {
  std::vector<std::pair<std::size_t, std::size_t>> told;
  PipelineStats watched;
  pipeline()
      .source(numbers(10))
      .parallel([](int) { std::this_thread::sleep_for(30ms); })
      .run({.workers = 1,
            .progress = [&](std::size_t done, std::size_t all) { told.emplace_back(done, all); },
            .watch = [&](const PipelineStats& stats) { watched = stats; }});
  ASSERT_GE(told.size(), 2U);
  EXPECT_EQ(told.front().second, 10U);
  EXPECT_EQ(told.back(), std::pair(std::size_t{10}, std::size_t{10}));
  EXPECT_EQ(watched.done, 10U);
  ASSERT_EQ(watched.stages.size(), 1U);
  EXPECT_GE(watched.stages[0].busy, 300ms);
}

TEST_P(PipelineTest, RefusesWhatCanNeverBe) {
  const auto start = pipeline().source(numbers(3));
  brood::Pool pool({.workers = 1});
  EXPECT_THROW(start.parallel(twice, {.threads = 0}), brood::ArgumentError);
  EXPECT_THROW(start.parallel(twice, {.workers = -1}), brood::ArgumentError);
  EXPECT_THROW(start.parallel(twice, {.workers = 1, .pool = &pool}), brood::ArgumentError);
  EXPECT_THROW(start.parallel(twice, {.call = {.chunk = 3}}), brood::ArgumentError);
  EXPECT_THROW(start.parallel(twice, {.call = {.deadline = 3s}}), brood::ArgumentError);
  EXPECT_THROW(start.parallel(twice, {.call = {.timeout = -3s}}), brood::ArgumentError);
  EXPECT_THROW(start.run({.workers = -1}), brood::ArgumentError);
  EXPECT_THROW(start.run({.workers = 100'000}), brood::ArgumentError);
  const auto unique = start.serial([](int n) { return std::make_unique<int>(n); });
  const auto take = [](std::unique_ptr<int> n) { return *n; };
  EXPECT_THROW(unique.parallel(take, {.threads = 1, .retries = 1}), brood::ArgumentError);
  EXPECT_EQ(unique.parallel(take, {.threads = 1}).collect({.workers = 1}), numbers(3));
}

TEST_P(PipelineTest, ItemsHaveALimitOfMemory) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has a memory management of its own";
  const auto greedy = [](int n) {
    const std::vector<char> memory(std::size_t{n == 3 ? 400U : 10U} << 20U, 'x');
    return memory.back() == 'x' ? n : -1;
  };
  std::vector<int> came;
  std::vector<std::size_t> failed;
  pipeline()
      .source(std::views::iota(0, 8))
      .parallel(greedy, {.call = {.memory = std::size_t{100} << 20U}})
      .in_order([&](int n) { came.push_back(n); })
      .run({.workers = 1, .on_failure = [&](std::size_t item, const std::exception_ptr& failure) {
              EXPECT_THROW(std::rethrow_exception(failure), brood::MemoryLimitExceeded);
              failed.push_back(item);
            }});
  EXPECT_EQ(came, (std::vector{0, 1, 2, 4, 5, 6, 7}));
  EXPECT_EQ(failed, std::vector<std::size_t>{3});
}

// Every result is right, in order, and none is missing, while workers are killed again and again.
TEST_P(PipelineTest, UnderAHailOfKills) {
  if (GetParam() == brood::StartMethod::fork) GTEST_SKIP() << "the killer is a thread";
  constexpr int kItems = 100'000;
  brood::Pool pool({.workers = 3});
  std::atomic<bool> over{false};
  std::atomic<int> kills{0};
  std::atomic<int> seen{0};
  std::thread killer([&] {
    std::minstd_rand random(7);
    int before = 0;
    while (!over.load()) {
      std::this_thread::sleep_for(1ms);
      // Only when something was done since: workers may take longer to begin than this takes.
      if (seen.load() - before < 100) continue;
      before = seen.load();
      const std::vector<int> pids = pool.worker_pids();
      if (!pids.empty() && ::kill(pids[random() % pids.size()], SIGKILL) == 0) ++kills;
    }
  });
  int next = 0;
  PipelineStats stats;
  std::string failure = failure_of([&] {
    stats = pipeline()
                .source(std::views::iota(0, kItems))
                .parallel(spin, {.pool = &pool, .call = {.retries = 1000}})
                .parallel([](int n) { return std::to_string(n); },
                          {.pool = &pool, .call = {.retries = 1000}})
                .in_order([&](const std::string& n) {
                  ASSERT_EQ(n, std::to_string(next));
                  seen.store(++next);
                })
                .run();
  });
  over.store(true);
  killer.join();
  EXPECT_EQ(failure, "");
  EXPECT_EQ(next, kItems);
  EXPECT_EQ(stats.done, static_cast<std::uint64_t>(kItems));
  EXPECT_GT(kills.load(), 5);
}

// The same without a thread beside: items that kill their workers the first time.
TEST_P(PipelineTest, ItemsThatKillTheirWorkers) {
  constexpr int kItems = 100'000;
  const brood::SharedArray<int> tried(kItems / 1000);
  const auto mortal = brood::bind(
      [](const brood::SharedArray<int>& attempts, int n) {
        if (n % 1000 == 0 && ++attempts[static_cast<std::size_t>(n / 1000)] == 1) {
          ::kill(::getpid(), SIGKILL);
        }
        return 2 * n;
      },
      tried);
  std::vector<int> done;
  const PipelineStats stats = pipeline()
                                  .source(std::views::iota(0, kItems))
                                  .parallel(mortal, {.call = {.retries = 1}})
                                  .in_order([&](int n) { done.push_back(n); })
                                  .run({.workers = 3});
  EXPECT_EQ(done, numbers(kItems, 2));
  EXPECT_EQ(stats.stages[0].deaths, 100U);
  EXPECT_EQ(stats.stages[0].retries, 100U);
}

TEST_P(PipelineTest, CtrlCEndsTheFamily) {
  Program program("pipeline_program", {.arguments = {brood::to_string(GetParam())}});
  ASSERT_TRUE(eventually([&] { return program.out() == "up\n"; })) << program.describe();
  ASSERT_EQ(::kill(-program.pid(), SIGINT), 0);  // a terminal's goes to all of the group
  EXPECT_EQ(program.wait(), -SIGINT) << program.describe();
  EXPECT_TRUE(program.all_gone()) << program.describe();
}

}  // namespace
}  // namespace pipeline_test
