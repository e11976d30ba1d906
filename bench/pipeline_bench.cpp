// What a pipeline costs per item: source, two parallel stages and a sink in order, on two worker
// processes beside oneTBB's parallel_pipeline on two threads, for stages of about 1 us and 100 us.
//
// Both have the same number of items in flight. The source and the sink do next to nothing in the
// rows that are judged; "all stages work" gives them as much to do as the others: here one thread
// does both, oneTBB's are different.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <brood/brood.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#ifdef BROOD_BENCH_HAS_TBB
#include <tbb/global_control.h>
#include <tbb/parallel_pipeline.h>
#endif

#include "support/mix.hpp"
#include "support/ratio.hpp"

namespace {

constexpr int kWorkers = 2;
constexpr std::size_t kInFlight = 4096;

template <int Rounds>
struct Mix {
  std::uint64_t operator()(std::uint64_t h) const { return bench::mix<Rounds>(h); }
};
using OneMicrosecond = Mix<760>;
using HundredMicroseconds = Mix<76'000>;

template <class Stage>
constexpr long kItems = std::is_same_v<Stage, OneMicrosecond> ? 200'000 : 4'000;

template <class Once>
void measure(benchmark::State& state, long items, const Once& once) {
  once();
  for (auto _ : state) once();
  state.SetItemsProcessed(state.iterations() * items);
}

template <class Stage, class Ends>
void pipeline(benchmark::State& state, const brood::Pool& pool) {
  const long items = bench::scaled(kItems<Stage>);
  measure(state, items, [&] {
    std::uint64_t sum = 0;
    long next = 0;
    brood::pipeline()
        .source([&]() -> std::optional<std::uint64_t> {
          if (next == items) return std::nullopt;
          return Ends{}(static_cast<std::uint64_t>(next++));
        })
        .parallel(Stage{}, {.pool = &pool})
        .parallel(Stage{}, {.pool = &pool})
        .in_order([&](std::uint64_t h) { sum = sum * 31 + Ends{}(h); })
        .run({.workers = kWorkers, .max_in_flight = kInFlight});
    benchmark::DoNotOptimize(sum);
  });
}

#ifdef BROOD_BENCH_HAS_TBB
template <class Stage, class Ends>
void tbb_pipeline(benchmark::State& state) {
  const long items = bench::scaled(kItems<Stage>);
  measure(state, items, [&] {
    std::uint64_t sum = 0;
    long next = 0;
    tbb::parallel_pipeline(
        kInFlight,
        tbb::make_filter<void, std::uint64_t>(tbb::filter_mode::serial_in_order,
                                              [&](tbb::flow_control& control) -> std::uint64_t {
                                                if (next == items) {
                                                  control.stop();
                                                  return 0;
                                                }
                                                return Ends{}(static_cast<std::uint64_t>(next++));
                                              }) &
            tbb::make_filter<std::uint64_t, std::uint64_t>(tbb::filter_mode::parallel, Stage{}) &
            tbb::make_filter<std::uint64_t, std::uint64_t>(tbb::filter_mode::parallel, Stage{}) &
            tbb::make_filter<std::uint64_t, void>(
                tbb::filter_mode::serial_in_order,
                [&](std::uint64_t h) { sum = sum * 31 + Ends{}(h); }));
    benchmark::DoNotOptimize(sum);
  });
}
#endif

template <class Stage, class Ends>
void add(std::vector<bench::Row>& rows, const brood::Pool& pool, const std::string& what,
         double target) {
  const std::string ours = "pipeline/" + what;
  const std::string beside = "tbb/" + what;
  benchmark::RegisterBenchmark(
      ours.c_str(), [&pool](benchmark::State& state) { pipeline<Stage, Ends>(state, pool); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
#ifdef BROOD_BENCH_HAS_TBB
  benchmark::RegisterBenchmark(beside.c_str(), tbb_pipeline<Stage, Ends>)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
#endif
  rows.push_back({.what = fmt::format("pipeline, {}, beside oneTBB", what),
                  .ours = ours,
                  .beside = beside,
                  .target = target,
                  .judged = target > 0 ? bench::Judged::at_most : bench::Judged::for_information});
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  brood::Pool pool({.workers = kWorkers});
#ifdef BROOD_BENCH_HAS_TBB
  const tbb::global_control threads(tbb::global_control::max_allowed_parallelism, kWorkers);
#endif
  std::vector<bench::Row> rows;
  add<OneMicrosecond, Mix<0>>(rows, pool, "1us", 1.5);
  add<HundredMicroseconds, Mix<0>>(rows, pool, "100us", 1.05);
  add<OneMicrosecond, OneMicrosecond>(rows, pool, "1us, all stages work", 0);
  add<HundredMicroseconds, HundredMicroseconds>(rows, pool, "100us, all stages work", 0);
  return bench::run(argc, argv, rows);
}
