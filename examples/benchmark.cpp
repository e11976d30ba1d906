// Sequential against parallel: the same sums of square roots, once one after the other, once by a
// pool. What the machine has for more than one process decides what is gained.
#include <brood/brood.hpp>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

// [work]
/// The sum of the square roots below n: a fraction of a second without a pause.
double heavy(int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += std::sqrt(static_cast<double>(i));
  return sum;
}
// [/work]

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  // [benchmark]
  const std::vector<int> inputs(8, 20'000'000);

  const auto begin = Clock::now();
  std::vector<double> sequential;
  for (const int n : inputs) sequential.push_back(heavy(n));
  const double alone = seconds_since(begin);

  brood::Pool pool;  // as many workers as there are CPUs to use
  const auto parallel_begin = Clock::now();
  const std::vector<double> parallel = pool.map(heavy, inputs);
  const double together = seconds_since(parallel_begin);

  std::printf("sequential: %.2f s\n", alone);
  std::printf("parallel:   %.2f s with %d workers, %.2f times as fast\n", together, pool.workers(),
              alone / together);
  std::printf("the results are %s\n", parallel == sequential ? "the same" : "different");
  // [/benchmark]
}
