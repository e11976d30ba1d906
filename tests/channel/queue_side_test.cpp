#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

#include <brood/channel/queue_side.hpp>

namespace brood::testing::queue_side_test {
namespace {

using detail::QueueSide;

using namespace std::chrono_literals;
using Clock = detail::Deadline::Clock;

class QueueSides : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!detail::SpinHabit::several_processors()) GTEST_SKIP() << "nobody else can run meanwhile";
  }
  // One wait that ends in a sleep; returns how often it looked.
  int wait_in_vain(QueueSide::Wait& wait) {
    int looks = 0;
    while (wait.pause()) ++looks;
    return looks;
  }
  static void let_pass(Clock::duration time) {
    const auto end = Clock::now() + time;
    while (Clock::now() < end) detail::cpu_relax();
  }

  QueueSide side_;
};

TEST_F(QueueSides, WhoWaitsLooksForTensOfMicrosecondsAndNotAllTheTime) {
  QueueSide::Wait wait(side_);
  const auto start = Clock::now();
  const int looks = wait_in_vain(wait);
  EXPECT_GE(Clock::now() - start, 40us);
  EXPECT_GE(looks, 1);
  // 0.2 + 0.4 + 0.8 + 1.6 us, then 2 us each.
  EXPECT_LE(looks, 24);
}

TEST_F(QueueSides, AfterASleepNobodyLooksAgain) {
  QueueSide::Wait wait(side_);
  wait_in_vain(wait);
  EXPECT_FALSE(wait.pause());
}

TEST_F(QueueSides, WhatWasInVainIsLeftOut) {
  QueueSide::Wait first(side_);
  wait_in_vain(first);
  let_pass(200us);
  first.found();
  QueueSide::Wait second(side_);
  EXPECT_EQ(wait_in_vain(second), 0);
}

TEST_F(QueueSides, WhoSleptForAMomentOnlyLooksNextTimeToo) {
  for (int i = 0; i != 20; ++i) {
    QueueSide::Wait wait(side_);
    const auto start = Clock::now();
    const int looks = wait_in_vain(wait);
    wait.found();
    if (Clock::now() - start >= 120us) GTEST_SKIP() << "others had the processor";
    EXPECT_GE(looks, 1) << "in wait " << i;
  }
}

TEST_F(QueueSides, AStreamIsLeftAloneForLongerThanSingleMessages) {
  // What is there after the first pause, eight times; then how long the second one would be.
  const auto second_pause = [this](std::uint64_t messages) {
    std::chrono::nanoseconds second{};
    for (int i = 0; i != 8; ++i) {
      side_.hint.set(side_.hint.next() + messages);
      QueueSide::Wait wait(side_);
      EXPECT_TRUE(wait.pause());
      second = wait.moment();
      wait.found();
    }
    return second;
  };
  EXPECT_EQ(second_pause(100), 2us);
  EXPECT_EQ(second_pause(1), 400ns) << "twice the shortest";
}

TEST_F(QueueSides, ACopyBeginsWhereTheOriginalIs) {
  side_.hint.set(17);
  const QueueSide copy(side_);
  EXPECT_EQ(copy.hint.next(), 17u);
  QueueSide other;
  other = side_;
  EXPECT_EQ(other.hint.next(), 17u);
}

}  // namespace
}  // namespace brood::testing::queue_side_test
