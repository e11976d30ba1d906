// One task at a time, there and back: submit and get beside the least that two processes can do,
// a futex ping-pong in which both sides sleep.
#include <benchmark/benchmark.h>

#include <brood/brood.hpp>

#include "support/futex_peer.hpp"
#include "support/ratio.hpp"

namespace {

int same(int x) { return x; }

void submit_and_get(benchmark::State& state, brood::Pool& pool) {
  int i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(pool.submit(same, ++i).get());
}

void apply(benchmark::State& state, brood::Pool& pool) {
  int i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(pool.apply(same, ++i));
}

void futex_ping_pong(benchmark::State& state, bench::FutexPeer& peer) {
  for (auto _ : state) peer.round_trip();
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  brood::Pool pool({.workers = 2});
  brood::Pool pool_of_one({.workers = 1});
  bench::FutexPeer peer;
  const auto add = [](const char* name, auto body) {
    benchmark::RegisterBenchmark(name, body)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  add("submit_and_get", [&](benchmark::State& state) { submit_and_get(state, pool); });
  add("submit_and_get_of_one",
      [&](benchmark::State& state) { submit_and_get(state, pool_of_one); });
  add("apply", [&](benchmark::State& state) { apply(state, pool); });
  add("futex_ping_pong", [&](benchmark::State& state) { futex_ping_pong(state, peer); });
  return bench::run(argc, argv,
                    {{.what = "submit and get, 2 workers, beside a futex ping-pong",
                      .ours = "submit_and_get",
                      .beside = "futex_ping_pong",
                      .target = 1.5},
                     {.what = "  the same with 1 worker",
                      .ours = "submit_and_get_of_one",
                      .beside = "futex_ping_pong",
                      .judged = bench::Judged::for_information},
                     {.what = "  apply",
                      .ours = "apply",
                      .beside = "futex_ping_pong",
                      .judged = bench::Judged::for_information}});
}
