// How long things took in a pool: the distributions, and what they are said to be.
// Not for ThreadSanitizer: processes.
#include <chrono>
#include <cmath>
#include <csignal>
#include <memory>
#include <thread>
#include <vector>

#include <brood/event.hpp>
#include <brood/pool/duration_histogram.hpp>
#include <brood/pool/meter.hpp>

#include "pool_test_support.hpp"

namespace pool_stats_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::ArgumentError;
using brood::DurationStats;
using brood::Pool;
using brood::PoolStats;
using brood::detail::DurationHistogram;
using brood::detail::Meter;
using brood::detail::MeterRow;

using PoolStatsTest = PoolTest;
BROOD_UNDER_EVERY_START_METHOD(PoolStatsTest);

DurationStats stats_of(const DurationHistogram& histogram) {
  DurationStats stats;
  histogram.add_to(stats);
  return stats;
}

TEST(DurationStatsTest, PercentilesAreNearTheTruth) {
  const auto histogram = std::make_unique<DurationHistogram>();
  constexpr int kCount = 100'000;
  for (int i = 1; i <= kCount; ++i) histogram->add(std::int64_t{i} * 1000, 1);
  const DurationStats stats = stats_of(*histogram);
  EXPECT_EQ(stats.count(), 100'000U);
  EXPECT_EQ(stats.max(), 100ms);
  EXPECT_EQ(stats.mean(), 50'000'500ns);
  for (const double percent : {0.5, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9}) {
    const auto found = static_cast<double>(stats.percentile(percent).count());
    EXPECT_NEAR(found / (percent * 1e6), 1, 0.04) << percent;
  }
  EXPECT_EQ(stats.percentile(100), 100ms);
}

TEST(DurationStatsTest, HoldsWhateverAClockCanSay) {
  const auto histogram = std::make_unique<DurationHistogram>();
  EXPECT_EQ(stats_of(*histogram).percentile(50), 0ns) << "nothing yet";
  EXPECT_EQ(DurationStats().percentile(50), 0ns);
  EXPECT_EQ(DurationStats().mean(), 0ns);
  histogram->add(-5, 1);  // a clock that went back
  histogram->add(0, 2);
  histogram->add(std::int64_t{1} << 50, 1);  // thirteen days
  const DurationStats stats = stats_of(*histogram);
  EXPECT_EQ(stats.count(), 4U);
  EXPECT_EQ(stats.percentile(75), 0ns);
  EXPECT_EQ(stats.max(), std::chrono::nanoseconds(std::int64_t{1} << 50));
  EXPECT_EQ(stats.percentile(100), stats.max());
  EXPECT_THROW(static_cast<void>(stats.percentile(-1)), ArgumentError);
  EXPECT_THROW(static_cast<void>(stats.percentile(100.5)), ArgumentError);
  EXPECT_THROW(static_cast<void>(stats.percentile(std::nan(""))), ArgumentError);
}

TEST(DurationStatsTest, BucketsFollowOneAnother) {
  for (std::size_t bucket = 0; bucket < DurationHistogram::kBuckets; ++bucket) {
    const std::uint64_t start = DurationHistogram::start_of(bucket);
    const std::uint64_t end = DurationHistogram::start_of(bucket + 1);
    ASSERT_LT(start, end);
    ASSERT_EQ(DurationHistogram::bucket_of(start), bucket);
    ASSERT_EQ(DurationHistogram::bucket_of(end - 1), bucket);
  }
}

TEST(MeterTest, CountsEveryItemThoughItMeasuresFew) {
  const auto row = std::make_unique<MeterRow>();
  Meter meter(*row);
  std::uint64_t items = 0;
  for (int round = 0; round < 50; ++round) {
    meter.begin();
    for (std::uint32_t chunk = 1; chunk <= 100; ++chunk) {
      if (chunk % 10 == 0) {
        meter.drop();  // is not computed
      } else {
        items += chunk;
      }
      meter.end(chunk);
    }
    meter.pause();
    ASSERT_EQ(stats_of(row->running).count(), items) << round;
  }
}

/// An item's result is there a moment before it is counted.
bool counts(const Pool& pool, std::uint64_t items) {
  return eventually([&] { return pool.stats().running.count() >= items; });
}

int nap(int n) {
  std::this_thread::sleep_for(std::chrono::milliseconds(n));
  return n;
}
int same(int n) { return n; }
void die(int n) {
  if (n == 1) std::raise(SIGKILL);
}

TEST_P(PoolStatsTest, SaysHowLongItemsTook) {
  Pool pool({.workers = 2});
  std::vector<int> naps(20, 1);
  naps[7] = 60;
  pool.with({.chunk = 1}).map(nap, naps);
  EXPECT_TRUE(counts(pool, 20));
  const PoolStats stats = pool.stats();
  SCOPED_TRACE(stats.summary());
  EXPECT_EQ(stats.running.count(), 20U);
  EXPECT_GE(stats.running.percentile(50), 960us);
  EXPECT_GE(stats.running.percentile(100), 60ms);
  EXPECT_EQ(stats.running.percentile(100), stats.running.max());
  EXPECT_GE(stats.running.total(), 79ms);
  EXPECT_GE(stats.age, stats.running.max());
  EXPECT_EQ(stats.waiting.count(), 0U) << "a map is not submitted";
  EXPECT_EQ(stats.counts.map_items, 20U);
  ASSERT_GE(stats.workers.size(), 1U);
  std::uint64_t items = 0;
  std::chrono::nanoseconds busy{0};
  for (const auto& worker : stats.workers) {
    items += worker.items;
    busy += worker.busy;
  }
  EXPECT_EQ(items, 20U);
  EXPECT_GE(busy, stats.running.total());
  EXPECT_LE(busy, 2 * stats.age);
}

TEST_P(PoolStatsTest, CountsSmallItemsInSamples) {
  Pool pool({.workers = 2});
  for (const unsigned chunk : {0U, 1U, 16U, 1000U}) {
    pool.with({.chunk = chunk}).map(same, first_integers(100'000));
  }
  EXPECT_TRUE(counts(pool, 400'000));
  const PoolStats stats = pool.stats();
  SCOPED_TRACE(stats.summary());
  EXPECT_EQ(stats.running.count(), 400'000U);
  EXPECT_LT(stats.running.percentile(50), (kAddressSanitizer ? 100us : 10us));
}

TEST_P(PoolStatsTest, SaysHowLongTasksHaveWaited) {
  Pool pool({.workers = 1});
  pool.apply(same, 1);
  brood::Event go;
  const auto gate = pool.submit([](brood::Event event) { event.wait(); }, go);
  std::vector<brood::Future<int>> futures;
  for (int i = 0; i < 1000; ++i) futures.push_back(pool.submit(same, i));
  std::this_thread::sleep_for(30ms);  // is what they are to have waited
  go.set();
  for (auto& future : futures) future.get();
  EXPECT_TRUE(counts(pool, 1002));
  const PoolStats stats = pool.stats();
  SCOPED_TRACE(stats.summary());
  EXPECT_EQ(stats.running.count(), 1002U);
  EXPECT_EQ(stats.counts.tasks, 1002U);
  // Those at the end of a burst stand for themselves only when the next one comes.
  EXPECT_GT(stats.waiting.count(), 1002U - 32U);
  EXPECT_LE(stats.waiting.count(), 1002U);
  EXPECT_GE(stats.waiting.percentile(10), 20ms) << "behind the one that waited, too";
  EXPECT_LE(stats.waiting.max(), stats.age);
}

TEST_P(PoolStatsTest, GoOnOverDeathsAndTheEnd) {
  Pool pool({.workers = 2});
  pool.map(same, first_integers(10));
  static_cast<void>(pool.with({.chunk = 1}).try_map(die, std::vector<int>{0, 1, 0, 1, 0}));
  pool.map(same, first_integers(10));
  ASSERT_TRUE(eventually([&] { return pool.stats().starting.count() >= 3; }))
      << pool.stats().summary();
  EXPECT_TRUE(counts(pool, 23U - 2)) << "what was before a death in its chunk may be lost";
  PoolStats stats = pool.stats();
  SCOPED_TRACE(stats.summary());
  EXPECT_EQ(stats.counts.crashed, 2U);
  EXPECT_EQ(stats.counts.started, 4U);
  EXPECT_LE(stats.running.count(), 23U);
  EXPECT_GT(stats.starting.total(), 0ns);
  pool.close();
  pool.join();
  stats = pool.stats();
  const PoolStats later = pool.stats();
  ASSERT_EQ(stats.workers.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(stats.workers[i].pid, 0);
    EXPECT_EQ(stats.workers[i].busy, later.workers[i].busy) << "whoever is gone does nothing";
    EXPECT_EQ(stats.workers[i].idle, later.workers[i].idle);
  }
}

TEST_P(PoolStatsTest, KnowsTheIdleFromTheBusy) {
  Pool pool({.workers = 1});
  pool.apply(same, 1);
  const auto idle = [&] { return pool.stats().workers.at(0).idle; };
  ASSERT_TRUE(eventually([&] { return idle() > 5ms; })) << pool.stats().summary();
  const auto before = pool.stats().workers.at(0);
  pool.apply(nap, 30);
  EXPECT_TRUE(counts(pool, 2));
  const auto after = pool.stats().workers.at(0);
  EXPECT_GE(after.busy - before.busy, 29ms);
  EXPECT_EQ(after.items, 2U);
  EXPECT_GT(after.pid, 0);
}

TEST_P(PoolStatsTest, APoolWithoutWorkersHasNone) {
  Pool pool({.workers = 0});
  pool.map(same, first_integers(10));
  EXPECT_EQ(pool.stats().running.count(), 0U);
  EXPECT_TRUE(pool.stats().workers.empty());
  EXPECT_NE(pool.stats().summary(), "");
}

}  // namespace
}  // namespace pool_stats_test
