#pragma once
// Google Benchmark with a verdict: runs what is registered, and sets what is ours beside what a
// user would take instead.
//
//   BENCHMARK(ours)->UseRealTime();
//   BENCHMARK(beside)->UseRealTime();
//
//   int main(int argc, char** argv) {
//     return bench::run(argc, argv,
//                       {{.what = "map", .ours = "ours", .beside = "beside", .target = 1.0}});
//   }
//
// All repetitions of all benchmarks are run in random order, so that a noisy minute of the machine
// hits both sides; the medians over the repetitions are compared.

#include <string>
#include <vector>

namespace bench {

enum class Judged {
  at_most,          // ours / beside is to be at most the target
  times_as_fast,    // beside / ours is to be at least the target
  ours_at_most,     // ours alone is to be at most the target, in the row's unit
  for_information,  // nothing is to be reached
};

// One line of the table at the end.
struct Row {
  std::string what;
  std::string ours;  // names of benchmarks, as Google Benchmark prints them,
  std::string beside =
      {};  // without what it appends for options ("/real_time"); beside may be empty
  double target = 0;
  Judged judged = Judged::at_most;
  // What is compared: empty for time, per item where the benchmark sets items processed, else per
  // iteration; or the name of a counter, in `unit`.
  std::string counter = {};
  std::string unit =
      {};  // of a counter; for time, of the target of `ours_at_most`: ns, us, ms or s
};

// Whether this is a quick run: everything runs once and briefly, so that it cannot rot, and nothing
// is judged. Asked for by --quick or BROOD_BENCH_QUICK=1. Valid once run() or
// parse_quick() has been called.
bool quick();

// `full`, or in a quick run a hundredth of it.
long scaled(long full);

// Takes --quick out of the arguments. For what is to be sized before run() is called.
void parse_quick(int& argc, char** argv);

// Runs the benchmarks and prints the table; both end up in the JSON of --benchmark_out. Takes
// Google Benchmark's flags and --quick. Returns main's result: 0, or 1 if a flag is unknown or
// a benchmark failed. A missed target is no failure.
int run(int argc, char** argv, const std::vector<Row>& rows);

}  // namespace bench
