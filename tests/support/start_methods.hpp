#pragma once

#include <gtest/gtest.h>

#include <string>

#include <brood/platform/process_handle.hpp>
#include <brood/start_method.hpp>

#include "support/sanitizers.hpp"

namespace brood::testing {

/// A test that runs once under each start method, which is the default while it runs.
class EveryStartMethod : public ::testing::TestWithParam<StartMethod> {
 protected:
  void SetUp() override {
    // ThreadSanitizer runs a thread of its own in every process and does not follow forks of such.
    if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
    before_ = get_start_method();
    set_start_method(GetParam());
  }
  void TearDown() override {
    if (!kThreadSanitizer) set_start_method(before_);
  }

 private:
  StartMethod before_ = StartMethod::forkserver;
};

inline std::string name_of_method(const ::testing::TestParamInfo<StartMethod>& info) {
  return to_string(info.param);
}

}  // namespace brood::testing

/// Runs the tests of a suite derived from EveryStartMethod under each.
#define BROOD_UNDER_EVERY_START_METHOD(Suite)                                              \
  INSTANTIATE_TEST_SUITE_P(, Suite, ::testing::ValuesIn(::brood::get_all_start_methods()), \
                           ::brood::testing::name_of_method)
