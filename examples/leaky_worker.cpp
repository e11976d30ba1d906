// A library that leaks: its workers are replaced before it hurts, and what each item may take is
// bounded.
#include <brood/brood.hpp>

#include <cstdio>
#include <ranges>
#include <set>
#include <utility>
#include <vector>

#include <unistd.h>

// [leak]
constexpr std::size_t kMiB = std::size_t{1} << 20U;

std::vector<std::vector<char>> cache;  // that nobody ever empties

/// What was computed, and where.
std::pair<int, int> compute(int n) {
  cache.emplace_back((n == 77 ? 900 : 8) * kMiB, 'x');
  return {n * n, ::getpid()};
}
// [/leak]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  // [recycled]
  brood::Pool pool({.workers = 2, .max_worker_growth = 64 * kMiB});
  std::set<int> workers;
  long sum = 0;
  for (const auto& [square, pid] : pool.with({.chunk = 1}).map(compute, std::views::iota(0, 64))) {
    sum += square;
    workers.insert(pid);
  }
  std::printf("the sum is %ld, by %s processes\n", sum, workers.size() > 6 ? "many" : "few");
  // [/recycled]

  // [bounded]
  const auto outcomes =
      pool.with({.memory = 256 * kMiB}).try_map(compute, std::views::iota(64, 90));
  for (std::size_t i = 0; i != outcomes.size(); ++i) {
    try {
      static_cast<void>(outcomes[i].value());
    } catch (const brood::MemoryLimitExceeded& e) {
      std::printf("item %zu: %s\n", i, e.what());
    }
  }
  // [/bounded]
  pool.close();
  pool.join();
  std::printf("%llu workers crashed\n", static_cast<unsigned long long>(pool.counts().crashed));
}
