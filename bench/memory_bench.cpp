// What an idle worker adds: the memory that is its own alone, after it has worked and while it
// waits for more. Beside it, what a process of this program has for itself before it begins.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <brood/brood.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/ratio.hpp"

namespace {

constexpr std::string_view kBare = "--bare";

int square(int x) { return x * x; }

// Private_Clean and Private_Dirty of all mappings of a process, in kB: what would be free if it
// ended.
double private_kb(int pid) {
  std::ifstream rollup(fmt::format("/proc/{}/smaps_rollup", pid));
  double sum = 0;
  bool found = false;
  for (std::string line; std::getline(rollup, line);) {
    double kb = 0;
    if (std::sscanf(line.c_str(), "Private_Clean: %lf kB", &kb) == 1 ||
        std::sscanf(line.c_str(), "Private_Dirty: %lf kB", &kb) == 1) {
      sum += kb;
      found = true;
    }
  }
  if (!found) throw std::runtime_error(fmt::format("/proc/{}/smaps_rollup tells nothing", pid));
  return sum;
}

void idle_worker(benchmark::State& state, brood::StartMethod method) {
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 0);
  for (auto _ : state) {
    brood::Pool pool({.workers = 2, .start_method = method});
    benchmark::DoNotOptimize(pool.map(square, numbers));
    double most = 0;
    for (const int pid : pool.worker_pids()) most = std::max(most, private_kb(pid));
    state.counters["private_kB"] = most;
  }
}

// A process of this program that has done nothing but reach main.
void bare_program(benchmark::State& state) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = fmt::format("exec '{}' {}", program, kBare);
  for (auto _ : state) {
    std::FILE* const answer = ::popen(command.c_str(), "r");
    double kb = 0;
    const bool measured = answer != nullptr && std::fscanf(answer, "%lf", &kb) == 1;
    if (answer == nullptr || ::pclose(answer) != 0 || !measured) {
      state.SkipWithError("the bare program failed");
      break;
    }
    state.counters["private_kB"] = kb;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && argv[1] == kBare) {
    fmt::print("{}\n", private_kb(::getpid()));
    return 0;
  }
  brood::Runtime runtime(argc, argv);
  std::vector<bench::Row> rows;
  for (const brood::StartMethod method : brood::get_all_start_methods()) {
    const std::string name = "idle_worker/" + brood::to_string(method);
    benchmark::RegisterBenchmark(name.c_str(),
                                 [method](benchmark::State& state) { idle_worker(state, method); })
        ->UseRealTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
    const bool judged = method == brood::StartMethod::forkserver;
    rows.push_back(
        {.what = fmt::format("private memory of an idle worker, {}, beside a bare process",
                             brood::to_string(method)),
         .ours = name,
         .beside = "bare_program",
         .target = 1024,
         .judged = judged ? bench::Judged::ours_at_most : bench::Judged::for_information,
         .counter = "private_kB",
         .unit = "kB"});
  }
  benchmark::RegisterBenchmark("bare_program", bare_program)
      ->UseRealTime()
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
  return bench::run(argc, argv, rows);
}
