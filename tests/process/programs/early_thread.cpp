// A program in which a thread runs before main, as a library's initialiser may start one.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <brood/brood.hpp>

namespace {

// Never joined nor ended, as such threads are.
[[maybe_unused]] const bool kStarted = [] {
  std::thread([] {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }).detach();
  return true;
}();

int twice(int n) { return 2 * n; }

/// Exits with 7 if its children, started by either method, do what they shall. `starter`: who
/// started the last one, by forkserver.
void start_others(brood::Value<int> starter) {
  for (const auto method : {brood::StartMethod::spawn, brood::StartMethod::forkserver}) {
    brood::Process child(
        {.start_method = method},
        [](brood::Value<int> parent) {
          parent.set(::getppid());
          std::exit(6);
        },
        starter);
    child.start().join();
    if (child.exitcode() != 6) std::exit(5);
  }
  std::exit(7);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const brood::Runtime runtime(argc, argv);
    if (argc < 2) return 2;
    brood::set_start_method(brood::start_method_from(argv[1]));
    for (int round = 0; round < 2; ++round) {
      const brood::Value<int> starter(0);
      brood::Process child(start_others, starter);
      child.start().join();
      if (child.exitcode() != 7) return 3;
      // All have the same fork server.
      brood::Process other(
          {.start_method = brood::StartMethod::forkserver},
          [](int parent) { std::exit(::getppid() == parent ? 7 : 8); }, starter.get());
      other.start().join();
      if (other.exitcode() != 7) return 5;
      const brood::Pool pool({.workers = 2});
      if (pool.map(twice, std::vector<int>{1, 2}) != std::vector<int>{2, 4}) return 4;
    }
    std::puts("fine");
    return 0;
  } catch (const brood::Error& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
