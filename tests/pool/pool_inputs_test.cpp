// The inputs of a large map: workers begin while they are still copied.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <numeric>
#include <ranges>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/bind.hpp>

#include "pool_test_support.hpp"

namespace pool_inputs_test {
namespace {

using namespace brood::testing;
using brood::Pool;
using brood::WorkerCrashed;

class PoolInputsTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolInputsTest);

constexpr int kItems = 300'000;

/// The integers from 0 on, of which the last page can be read only after `meanwhile` has returned:
/// it is called by who copies them, when he gets there. One at a time.
class HeldIntegers {
 public:
  explicit HeldIntegers(std::function<void()> meanwhile)
      : page_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))),
        bytes_((kItems * sizeof(int) + page_ - 1) / page_ * page_),
        data_(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
        meanwhile_(std::move(meanwhile)) {
    std::iota(values().begin(), values().end(), 0);
    ::mprotect(last_page(), page_, PROT_NONE);
    current = this;
    struct sigaction action {};
    action.sa_sigaction = [](int, siginfo_t* info, void*) { current->touched(info->si_addr); };
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGSEGV, &action, &before_);
  }
  ~HeldIntegers() {
    ::sigaction(SIGSEGV, &before_, nullptr);
    ::munmap(data_, bytes_);
  }
  HeldIntegers(const HeldIntegers&) = delete;
  HeldIntegers& operator=(const HeldIntegers&) = delete;

  [[nodiscard]] std::span<int> values() const { return {static_cast<int*>(data_), kItems}; }
  [[nodiscard]] bool held() const { return held_; }

 private:
  static inline HeldIntegers* current = nullptr;

  [[nodiscard]] std::byte* last_page() const {
    return static_cast<std::byte*>(data_) + bytes_ - page_;
  }
  void touched(void* address) {
    const auto* at = static_cast<const std::byte*>(address);
    if (at < last_page() || at >= last_page() + page_ || std::exchange(held_, true)) ::abort();
    meanwhile_();  // NOTE: the copying holds no lock, so here all may be called
    ::mprotect(last_page(), page_, PROT_READ);
  }

  std::size_t page_;
  std::size_t bytes_;
  void* data_;
  std::function<void()> meanwhile_;
  bool held_ = false;
  struct sigaction before_ {};
};

int same(int n) { return n; }

/// The first item says that it is there.
auto saying_so(const std::string& path) {
  return brood::bind(
      [](const std::string& sign, int n) {
        if (n == 0) give_sign(sign);
        return n;
      },
      path);
}

TEST_P(PoolInputsTest, WorkersBeginWhileTheInputsAreStillCopied) {
  Pool pool({.workers = 2});
  const std::string sign = dir_.file("began");
  bool began = false;
  const HeldIntegers held([&] { began = eventually([&] { return sign_given(sign); }); });
  EXPECT_EQ(pool.map(saying_so(sign), held.values()), first_integers(kItems));
  EXPECT_TRUE(held.held());
  EXPECT_TRUE(began);
}

TEST_P(PoolInputsTest, ArraysAreCopiedTogetherAndCountsNotAtAll) {
  for (const std::size_t chunk : {std::size_t{0}, std::size_t{1'000'000}}) {
    Pool pool({.workers = 3});
    std::vector<double> halves(kItems + 5);
    for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<double>(i) / 2;
    const std::vector<int> numbers = first_integers(kItems);
    const auto all = pool.with({.chunk = chunk})
                         .map([](int a, double b, int c) { return a + 2 * b + c; }, numbers, halves,
                              std::views::iota(1, kItems + 1));
    ASSERT_EQ(all.size(), static_cast<std::size_t>(kItems));
    int wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      wrong += all[i] == 3 * static_cast<double>(i) + 1 ? 0 : 1;
    }
    EXPECT_EQ(wrong, 0);
  }
}

TEST_P(PoolInputsTest, AWorkerKilledWhileTheInputsAreCopiedCostsItsItem) {
  Pool pool({.workers = 2});
  const std::string sign = dir_.file("dying");
  const auto dies_in_the_first = brood::bind(
      [](const std::string& path, int n) {
        if (n == 0) {
          give_sign(path);
          ::kill(::getpid(), SIGKILL);
        }
        return n;
      },
      sign);
  const std::vector<int> pids = pool.worker_pids();
  bool died = false;
  const HeldIntegers held([&] {
    died = eventually(
        [&] { return sign_given(sign) && (process_ended(pids[0]) || process_ended(pids[1])); });
  });
  const auto outcomes = pool.try_map(dies_in_the_first, held.values());
  EXPECT_TRUE(died);
  ASSERT_EQ(outcomes.size(), static_cast<std::size_t>(kItems));
  ASSERT_FALSE(outcomes[0]);
  EXPECT_EQ(as<WorkerCrashed>(outcomes[0].error()).signal(), SIGKILL);
  int wrong = 0;
  for (int i = 1; i < kItems; ++i) {
    const auto& outcome = outcomes[static_cast<std::size_t>(i)];
    wrong += outcome && *outcome == i ? 0 : 1;
  }
  EXPECT_EQ(wrong, 0);
}

TEST_P(PoolInputsTest, APoolClosedWhileTheInputsAreCopiedComputesAll) {
  Pool pool({.workers = 2});
  const std::vector<int> pids = pool.worker_pids();
  bool ended = false;
  const HeldIntegers held([&] {
    pool.close();
    // They have done all that there is yet.
    ended = eventually([&] { return process_ended(pids[0]) && process_ended(pids[1]); });
  });
  EXPECT_EQ(pool.map(same, held.values()), first_integers(kItems));
  EXPECT_TRUE(ended);
}

TEST_P(PoolInputsTest, APoolTerminatedWhileTheInputsAreCopiedEndsTheCall) {
  Pool pool({.workers = 2});
  const HeldIntegers held([&] { pool.terminate(); });
  EXPECT_THROW(pool.map(same, held.values()), brood::TaskCancelled);
  EXPECT_TRUE(held.held());
}

}  // namespace
}  // namespace pool_inputs_test
