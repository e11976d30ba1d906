// What goes wrong in one task harms no other: exceptions, crashes, hangs, limits, retries.
#include <brood/brood.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <numeric>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;

int careless(int n) {
  if (n == 3) throw std::out_of_range("three");
  if (n == 5) std::raise(SIGSEGV);
  if (n == 7)
    for (;;) asm volatile("");  // stuck in native code for ever
  return n * n;
}

int flaky(int n, brood::Value<int> attempts) {
  if (attempts.fetch_add(1) < 2) std::raise(SIGKILL);
  return n;
}

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  std::vector<int> inputs(10);
  std::iota(inputs.begin(), inputs.end(), 0);

  brood::Pool pool({.workers = 2});
  auto outcomes = pool.with({.timeout = 300ms}).try_map(careless, inputs);
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (outcomes[i]) {
      std::printf("%zu: %d\n", i, *outcomes[i]);
      continue;
    }
    try {
      outcomes[i].value();                  // throws what happened
    } catch (const std::out_of_range& e) {  // its own type comes back
      std::printf("%zu: out_of_range %s\n", i, e.what());
    } catch (const brood::WorkerCrashed& e) {  // says signal, task, and where in the code
      std::printf("%zu: crashed by %s\n", i, e.signal_name().c_str());
    } catch (const brood::TaskTimeout&) {
      std::printf("%zu: timed out\n", i);
    }
  }

  brood::Value<int> attempts(0);
  auto result = pool.with({.retries = 3, .backoff = 1ms}).submit(flaky, 11, attempts);
  std::printf("%d after %d attempts\n", result.get(), attempts.get());
}
// 0: 0, 1: 1, 2: 4, 3: out_of_range three, 4: 16, 5: crashed by SIGSEGV, 6: 36,
// 7: timed out, 8: 64, 9: 81, 11 after 3 attempts
