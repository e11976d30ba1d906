// The tests' own tool: what is killed at an instruction must have died there.
// Not for ThreadSanitizer: it does not see what other processes do.
#include "support/single_step.hpp"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "support/forked.hpp"

namespace brood::testing::single_step_test {
namespace {

class SingleStepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  }

  /// Counts to 40, with a system call after every fourth number.
  void count() {
    for (int i = 1; i <= 40; ++i) {
      counter_->store(i);
      if (i % 4 == 0) ::syscall(SYS_getppid);
    }
  }

  Shared<std::atomic<int>> counter_;
};

TEST_F(SingleStepTest, WalksOverEverySystemCall) {
  int looks = 0;
  SingleStep child([&] { count(); });
  const SingleStep::SystemCalls calls = child.walk([&] { ++looks; });
  EXPECT_EQ(calls.size(), 10U);
  EXPECT_EQ(child.steps(), static_cast<std::uint64_t>(looks));
  EXPECT_TRUE(child.ended());
  EXPECT_EQ(counter_->load(), 40);
}

TEST_F(SingleStepTest, StepsPastSystemCallsToTheSameInstruction) {
  SingleStep::SystemCalls calls;
  std::uint64_t all = 0;
  {
    SingleStep child([&] { count(); });
    calls = child.walk([] {});
    all = child.steps();
  }
  for (std::uint64_t at = 0; at <= all + 3; at += 3) {
    counter_->store(0);
    SingleStep one_by_one([&] { count(); });
    const bool goes_on = one_by_one.step(at);
    const int seen = counter_->load();
    counter_->store(0);
    SingleStep child([&] { count(); });
    EXPECT_EQ(child.step_past(calls, at), goes_on) << at << " of " << all;
    EXPECT_EQ(child.steps(), one_by_one.steps()) << at << " of " << all;
    EXPECT_EQ(counter_->load(), seen) << at << " of " << all;
  }
}

}  // namespace
}  // namespace brood::testing::single_step_test
