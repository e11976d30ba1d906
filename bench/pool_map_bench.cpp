// What mapping a function costs per item: Pool::map with two processes beside oneTBB's parallel_for
// with two threads, for functions of about 1 ns, 50 ns and 100 ns, and chunks that suit and do not.
//
// Both sides turn a vector of a million numbers into a fresh vector of a million numbers. The
// rows "into the same vector" spare oneTBB the fresh one, which Pool::map does not offer. The rows
// "two bare processes" show what of the difference is due to there being processes at all: threads
// read and write the caller's vectors, for processes the items and the results are copied.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <brood/brood.hpp>
#include <cstdint>
#include <numeric>
#include <ranges>
#include <string>
#include <vector>

#ifdef BROOD_BENCH_HAS_TBB
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#endif

#include "support/bare_map.hpp"
#include "support/mix.hpp"
#include "support/ratio.hpp"

namespace {

// A function of Rounds dependent rounds. It is computed in 64 bits because the compiler then
// leaves both sides' loops scalar.
template <int Rounds>
struct Mix {
  std::uint32_t operator()(std::uint32_t x) const {
    return static_cast<std::uint32_t>(bench::mix<Rounds>(x));
  }
};
using OneNanosecond = Mix<3>;
using FiftyNanoseconds = Mix<48>;
using HundredNanoseconds = Mix<96>;

constexpr std::uint32_t kItems = 1'000'000;
constexpr std::size_t kAutomatic = 0;
constexpr int kWorkers = 2;

using Numbers = std::vector<std::uint32_t>;

std::uint32_t items() { return static_cast<std::uint32_t>(bench::scaled(kItems)); }

Numbers input() {
  Numbers numbers(items());
  std::iota(numbers.begin(), numbers.end(), 0u);
  return numbers;
}

// Runs `once` for as long as Google Benchmark wants, after one run that is not measured.
template <class Once>
void measure(benchmark::State& state, const Once& once) {
  once();
  for (auto _ : state) once();
  state.SetItemsProcessed(state.iterations() * items());
}

template <class Function>
void serial(benchmark::State& state) {
  const Numbers numbers = input();
  measure(state, [&] {
    Numbers results(numbers.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) results[i] = Function{}(numbers[i]);
    benchmark::DoNotOptimize(results.data());
  });
}

template <class Function, class Range>
void pool_map(benchmark::State& state, brood::Pool& pool, std::size_t chunk, const Range& range) {
  measure(state, [&] {
    Numbers results = chunk == kAutomatic ? pool.map(Function{}, range)
                                          : pool.with({.chunk = chunk}).map(Function{}, range);
    benchmark::DoNotOptimize(results.data());
  });
}

template <class Function>
void bare_map(benchmark::State& state) {
  const Numbers numbers = input();
  bench::BareMap<Function> bare(items());
  measure(state, [&] {
    Numbers results = bare.map(numbers);
    benchmark::DoNotOptimize(results.data());
  });
}

#ifdef BROOD_BENCH_HAS_TBB
template <class Function>
void tbb_into(const Numbers& numbers, Numbers& results, std::size_t chunk) {
  const auto body = [&](const tbb::blocked_range<std::size_t>& range) {
    for (std::size_t i = range.begin(); i != range.end(); ++i) results[i] = Function{}(numbers[i]);
  };
  if (chunk == kAutomatic)
    tbb::parallel_for(tbb::blocked_range<std::size_t>(0, numbers.size()), body,
                      tbb::auto_partitioner{});
  else
    tbb::parallel_for(tbb::blocked_range<std::size_t>(0, numbers.size(), chunk), body,
                      tbb::simple_partitioner{});
}

template <class Function>
void tbb_for(benchmark::State& state, std::size_t chunk) {
  const Numbers numbers = input();
  measure(state, [&] {
    Numbers results(numbers.size());
    tbb_into<Function>(numbers, results, chunk);
    benchmark::DoNotOptimize(results.data());
  });
}

template <class Function>
void tbb_for_same_vector(benchmark::State& state, std::size_t chunk) {
  const Numbers numbers = input();
  Numbers results(numbers.size());
  measure(state, [&] {
    tbb_into<Function>(numbers, results, chunk);
    benchmark::DoNotOptimize(results.data());
  });
}
#endif

// Registers both sides and says how they are compared.
class Suite {
 public:
  explicit Suite(brood::Pool& pool) : pool_(pool) {}

  // `target`: of ours / oneTBB's.
  template <class Function>
  void add_chunk(const std::string& cost, std::size_t chunk, double target) {
    const std::string size = chunk == kAutomatic ? "automatic" : std::to_string(chunk);
    const std::string tail = fmt::format("/{}/chunk:{}", cost, size);
    add("pool_map" + tail, [this, chunk](benchmark::State& state) {
      pool_map<Function>(state, pool_, chunk, input());
    });
#ifdef BROOD_BENCH_HAS_TBB
    add("tbb" + tail, [chunk](benchmark::State& state) { tbb_for<Function>(state, chunk); });
    add("tbb_same_vector" + tail,
        [chunk](benchmark::State& state) { tbb_for_same_vector<Function>(state, chunk); });
#endif
    rows_.push_back({.what = fmt::format("map, {}, chunk {}, beside oneTBB", cost, size),
                     .ours = "pool_map" + tail,
                     .beside = "tbb" + tail,
                     .target = target});
    compare(fmt::format("  oneTBB into the same vector, chunk {}", size), "pool_map" + tail,
            "tbb_same_vector" + tail);
  }

  template <class Function>
  void add_iota(const std::string& cost) {
    add("pool_map_iota/" + cost, [this](benchmark::State& state) {
      pool_map<Function>(state, pool_, kAutomatic, std::views::iota(std::uint32_t{0}, items()));
    });
    compare("  the same over views::iota, automatic", "pool_map_iota/" + cost,
            fmt::format("tbb/{}/chunk:automatic", cost));
  }

  template <class Function>
  void add_bare(const std::string& cost) {
    add("bare/" + cost, bare_map<Function>);
    compare("  two bare processes, beside oneTBB, automatic", "bare/" + cost,
            fmt::format("tbb/{}/chunk:automatic", cost));
    compare("  map beside two bare processes", fmt::format("pool_map/{}/chunk:automatic", cost),
            "bare/" + cost);
  }

  template <class Function>
  void add_serial(const std::string& cost) {
    add("serial/" + cost, serial<Function>);
    compare("  beside a loop in one thread", fmt::format("pool_map/{}/chunk:automatic", cost),
            "serial/" + cost);
  }

  const std::vector<bench::Row>& rows() const { return rows_; }

 private:
  template <class Body>
  static void add(const std::string& name, Body body) {
    benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMicrosecond);
  }

  void compare(const std::string& what, const std::string& ours, const std::string& beside) {
    rows_.push_back(
        {.what = what, .ours = ours, .beside = beside, .judged = bench::Judged::for_information});
  }

  brood::Pool& pool_;
  std::vector<bench::Row> rows_;
};

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  brood::Pool pool({.workers = kWorkers});
#ifdef BROOD_BENCH_HAS_TBB
  const tbb::global_control threads(tbb::global_control::max_allowed_parallelism, kWorkers);
#endif
  Suite suite(pool);
  suite.add_chunk<OneNanosecond>("1ns", 1, 0.4);
  suite.add_chunk<OneNanosecond>("1ns", 16, 0.6);
  suite.add_chunk<OneNanosecond>("1ns", 256, 0.9);
  suite.add_chunk<OneNanosecond>("1ns", kAutomatic, 1.0);
  suite.add_iota<OneNanosecond>("1ns");
  suite.add_bare<OneNanosecond>("1ns");
  suite.add_serial<OneNanosecond>("1ns");
  suite.add_chunk<FiftyNanoseconds>("50ns", 1, 0.9);
  suite.add_chunk<FiftyNanoseconds>("50ns", 16, 1.0);
  suite.add_chunk<FiftyNanoseconds>("50ns", 256, 1.0);
  suite.add_chunk<FiftyNanoseconds>("50ns", kAutomatic, 1.0);
  suite.add_iota<FiftyNanoseconds>("50ns");
  suite.add_bare<FiftyNanoseconds>("50ns");
  suite.add_serial<FiftyNanoseconds>("50ns");
  suite.add_chunk<HundredNanoseconds>("100ns", kAutomatic, 1.0);
  return bench::run(argc, argv, suite.rows());
}
