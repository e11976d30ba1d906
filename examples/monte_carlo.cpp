// Sequential against parallel: pi by throwing darts. Each item has a random stream of its own, made
// of its number, so the answer is the same however many workers there are.
#include <brood/brood.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <ranges>
#include <vector>

// [function]
std::uint64_t hits(int item) {
  std::mt19937_64 random(static_cast<std::uint64_t>(item));
  std::uniform_real_distribution<double> side(0, 1);
  std::uint64_t inside = 0;
  for (int i = 0; i != 200'000; ++i) {
    const double x = side(random);
    const double y = side(random);
    if (x * x + y * y < 1) ++inside;
  }
  return inside;
}
// [/function]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  using Clock = std::chrono::steady_clock;
  constexpr int kItems = 48;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  std::vector<double> answers;
  // [workers]
  for (const int workers : {0, 1, brood::cpu_count()}) {  // 0: in this process
    brood::Pool pool({.workers = workers});
    const auto start = Clock::now();
    const std::vector<std::uint64_t> all = pool.map(hits, std::views::iota(0, kItems));
    // [/workers]
    const auto sum = std::accumulate(all.begin(), all.end(), std::uint64_t{0});
    answers.push_back(4.0 * static_cast<double>(sum) / (200'000.0 * kItems));
    std::printf("%d workers: pi is about %.4f, %.2f s\n", workers, answers.back(),
                seconds_since(start));
  }
  const bool same = answers[0] == answers[1] && answers[1] == answers[2];
  std::printf("%s\n", same ? "all the same" : "they differ");
}
