// A pool of worker processes: many inputs at once, results in order, and one bad input that costs
// one error.
#include <brood/brood.hpp>

#include <csignal>
#include <cstdio>
#include <ranges>
#include <stdexcept>
#include <vector>

// [function]
int half(int n) {
  if (n % 2 != 0) throw std::invalid_argument("odd");
  if (n == 666) std::raise(SIGSEGV);  // as a library does with bad input
  return n / 2;
}
// [/function]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  // [map]
  brood::Pool pool({.workers = 2});
  const std::vector<int> halves = pool.map(half, std::vector<int>{2, 4, 6});
  // [/map]
  std::printf("%d %d %d\n", halves[0], halves[1], halves[2]);

  // [try_map]
  const std::vector<int> inputs{2, 3, 666, 8};
  const auto outcomes = pool.try_map(half, inputs);
  for (std::size_t i = 0; i != inputs.size(); ++i) {
    try {
      std::printf("half of %d is %d\n", inputs[i], outcomes[i].value());
    } catch (const brood::WorkerCrashed& e) {
      std::printf("half of %d: killed by %s\n", inputs[i], e.signal_name().c_str());
    } catch (const std::exception& e) {
      std::printf("half of %d: %s\n", inputs[i], e.what());
    }
  }
  // [/try_map]

  // [submit]
  auto future = pool.submit(half, 84);
  std::printf("a single one: %d\n", future.get());
  // [/submit]

  // [imap]
  int sum = 0;
  for (const int n : pool.imap([](int i) { return i * i; }, std::views::iota(0, 1000))) sum += n;
  std::printf("as they come: %d\n", sum);
  // [/imap]
}
