#include <gtest/gtest.h>
#include <sys/resource.h>
#include <brood/platform/code_location.hpp>
#include <brood/platform/stack_trace.hpp>
#include <brood/platform/throw_probe.hpp>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace brood::detail::stack_trace_test {
namespace {

// Functions whose names the stacks must show. They are in no symbol table but the debugger's. The
// empty asm after a call keeps it from being a tail call, which would leave no frame.
#define KEPT [[gnu::noinline]] static
void stay() { asm volatile("" ::: "memory"); }

KEPT StackTrace stack_of_leaf() {
  const StackTrace trace = StackTrace::here();
  stay();
  return trace;
}
KEPT StackTrace stack_of_middle() {
  const StackTrace trace = stack_of_leaf();
  stay();
  return trace;
}
KEPT StackTrace stack_of_the_caller() {
  const StackTrace trace = StackTrace::here(1);
  stay();
  return trace;
}
KEPT StackTrace names_its_caller() {
  const StackTrace trace = stack_of_the_caller();
  stay();
  return trace;
}
KEPT StackTrace stack_below(int depth) {
  const StackTrace trace = depth == 0 ? StackTrace::here() : stack_below(depth - 1);
  stay();
  return trace;
}
KEPT void throw_out_of_range(int n) {
  if (n >= 0) throw std::out_of_range("three");
  stay();
}
KEPT void calls_the_thrower(int n) {
  throw_out_of_range(n);
  stay();
}
KEPT void throws_by_the_library(const std::vector<int>& values) {
  static_cast<void>(values.at(7));
  stay();
}
KEPT void throws_a_number() { throw 42; }
KEPT void throws_a_pointer() { throw "text"; }
KEPT void catches_and_throws_again() {
  try {
    calls_the_thrower(1);
  } catch (...) {
    throw;
  }
}
KEPT void throws_what_it_is_given(const std::exception_ptr& exception) {
  std::rethrow_exception(exception);
}

template <class Body>
std::vector<std::string> stack_at_throw_of(Body&& body) {
  try {
    body();
  } catch (const ThrowProbe&) {
    ADD_FAILURE() << "the probe's handler was entered";
  } catch (...) {
    return symbolize(CaughtException().take_stack());
  }
  return {};
}

std::string text(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += "\n  " + line;
  return all;
}

bool has_line_with(const std::vector<std::string>& lines, std::string_view part) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(part) != line.npos; });
}

bool begins_with(const std::vector<std::string>& lines, std::string_view function) {
  return !lines.empty() && lines.front().find(function) != std::string::npos;
}

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

class StackTraceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!reads_debug_information()) GTEST_SKIP() << "built without libdw, or it is not installed";
  }
};

TEST_F(StackTraceTest, NamesStaticFunctionsFromTheInnermostOut) {
  const auto lines = symbolize(stack_of_middle());
  ASSERT_GE(lines.size(), 3u) << text(lines);
  EXPECT_NE(lines[0].find("stack_of_leaf()"), std::string::npos) << text(lines);
  EXPECT_NE(lines[1].find("stack_of_middle()"), std::string::npos) << text(lines);
  EXPECT_TRUE(has_line_with(lines, "main")) << text(lines);
}

TEST_F(StackTraceTest, SaysFileLineModuleAndOffset) {
  const auto lines = symbolize(stack_of_leaf());
  ASSERT_FALSE(lines.empty());
  EXPECT_NE(lines[0].find("stack_trace_test.cpp:"), std::string::npos) << text(lines);
  EXPECT_NE(lines[0].find("+0x"), std::string::npos) << text(lines);
}

TEST_F(StackTraceTest, SkipsTheFramesAskedFor) {
  const auto lines = symbolize(names_its_caller());
  EXPECT_TRUE(begins_with(lines, "names_its_caller()")) << text(lines);
}

TEST_F(StackTraceTest, CutsDeepStacksAtTheOuterEnd) {
  const StackTrace trace = stack_below(200);
  EXPECT_EQ(trace.addresses().size(), StackTrace::kMaxFrames);
  const auto lines = symbolize(trace);
  EXPECT_TRUE(begins_with(lines, "stack_below(int)")) << text(lines);
}

TEST_F(StackTraceTest, AddressesThatAreNoCodeAreShownAsNumbers) {
  const std::uintptr_t nonsense[] = {0x10, 0xdeadbeef};
  const auto lines = symbolize(StackTrace(nonsense, true));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], "? (0x10)");
  EXPECT_EQ(lines[1], "? (0xdeadbeee)") << "a return address belongs to the call before it";
}

TEST_F(StackTraceTest, LeavesNoDescriptorOpen) {
  symbolize(stack_of_leaf());
  const auto before = open_descriptors();
  symbolize(stack_of_middle());
  EXPECT_EQ(open_descriptors(), before);
}

KEPT StackTrace seen_first_without_descriptors() {
  const StackTrace trace = StackTrace::here();
  asm volatile("# not to be merged with a function of the same code" ::: "memory");
  return trace;
}

TEST_F(StackTraceTest, SaysLessWithoutDescriptorsAndMoreWhenThereAreSomeAgain) {
  const StackTrace trace = seen_first_without_descriptors();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto poor = symbolize(trace);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(poor.empty());
  EXPECT_NE(poor[0].find("+0x"), std::string::npos) << text(poor);
  const auto rich = symbolize(trace);
  EXPECT_TRUE(begins_with(rich, "seen_first_without_descriptors()")) << text(rich);
}

TEST_F(StackTraceTest, ManyThreadsAskAtOnce) {
  std::vector<std::vector<std::string>> results(4);
  {
    std::vector<std::jthread> threads;
    for (auto& result : results) {
      threads.emplace_back([&result] {
        for (int i = 0; i < 20; ++i) result = symbolize(stack_of_middle());
      });
    }
  }
  for (const auto& lines : results)
    EXPECT_TRUE(begins_with(lines, "stack_of_leaf()")) << text(lines);
}

TEST_F(StackTraceTest, ThrowIsSeenWhereItWasThrown) {
  const auto lines = stack_at_throw_of([] { calls_the_thrower(3); });
  ASSERT_GE(lines.size(), 2u) << text(lines);
  EXPECT_NE(lines[0].find("throw_out_of_range(int)"), std::string::npos) << text(lines);
  EXPECT_NE(lines[1].find("calls_the_thrower(int)"), std::string::npos) << text(lines);
  EXPECT_TRUE(has_line_with(lines, "main")) << text(lines);
}

TEST_F(StackTraceTest, ThrowsOfTheStandardLibraryAreSeenInItsCaller) {
  const auto lines = stack_at_throw_of([] { throws_by_the_library({1, 2}); });
  EXPECT_TRUE(has_line_with(lines, "throws_by_the_library(")) << text(lines);
  EXPECT_FALSE(has_line_with(lines, "__throw_")) << text(lines);
  EXPECT_FALSE(has_line_with(lines, "__cxa_throw")) << text(lines);
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines[0].find("libstdc++"), std::string::npos) << text(lines);
}

TEST_F(StackTraceTest, ThrownNumbersAndPointersHaveAStackToo) {
  auto lines = stack_at_throw_of([] { throws_a_number(); });
  EXPECT_TRUE(begins_with(lines, "throws_a_number()")) << text(lines);
  lines = stack_at_throw_of([] { throws_a_pointer(); });
  EXPECT_TRUE(begins_with(lines, "throws_a_pointer()")) << text(lines);
}

TEST_F(StackTraceTest, WhatWasCaughtAndThrownAgainIsSeenAtTheSecondThrow) {
  auto lines = stack_at_throw_of([] { catches_and_throws_again(); });
  EXPECT_TRUE(begins_with(lines, "catches_and_throws_again()")) << text(lines);
  const auto kept = std::make_exception_ptr(std::out_of_range("kept"));
  lines = stack_at_throw_of([&] {
    throws_what_it_is_given(kept);
    stay();
  });
  EXPECT_TRUE(begins_with(lines, "throws_what_it_is_given(")) << text(lines);
}

TEST(ThrowProbe, IsNotAskedForExceptionsCaughtFurtherIn) {
  const auto before = probed_throws_for_testing();
  stack_at_throw_of([] {
    for (int i = 0; i < 100; ++i) {
      try {
        calls_the_thrower(i);
      } catch (const std::exception&) {
      }
    }
  });
  EXPECT_EQ(probed_throws_for_testing(), before);
  stack_at_throw_of([] { calls_the_thrower(1); });
  EXPECT_EQ(probed_throws_for_testing(), before + 1);
}

struct ThrowsWhileUnwinding {
  int times;
  std::vector<std::string>* seen;
  ~ThrowsWhileUnwinding() {
    for (int i = 0; i < times; ++i) *seen = stack_at_throw_of([] { throws_a_number(); });
  }
};

TEST_F(StackTraceTest, ExceptionsOfDestructorsDoNotReplaceTheStackOnItsWay) {
  std::vector<std::string> inner;
  const auto outer = stack_at_throw_of([&] {
    const ThrowsWhileUnwinding guard{.times = 3, .seen = &inner};
    calls_the_thrower(1);
  });
  EXPECT_TRUE(begins_with(inner, "throws_a_number()")) << text(inner);
  EXPECT_TRUE(begins_with(outer, "throw_out_of_range(int)")) << text(outer);
}

TEST(ThrowProbe, AStackThatWasOverwrittenIsMissingRatherThanWrong) {
  std::vector<std::string> inner;
  const auto outer = stack_at_throw_of([&] {
    const ThrowsWhileUnwinding guard{.times = 50, .seen = &inner};
    calls_the_thrower(1);
  });
  EXPECT_FALSE(has_line_with(outer, "throws_a_number")) << text(outer);
}

TEST(CaughtException, SeesTheObjectAsItsBases) {
  struct Left {
    int left = 1;
    virtual ~Left() = default;
  };
  struct Both : Left, std::out_of_range {
    Both() : std::out_of_range("both") {}
  };
  try {
    throw Both();
  } catch (...) {
    const CaughtException caught;
    ASSERT_NE(caught.as<std::logic_error>(), nullptr);
    EXPECT_STREQ(caught.as<std::exception>()->what(), "both");
    ASSERT_NE(caught.as<Left>(), nullptr);
    EXPECT_EQ(caught.as<Left>()->left, 1);
    EXPECT_EQ(caught.as<std::runtime_error>(), nullptr);
    EXPECT_EQ(*caught.type(), typeid(Both));
  }
  EXPECT_EQ(CaughtException().type(), nullptr) << "no exception is being handled";
}

}  // namespace
}  // namespace brood::detail::stack_trace_test
