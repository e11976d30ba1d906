// A pipeline without an end, for tests that end it: pipeline_program [METHOD].
#include <chrono>
#include <cstdio>
#include <ranges>
#include <string>
#include <thread>

#include <brood/brood.hpp>

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  for (const brood::StartMethod method : brood::get_all_start_methods()) {
    if (argc > 1 && brood::to_string(method) == std::string(argv[1])) {
      brood::set_start_method(method);
    }
  }
  brood::pipeline()
      .source(std::views::iota(0))
      .parallel([](int n) { return n + 1; })
      .parallel(
          [](int n) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return n;
          },
          {.threads = 2})
      .in_order([](int n) {
        if (n == 50) std::puts("up"), std::fflush(stdout);
      })
      .run({.workers = 2, .max_in_flight = 16});
}
