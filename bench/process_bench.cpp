// A process from start to joined: under each start method, beside a bare fork, _exit and waitpid of
// this program, which has touched 10 MB of heap, and beside Python's Process.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brood/brood.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "support/python_peer.hpp"
#include "support/ratio.hpp"

namespace {

constexpr std::size_t kHeap = 10'000'000;

void nothing() {}

void process(benchmark::State& state, brood::StartMethod method) {
  for (auto _ : state) {
    brood::Process child({.start_method = method}, nothing);
    child.start();
    child.join();
    if (child.exitcode() != 0) {
      state.SkipWithError("the child did not end well");
      break;
    }
  }
}

void fork_exit_waitpid(benchmark::State& state) {
  for (auto _ : state) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(0);
    if (pid < 0 || ::waitpid(pid, nullptr, 0) != pid) {
      state.SkipWithError(std::strerror(errno));
      break;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  const std::vector<char> heap(kHeap, 'x');
  benchmark::DoNotOptimize(heap.data());
  bench::PythonPeer peer;

  std::vector<bench::Row> rows;
  for (const brood::StartMethod method : brood::get_all_start_methods()) {
    const std::string name = "process/" + brood::to_string(method);
    benchmark::RegisterBenchmark(name.c_str(),
                                 [method](benchmark::State& state) { process(state, method); })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
    const bool judged = method == brood::StartMethod::forkserver;
    rows.push_back({.what = fmt::format("Process start to joined, {}, beside fork to waitpid",
                                        brood::to_string(method)),
                    .ours = name,
                    .beside = "fork_exit_waitpid",
                    .target = 1.5,
                    .judged = judged ? bench::Judged::at_most : bench::Judged::for_information});
  }
  benchmark::RegisterBenchmark("fork_exit_waitpid", fork_exit_waitpid)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark(
      "python_process",
      [&](benchmark::State& state) { peer.measure(state, "process", bench::scaled(100)); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
  rows.push_back({.what = "  forkserver, beside Python's Process (fork)",
                  .ours = "process/forkserver",
                  .beside = "python_process",
                  .judged = bench::Judged::for_information});
  return bench::run(argc, argv, rows);
}
