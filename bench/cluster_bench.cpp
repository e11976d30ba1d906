// Tasks on a cluster of two agents on this machine, each with one worker, beside Dask's distributed
// with as many, and beside a pool of this machine.
#include <brood/brood.hpp>
#include <brood/cluster_pool.hpp>

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

#include "support/nats_peer.hpp"
#include "support/python_peer.hpp"
#include "support/ratio.hpp"

namespace {

using namespace std::chrono_literals;

int same(int n) { return n; }

// 10 ms of the CPU.
int ten_milliseconds(int n) {
  const auto end = std::chrono::steady_clock::now() + 10ms;
  int turns = n;
  while (std::chrono::steady_clock::now() < end) benchmark::DoNotOptimize(++turns);
  return n;
}

void round_trips(benchmark::State& state, const brood::ClusterPool& pool, long n) {
  for (auto _ : state) {
    for (long i = 0; i < n; ++i) benchmark::DoNotOptimize(pool.apply(same, 1));
  }
  state.SetItemsProcessed(state.iterations() * n);
}

template <class P>
void map_of(benchmark::State& state, const P& pool, int (*f)(int), long n) {
  const auto items = std::views::iota(0, static_cast<int>(n));
  for (auto _ : state) benchmark::DoNotOptimize(pool.map(f, items));
  state.SetItemsProcessed(state.iterations() * n);
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  bench::NatsPeer nats;
  if (!nats.start()) {
    std::printf("cluster_bench: %s\n", nats.why_not().c_str());
    return 0;
  }
  brood::Pool local({.workers = 2});
  nats.add_agent();
  nats.add_agent();
  const brood::ClusterPool cluster({.url = nats.url()});
  while (cluster.nodes().size() < 2) std::this_thread::sleep_for(10ms);
  bench::PythonPeer peer;
  const bool dask = peer.seconds("has_dask", 0) == 1;

  const auto add = [](const char* name, auto body) {
    return benchmark::RegisterBenchmark(name, body)->UseRealTime();
  };
  const auto add_dask = [&](const char* name, const char* what, long n) {
    benchmark::RegisterBenchmark(
        name, [&peer, what, n](benchmark::State& state) { peer.measure(state, what, n); })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(bench::quick() ? 1 : 3);
  };
  std::vector<bench::Row> rows;

  const long trips = bench::scaled(200);
  add("round_trip", [&](benchmark::State& state) { round_trips(state, cluster, trips); });
  if (dask) add_dask("dask_round_trip", "dask_round_trip", trips);
  rows.push_back({.what = "no-op tasks one by one: round trip, beside Dask",
                  .ours = "round_trip",
                  .beside = dask ? "dask_round_trip" : "",
                  .target = 0.1});

  const long tasks = bench::scaled(100'000);
  add("map", [&](benchmark::State& state) { map_of(state, cluster, same, tasks); });
  if (dask) add_dask("dask_map", "dask_map", tasks / 10);
  rows.push_back({.what = "100,000 small tasks mapped, beside Dask",
                  .ours = "map",
                  .beside = dask ? "dask_map" : "",
                  .target = 20,
                  .judged = bench::Judged::times_as_fast});
  rows.push_back({.what = "  a task of these",
                  .ours = "map",
                  .target = 50,
                  .judged = bench::Judged::ours_at_most,
                  .unit = "us"});

  const long payload = bench::scaled(16'000'000);
  add("payload", [&](benchmark::State& state) {
    const std::string data(static_cast<std::size_t>(payload), 'x');
    for (auto _ : state) {
      benchmark::DoNotOptimize(cluster.apply([](const std::string& s) { return s; }, data));
    }
    state.SetItemsProcessed(state.iterations() * payload);
  });
  if (dask) add_dask("dask_payload", "dask_payload", payload);
  rows.push_back({.what = "16 MB there and back, beside Dask",
                  .ours = "payload",
                  .beside = dask ? "dask_payload" : "",
                  .judged = bench::Judged::for_information});

  const long heavy = bench::scaled(20'000) / 100 + 4;
  add("heavy", [&](benchmark::State& state) { map_of(state, cluster, ten_milliseconds, heavy); });
  add("heavy_local",
      [&](benchmark::State& state) { map_of(state, local, ten_milliseconds, heavy); });
  rows.push_back({.what = "tasks of 10 ms, beside a pool of this machine",
                  .ours = "heavy",
                  .beside = "heavy_local",
                  .target = 1.05});
  return bench::run(argc, argv, rows);
}
