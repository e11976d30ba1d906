// Pipelines of threads alone.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <ranges>
#include <stdexcept>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/pipeline.hpp>

namespace pipeline_threads_test {
namespace {

using namespace std::chrono_literals;
using brood::pipeline;
using NotYet = std::domain_error;

TEST(PipelineThreads, ThreadsPauseBetweenAttempts) {
  std::atomic<int> attempts{0};
  const auto third_time = [&](int n) {
    if (++attempts < 3) throw NotYet("not yet");
    return n;
  };
  const auto start = std::chrono::steady_clock::now();
  const std::vector<int> results = pipeline()
                                       .source(std::vector{7})
                                       .parallel(third_time, {.threads = 1,
                                                              .retries = 2,
                                                              .retry_if = brood::retry_on<NotYet>(),
                                                              .backoff = 20ms,
                                                              .jitter = 0})
                                       .collect({.workers = 1});
  EXPECT_EQ(results, std::vector{7});
  EXPECT_GE(std::chrono::steady_clock::now() - start, 60ms);  // 20 and 40
  EXPECT_THROW(
      static_cast<void>(
          pipeline().source(std::vector{7}).parallel(third_time, {.threads = 1, .backoff = -1ms})),
      brood::ArgumentError);
}

TEST(PipelineThreads, ThreadsAlone) {
  std::atomic<int> most{0};
  std::atomic<int> now{0};
  const auto wait = [&](int n) {
    const int here = ++now;
    int seen = most.load();
    while (seen < here && !most.compare_exchange_weak(seen, here)) continue;
    std::this_thread::sleep_for(1ms);
    --now;
    return n;
  };
  std::vector<int> done;
  pipeline()
      .source(std::views::iota(0, 200))
      .parallel(wait, {.threads = 8})
      .in_order([&](int n) { done.push_back(n); })
      .run({.workers = 1, .max_in_flight = 32});
  std::vector<int> all(200);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(done, all);
  EXPECT_LE(most.load(), 8);
  EXPECT_GT(most.load(), 1);
  // Short ones, and a failure while others are at work.
  EXPECT_EQ(pipeline()
                .source(std::views::iota(0, 100'000))
                .parallel([](int n) { return 2 * n; }, {.threads = 2})
                .parallel([](int n) { return n + 1; }, {.threads = 2})
                .collect({.workers = 1})
                .back(),
            199'999);
  EXPECT_THROW(
      pipeline()
          .source(std::views::iota(0))
          .parallel([](int n) { return n == 7 ? throw NotYet("seven") : n; }, {.threads = 3})
          .collect({.workers = 1}),
      NotYet);
}

}  // namespace
}  // namespace pipeline_threads_test
