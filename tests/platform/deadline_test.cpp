#include <gtest/gtest.h>

#include <chrono>
#include <limits>

#include <brood/platform/deadline.hpp>

namespace brood::detail::deadline_test {
namespace {

using namespace std::chrono_literals;
using Clock = Deadline::Clock;

std::chrono::nanoseconds nanoseconds_of(const std::timespec& ts) {
  return std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec);
}

TEST(Deadline, NeverAndNowAreWhatTheySay) {
  EXPECT_TRUE(Deadline::never().is_never());
  EXPECT_FALSE(Deadline::never().is_now());
  EXPECT_FALSE(Deadline::never().passed());
  EXPECT_TRUE(Deadline::now().is_now());
  EXPECT_FALSE(Deadline::now().is_never());
  EXPECT_TRUE(Deadline::now().passed());
  EXPECT_EQ(nanoseconds_of(Deadline::now().remaining()), 0ns);
}

TEST(Deadline, AfterIsAbsolute) {
  const auto before = Clock::now();
  const Deadline deadline = Deadline::after(90min);
  const auto after = Clock::now();
  EXPECT_FALSE(deadline.passed());
  const auto when = nanoseconds_of(deadline.absolute());
  EXPECT_GE(when, (before + 90min).time_since_epoch());
  EXPECT_LE(when, (after + 90min).time_since_epoch());
  const auto left = nanoseconds_of(deadline.remaining());
  EXPECT_LE(left, 90min);
  EXPECT_GT(left, 89min);
}

TEST(Deadline, NothingAndLessCountAsNow) {
  EXPECT_TRUE(Deadline::after(0s).is_now());
  EXPECT_TRUE(Deadline::after(-1s).is_now());
  EXPECT_TRUE(Deadline::after(std::chrono::hours::min()).is_now());
  EXPECT_TRUE(Deadline::after(std::chrono::nanoseconds::min()).is_now());
  EXPECT_TRUE(
      Deadline::after(std::chrono::duration<double>(-std::numeric_limits<double>::infinity()))
          .is_now());
}

TEST(Deadline, BeyondTheClockIsNever) {
  EXPECT_TRUE(Deadline::after(std::chrono::hours::max()).is_never());
  EXPECT_TRUE(Deadline::after(std::chrono::nanoseconds::max()).is_never());
  EXPECT_TRUE(Deadline::after(std::chrono::seconds::max()).is_never());
  EXPECT_TRUE(
      Deadline::after(std::chrono::duration<double>(std::numeric_limits<double>::infinity()))
          .is_never());
  EXPECT_TRUE(
      Deadline::after(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN()))
          .is_never());
  // A hundred years are not for ever.
  const Deadline century = Deadline::after(std::chrono::years(100));
  EXPECT_FALSE(century.is_never());
  EXPECT_GT(nanoseconds_of(century.remaining()), std::chrono::years(99));
}

TEST(Deadline, FractionsAreRoundedUp) {
  const auto before = Clock::now();
  const Deadline deadline = Deadline::after(std::chrono::duration<double, std::nano>(0.25));
  EXPECT_FALSE(deadline.is_now());
  EXPECT_GT(nanoseconds_of(deadline.absolute()), before.time_since_epoch());
}

TEST(Deadline, APassedPointHasNothingLeft) {
  for (const Clock::time_point when :
       {Clock::now() - 1ns, Clock::time_point(), Clock::time_point::min() + 1ns}) {
    const Deadline deadline = Deadline::at(when);
    EXPECT_TRUE(deadline.passed());
    EXPECT_EQ(nanoseconds_of(deadline.remaining()), 0ns) << when.time_since_epoch().count();
  }
}

TEST(Deadline, PassesWhenItsTimeHasCome) {
  const auto when = Clock::now() + 2ms;
  const Deadline deadline = Deadline::at(when);
  while (!deadline.passed()) continue;
  EXPECT_GE(Clock::now(), when);
}

TEST(Deadline, SoonerTakesTheEarlier) {
  const Deadline later = Deadline::after(1h);
  EXPECT_EQ(nanoseconds_of(Deadline::never().sooner(later).absolute()),
            nanoseconds_of(later.absolute()));
  EXPECT_EQ(nanoseconds_of(later.sooner(Deadline::never()).absolute()),
            nanoseconds_of(later.absolute()));
  EXPECT_TRUE(later.sooner(Deadline::now()).is_now());
  EXPECT_TRUE(Deadline::never().sooner(Deadline::never()).is_never());
}

}  // namespace
}  // namespace brood::detail::deadline_test
