// Two processes that count in one value, 100,000 times each, with its lock: beside Python's Value,
// used in the same way. Each starts its processes.
#include <benchmark/benchmark.h>

#include <brood/brood.hpp>
#include <brood/value.hpp>

#include "support/python_peer.hpp"
#include "support/ratio.hpp"

namespace {

constexpr long kTimes = 100'000;

void count(brood::Value<long> value, long times) {
  for (long i = 0; i < times; ++i) ++*value.lock();
}
void add(brood::Value<long> value, long times) {
  for (long i = 0; i < times; ++i) value.fetch_add(1);
}

void two(benchmark::State& state, void (*body)(brood::Value<long>, long)) {
  const long n = bench::scaled(kTimes);
  for (auto _ : state) {
    const brood::Value<long> value(0);
    brood::Process a(body, value, n);
    brood::Process b(body, value, n);
    a.start();
    b.start();
    a.join();
    b.join();
    if (value.get() != 2 * n) state.SkipWithError("some were lost");
  }
  state.SetItemsProcessed(state.iterations() * 2 * n);
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  bench::PythonPeer peer;
  benchmark::RegisterBenchmark("locked", [](benchmark::State& state) {
    two(state, count);
  })->UseRealTime();
  benchmark::RegisterBenchmark("fetch_add", [](benchmark::State& state) {
    two(state, add);
  })->UseRealTime();
  benchmark::RegisterBenchmark("python_locked", [&](benchmark::State& state) {
    const long n = bench::scaled(kTimes);
    peer.measure(state, "value", n, 2 * n);
  })->UseManualTime();
  return bench::run(argc, argv,
                    {{.what = "2 processes times 100,000 locked increments, beside Python's Value",
                      .ours = "locked",
                      .beside = "python_locked",
                      .target = 20,
                      .judged = bench::Judged::times_as_fast},
                     {.what = "the same by fetch_add",
                      .ours = "fetch_add",
                      .beside = "python_locked",
                      .judged = bench::Judged::for_information}});
}
