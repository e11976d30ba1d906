// How long a fresh program takes from the first line of main to its first mapped result. This
// program executes itself anew for each measurement and lets the copy look at its clock.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <brood/brood.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "support/ratio.hpp"

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kFresh = "--fresh";  // followed by a start method
constexpr int kRuns = 20;

int square(int x) { return x * x; }

int print_seconds_to_first_result(Clock::time_point start, const std::string& method) {
  brood::Pool pool({.workers = 2, .start_method = brood::start_method_from(method)});
  const std::vector<int> squares = pool.map(square, std::vector<int>{1, 2, 3, 4});
  const std::chrono::duration<double> seconds = Clock::now() - start;
  fmt::print("{}\n", seconds.count());
  return squares == std::vector<int>{1, 4, 9, 16} ? 0 : 1;
}

void first_result(benchmark::State& state, const std::string& method) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = fmt::format("exec '{}' {} {}", program, kFresh, method);
  for (auto _ : state) {
    std::FILE* const answer = ::popen(command.c_str(), "r");
    double seconds = 0;
    const bool measured = answer != nullptr && std::fscanf(answer, "%lf", &seconds) == 1;
    if (answer == nullptr || ::pclose(answer) != 0 || !measured) {
      state.SkipWithError("the fresh program failed");
      break;
    }
    state.SetIterationTime(seconds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto start = Clock::now();
  brood::Runtime runtime(argc, argv);
  if (argc == 3 && argv[1] == kFresh) return print_seconds_to_first_result(start, argv[2]);

  bench::parse_quick(argc, argv);
  std::vector<bench::Row> rows;
  for (const brood::StartMethod method : brood::get_all_start_methods()) {
    const std::string name = "first_result/" + brood::to_string(method);
    benchmark::RegisterBenchmark(
        name.c_str(),
        [method](benchmark::State& state) { first_result(state, brood::to_string(method)); })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(bench::quick() ? 1 : kRuns)
        ->Unit(benchmark::kMillisecond);
    const bool judged = method == brood::StartMethod::forkserver;
    rows.push_back(
        {.what = fmt::format("first mapped result, from main, {}", brood::to_string(method)),
         .ours = name,
         .target = 5,
         .judged = judged ? bench::Judged::ours_at_most : bench::Judged::for_information,
         .unit = "ms"});
  }
  return bench::run(argc, argv, rows);
}
