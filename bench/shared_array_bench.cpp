// 1 GiB in shared memory to a child that writes to its pages, and back: beside a process that does
// nothing. Nothing is copied, so both cost the same.
#include <benchmark/benchmark.h>

#include <brood/brood.hpp>
#include <brood/shared_array.hpp>

#include "support/ratio.hpp"

namespace {

using Bytes = brood::SharedArray<unsigned char>;

void nothing() {}
void touch(Bytes bytes) { bytes[bytes.size() - 1] = static_cast<unsigned char>(bytes[0] + 1); }

void child(benchmark::State& state, auto... call) {
  for (auto _ : state) {
    brood::Process process(call...);
    process.start();
    process.join();
    if (process.exitcode() != 0) {
      state.SkipWithError("the child did not end well");
      break;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  const Bytes bytes(static_cast<std::size_t>(bench::scaled(1L << 30)));
  benchmark::RegisterBenchmark("one_gib", [&](benchmark::State& state) {
    child(state, touch, bytes);
  })->UseRealTime();
  benchmark::RegisterBenchmark("empty", [&](benchmark::State& state) {
    child(state, nothing);
  })->UseRealTime();
  return bench::run(argc, argv,
                    {{.what = "a child that writes to 1 GiB, beside one that does nothing",
                      .ours = "one_gib",
                      .beside = "empty",
                      .target = 1.5}});
}
