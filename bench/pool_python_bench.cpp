// Small calls in bulk: Pool beside Python's multiprocessing.Pool, both with two processes and a
// function that returns its argument.
#include <benchmark/benchmark.h>

#include <brood/brood.hpp>
#include <exception>
#include <numeric>
#include <vector>

#include "support/python_peer.hpp"
#include "support/ratio.hpp"

namespace {

constexpr long kMapped = 200'000;
constexpr long kInFlight = 100'000;

int same(int x) { return x; }

std::vector<int> arguments() {
  std::vector<int> numbers(static_cast<std::size_t>(bench::scaled(kMapped)));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

void pool_map(benchmark::State& state, brood::Pool& pool) {
  const std::vector<int> numbers = arguments();
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(same, numbers));
  state.SetItemsProcessed(state.iterations() * bench::scaled(kMapped));
}

void pool_submit(benchmark::State& state, brood::Pool& pool) {
  const long n = bench::scaled(kInFlight);
  for (auto _ : state) {
    std::vector<brood::Future<int>> futures;
    futures.reserve(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) futures.push_back(pool.submit(same, i));
    for (brood::Future<int>& future : futures) benchmark::DoNotOptimize(future.get());
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void python(benchmark::State& state, bench::PythonPeer& peer, const char* what, long n) {
  try {
    for (auto _ : state) state.SetIterationTime(peer.seconds(what, n));
    state.SetItemsProcessed(state.iterations() * n);
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  brood::Pool pool({.workers = 2});
  bench::PythonPeer peer;
  const auto add = [](const char* name, auto body) {
    return benchmark::RegisterBenchmark(name, body)->Unit(benchmark::kMillisecond);
  };
  add("pool_map", [&](benchmark::State& state) { pool_map(state, pool); })->UseRealTime();
  add("python_map", [&](benchmark::State& state) {
    python(state, peer, "map", bench::scaled(kMapped));
  })->UseManualTime();
  add("pool_submit", [&](benchmark::State& state) { pool_submit(state, pool); })->UseRealTime();
  add("python_apply_async",
      [&](benchmark::State& state) {
        python(state, peer, "apply_async", bench::scaled(kInFlight));
      })
      ->UseManualTime()
      ->Iterations(1)  // of ten seconds
      ->Repetitions(bench::quick() ? 1 : 3);
  return bench::run(
      argc, argv,
      {{.what = "map of 200,000 no-op calls, beside Python's Pool.map, per call",
        .ours = "pool_map",
        .beside = "python_map",
        .target = 20,
        .judged = bench::Judged::times_as_fast},
       {.what = "100,000 submitted and then got, beside Python's apply_async, per task",
        .ours = "pool_submit",
        .beside = "python_apply_async",
        .target = 30,
        .judged = bench::Judged::times_as_fast}});
}
