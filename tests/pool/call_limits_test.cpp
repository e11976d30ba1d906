// The limits of a call, as numbers.
#include <gtest/gtest.h>

#include <chrono>

#include <brood/pool/call_limits.hpp>

namespace call_limits_test {
namespace {

using namespace std::chrono_literals;

TEST(CallLimits, PausesDoubleUpToTheLongestAndJitterShortensThem) {
  const brood::detail::CallLimits limits{
      .backoff = 10ms, .max_backoff = 1s, .jitter = 0.5, .retry_if = {}};
  EXPECT_EQ(limits.pause(1, 0), 10ms);
  EXPECT_EQ(limits.pause(2, 0), 20ms);
  EXPECT_EQ(limits.pause(5, 0), 160ms);
  EXPECT_EQ(limits.pause(9, 0), 1s);
  EXPECT_EQ(limits.pause(4000, 0), 1s);
  EXPECT_EQ(limits.pause(2, 1), 10ms);
}

}  // namespace
}  // namespace call_limits_test
