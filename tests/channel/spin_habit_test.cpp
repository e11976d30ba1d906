#include <gtest/gtest.h>

#include <chrono>

#include <brood/channel/spin_habit.hpp>

namespace brood::testing::spin_habit_test {
namespace {

using namespace std::chrono_literals;

TEST(SpinHabits, WhatIsThereIsFoundAtTheFirstLook) {
  detail::SpinHabit habit;
  int looks = 0;
  EXPECT_TRUE(habit.look_for([&] { return ++looks == 1; }, 1h));
  EXPECT_EQ(looks, 1);
}

TEST(SpinHabits, WhatWasInVainIsLeftOutTwiceAsOftenEachTime) {
  if (detail::affinity_count() < 2) GTEST_SKIP() << "on one processor nobody looks twice";
  detail::SpinHabit habit;
  int looks = 0;
  const auto nothing = [&] {
    ++looks;
    return false;
  };
  for (const int skipped : {1, 2, 4, 8}) {
    looks = 0;
    EXPECT_FALSE(habit.look_for(nothing, 1us));
    EXPECT_GT(looks, 1);
    for (int i = 0; i < skipped; ++i) {
      looks = 0;
      EXPECT_FALSE(habit.look_for(nothing, 1us));
      EXPECT_EQ(looks, 1) << i << " of " << skipped;
    }
  }
  // It pays again: from then on it is not left out.
  int left = 5;
  EXPECT_TRUE(habit.look_for([&] { return --left == 0; }, 1h));
  looks = 0;
  EXPECT_FALSE(habit.look_for(nothing, 1us));
  EXPECT_GT(looks, 1);
}

}  // namespace
}  // namespace brood::testing::spin_habit_test
