// What a pool is used for, beside what a user would take instead: oneTBB's threads, Python's Pool
// and ProcessPoolExecutor, joblib. All with two processes or threads. What a map costs per item,
// beside oneTBB, stands in pool_map_bench.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <brood/brood.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <numeric>
#include <ranges>
#include <string>
#include <vector>

#ifdef BROOD_BENCH_HAS_TBB
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#endif

#include "support/mix.hpp"
#include "support/python_peer.hpp"
#include "support/ratio.hpp"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// --- the article's heavy task: sums of square roots -------------------------------------------

constexpr int kHeavyTasks = 8;

double sum_of_roots(long n) {
  double sum = 0;
  for (long i = 0; i < n; ++i) sum += std::sqrt(static_cast<double>(i));
  return sum;
}
std::vector<long> heavy_tasks() { return std::vector<long>(kHeavyTasks, bench::scaled(2'000'000)); }

void heavy_in_pool(benchmark::State& state, const brood::Pool& pool) {
  const std::vector<long> tasks = heavy_tasks();
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(sum_of_roots, tasks));
}
void heavy_alone(benchmark::State& state) {
  const std::vector<long> tasks = heavy_tasks();
  for (auto _ : state) {
    for (const long n : tasks) benchmark::DoNotOptimize(sum_of_roots(n));
  }
}

// --- uneven work: one item in a hundred takes a hundred times as long -------------------------

constexpr int kUnevenItems = 20'000;

std::uint32_t uneven(std::uint32_t x) {
  // About 100 us and 1 us.
  return static_cast<std::uint32_t>(x % 100 == 57 ? bench::mix<60'000>(x) : bench::mix<600>(x));
}
std::vector<std::uint32_t> uneven_items() {
  std::vector<std::uint32_t> items(static_cast<std::size_t>(bench::scaled(kUnevenItems)));
  std::iota(items.begin(), items.end(), std::uint32_t{0});
  return items;
}

void uneven_in_pool(benchmark::State& state, const brood::Pool& pool) {
  const auto items = uneven_items();
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(uneven, items));
}
#ifdef BROOD_BENCH_HAS_TBB
void uneven_in_tbb(benchmark::State& state) {
  const auto items = uneven_items();
  for (auto _ : state) {
    std::vector<std::uint32_t> results(items.size());
    tbb::parallel_for(std::size_t{0}, items.size(),
                      [&](std::size_t i) { results[i] = uneven(items[i]); });
    benchmark::DoNotOptimize(results.data());
  }
}
#endif

// --- no-op calls: a map of many, and tasks one by one
// --------------------------------------------------------------------------

constexpr long kMapped = 200'000;
constexpr long kTasks = 100'000;

int same(int x) { return x; }

void map_nothing(benchmark::State& state, const brood::Pool& pool) {
  std::vector<int> numbers(static_cast<std::size_t>(bench::scaled(kMapped)));
  std::iota(numbers.begin(), numbers.end(), 0);
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(same, numbers));
  state.SetItemsProcessed(state.iterations() * bench::scaled(kMapped));
}

template <class P>
void submit_all(benchmark::State& state, const P& pool) {
  const long n = bench::scaled(kTasks);
  for (auto _ : state) {
    std::vector<brood::Future<int>> futures;
    futures.reserve(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) futures.push_back(pool.submit(same, i));
    for (brood::Future<int>& future : futures) benchmark::DoNotOptimize(future.get());
  }
  state.SetItemsProcessed(state.iterations() * n);
}

// --- limits ------------------------------------------------------------------------------------

std::uint32_t hundred_nanoseconds(std::uint32_t x) {
  return static_cast<std::uint32_t>(bench::mix<96>(x));
}

/// The same with a line for the log, which is switched off.
std::uint32_t hundred_nanoseconds_logged(std::uint32_t x) {
  brood::log::debug("item {}", x);
  return hundred_nanoseconds(x);
}

template <class P>
void map_small(benchmark::State& state, const P& pool,
               std::uint32_t (*function)(std::uint32_t) = hundred_nanoseconds) {
  const auto n = static_cast<std::uint32_t>(bench::scaled(1'000'000));
  const auto items = std::views::iota(std::uint32_t{0}, n);
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(function, items));
  state.SetItemsProcessed(state.iterations() * n);
}

// --- large results -----------------------------------------------------------------------------

std::vector<char> large(long bytes) {
  return std::vector<char>(static_cast<std::size_t>(bytes), 'x');
}

// The same in memory that the family shares: what comes back is a handle.
brood::SharedArray<char> large_shared(long bytes) {
  return brood::SharedArray<char>(static_cast<std::size_t>(bytes), 'x');
}

template <auto F>
void large_results(benchmark::State& state, const brood::Pool& pool, long bytes) {
  const std::vector<long> two{bytes, bytes};
  // Not the first: it takes pages, which on a virtual machine its host may have to find first.
  // Twice, as one worker may have had both.
  for (int i = 0; i < 2; ++i) benchmark::DoNotOptimize(pool.map(F, two));
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(F, two));
  state.SetItemsProcessed(state.iterations() * 2);
}

// --- deaths ------------------------------------------------------------------------------------

int die(int) {
  std::raise(SIGKILL);
  return 0;
}

// From before the death until the item is decided and the worker that takes its place has computed
// another item: of a pool with one worker, so that nobody else can.
void death_of_a_worker(benchmark::State& state, const brood::Pool& pool) {
  for (auto _ : state) {
    const auto start = Clock::now();
    try {
      pool.apply(die, 1);
      return state.SkipWithError("it lived");
    } catch (const brood::WorkerCrashed&) {
      benchmark::DoNotOptimize(pool.apply(same, 1));
    }
    state.SetIterationTime(seconds_since(start));
  }
}

// --- memory of a stream ------------------------------------------------------------------------

// Of this process and the family, in KiB.
double memory() {
  long pages = 0;
  long resident = 0;
  long shared = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident >> shared;
  return static_cast<double>((resident - shared) * 4) +
         static_cast<double>(brood::shared_memory_info().used) / 1024;
}

// How much the most is more than after a hundredth of the items.
void memory_of_a_stream(benchmark::State& state, const brood::Pool& pool) {
  const auto n = static_cast<int>(bench::scaled(1'000'000));
  for (auto _ : state) {
    double early = 0;
    double most = 0;
    int taken = 0;
    for (const int x : pool.imap(same, std::views::iota(0, n))) {
      benchmark::DoNotOptimize(uneven(static_cast<std::uint32_t>(x) * 100));  // slower than they
      if (++taken == n / 100) early = memory();
      if (taken % (n / 100) == 0) most = std::max(most, memory());
    }
    state.counters["KiB"] = std::max(most - early, 0.0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  const brood::Pool pool({.workers = 2});
  const brood::Pool one({.workers = 1});
  bench::PythonPeer peer;
  const auto add = [](const std::string& name, auto body) {
    return benchmark::RegisterBenchmark(name.c_str(), body)->Unit(benchmark::kMillisecond);
  };
  const auto add_real = [&](const char* name, auto body) { add(name, body)->UseRealTime(); };
  const auto add_python = [&](const char* name, const char* what, long n, long items) {
    add(name,
        [&peer, what, n, items](benchmark::State& state) { peer.measure(state, what, n, items); })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(bench::quick() ? 1 : 3);
  };
  std::vector<bench::Row> rows;

  add_real("heavy", [&](benchmark::State& state) { heavy_in_pool(state, pool); });
  add_real("heavy_alone", heavy_alone);
  rows.push_back({.what = "square roots, 8 times 2,000,000, beside one process",
                  .ours = "heavy",
                  .beside = "heavy_alone",
                  .target = 1.95,
                  .judged = bench::Judged::times_as_fast});

  add_real("uneven", [&](benchmark::State& state) { uneven_in_pool(state, pool); });
#ifdef BROOD_BENCH_HAS_TBB
  const tbb::global_control two_threads(tbb::global_control::max_allowed_parallelism, 2);
  add_real("uneven_tbb", uneven_in_tbb);
  rows.push_back({.what = "1 us, one in a hundred 100 us, beside oneTBB",
                  .ours = "uneven",
                  .beside = "uneven_tbb",
                  .target = 1.05});
#endif

  add_real("map", [&](benchmark::State& state) { map_nothing(state, pool); });
  const long mapped = bench::scaled(kMapped);
  add("python_map", [&peer, mapped](benchmark::State& state) {
    peer.measure(state, "map", mapped);
  })->UseManualTime();
  rows.push_back({.what = "map of 200,000 no-op calls, beside Python's Pool",
                  .ours = "map",
                  .beside = "python_map",
                  .target = 20,
                  .judged = bench::Judged::times_as_fast});

  const long tasks = bench::scaled(kTasks);
  add_real("submit", [&](benchmark::State& state) { submit_all(state, pool); });
  add_python("python_apply_async", "apply_async", tasks, tasks);
  add_python("python_executor", "executor", tasks / 5, tasks / 5);
  rows.push_back({.what = "100,000 no-op tasks, one by one, beside Python's Pool",
                  .ours = "submit",
                  .beside = "python_apply_async",
                  .target = 50,
                  .judged = bench::Judged::times_as_fast});
  rows.push_back({.what = "  beside its ProcessPoolExecutor",
                  .ours = "submit",
                  .beside = "python_executor",
                  .target = 100,
                  .judged = bench::Judged::times_as_fast});

  const long bytes = bench::scaled(50'000'000);
  add_real("large", [&](benchmark::State& state) { large_results<large>(state, pool, bytes); });
  add_real("large_shared",
           [&](benchmark::State& state) { large_results<large_shared>(state, pool, bytes); });
  if (peer.seconds("has_joblib", 0) == 1) {
    add_python("joblib_large", "joblib_large", bytes, 2);
    rows.push_back({.what = "results of 50 MB, beside joblib's best",
                    .ours = "large",
                    .beside = "joblib_large",
                    .target = 20,
                    .judged = bench::Judged::times_as_fast});
    rows.push_back({.what = "  as SharedArrays",
                    .ours = "large_shared",
                    .beside = "joblib_large",
                    .target = 20,
                    .judged = bench::Judged::times_as_fast});
  }

  const auto limited = pool.with({.timeout = 60s, .retries = 3});
  add_real("small", [&](benchmark::State& state) { map_small(state, pool); });
  add_real("small_limited", [&](benchmark::State& state) { map_small(state, limited); });
  rows.push_back({.what = "map of 100 ns with a time limit and retries, beside none",
                  .ours = "small_limited",
                  .beside = "small",
                  .target = 1.1});
  add_real("submit_limited", [&](benchmark::State& state) { submit_all(state, limited); });
  rows.push_back(
      {.what = "  tasks, one by one", .ours = "submit_limited", .beside = "submit", .target = 1.1});

  add_real("small_logged",
           [&](benchmark::State& state) { map_small(state, pool, hundred_nanoseconds_logged); });
  rows.push_back({.what = "map of 100 ns, each with a line for a log that is off, beside none",
                  .ours = "small_logged",
                  .beside = "small",
                  .target = 1.05});

  add("death", [&](benchmark::State& state) { death_of_a_worker(state, one); })->UseManualTime();
  rows.push_back({.what = "a worker killed, item decided, worker replaced and at work",
                  .ours = "death",
                  .target = 5,
                  .judged = bench::Judged::ours_at_most,
                  .unit = "ms"});

  add("stream", [&](benchmark::State& state) { memory_of_a_stream(state, pool); })
      ->Iterations(1)
      ->Repetitions(bench::quick() ? 1 : 3);
  rows.push_back({.what = "1,000,000 items through imap, slow consumer: growth of memory",
                  .ours = "stream",
                  .target = 1024,
                  .judged = bench::Judged::ours_at_most,
                  .counter = "KiB",
                  .unit = "KiB"});
  return bench::run(argc, argv, rows);
}
