// Programs of every kind that Brood finds itself in.
// Not for ThreadSanitizer: processes.
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "support/program.hpp"
#include "support/start_methods.hpp"

namespace family_program_test {
namespace {

using namespace brood::testing;
using brood::StartMethod;
constexpr const char* kLineToAdd = "brood::Runtime runtime(argc, argv);";

class FamilyProgramTest : public EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(FamilyProgramTest);

std::size_t lines(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST_P(FamilyProgramTest, OddArgumentsReachAnExecutedChildUnchanged) {
  Program program(
      "family_program",
      {.arguments = {"arguments", brood::to_string(GetParam()), "", " ", "a b", "\"'`$x",
                     "line\nbreak", "\xff\xfe not UTF-8", "--gtest_filter=*", "-", "tab\t\x01",
                     "BROOD_FAMILY=child 1", std::string(100'000, 'x'), "last"}});
  EXPECT_EQ(program.wait(), 0) << program.err();
  EXPECT_EQ(program.out(), "fine\n");
  EXPECT_TRUE(program.all_gone()) << program.describe();
}

TEST_P(FamilyProgramTest, ThreadsThatRunBeforeMainAreNoHindrance) {
  Program program("early_thread", {.arguments = {brood::to_string(GetParam())}});
  const std::optional<int> code = program.wait();
  if (GetParam() == StartMethod::fork) {
    EXPECT_EQ(code, 1);
    EXPECT_NE(program.err().find("fork is refused"), std::string::npos) << program.err();
  } else {
    EXPECT_EQ(code, 0) << program.describe();
    EXPECT_EQ(program.out(), "fine\n");
    // LeakSanitizer remarks in forked children that it cannot stop the threads of their parent.
    if (!kAddressSanitizer) {
      EXPECT_EQ(program.err(), "");
    }
  }
  EXPECT_TRUE(program.all_gone(within(std::chrono::seconds(1)))) << program.describe();
}

TEST(NoRuntimeTest, ForkIsUsedWhereItIsSafe) {
  for (const char* method : {"default", "fork"}) {
    Program program("no_runtime", {.arguments = {method}});
    EXPECT_EQ(program.wait(), 0) << program.describe();
    EXPECT_EQ(program.out(), "fine with fork\n");
    EXPECT_EQ(program.err(), "");
    EXPECT_TRUE(program.all_gone(within(std::chrono::seconds(1)))) << program.describe();
  }
}

TEST(NoRuntimeTest, OtherwiseTheErrorSaysWhichLineToAdd) {
  for (const char* mode : {"threads", "spawn", "forkserver"}) {
    SCOPED_TRACE(mode);
    Program program("no_runtime", {.arguments = {mode}});
    EXPECT_EQ(program.wait(), 1) << program.describe();
    EXPECT_EQ(program.out(), "");
    EXPECT_NE(program.err().find(kLineToAdd), std::string::npos) << program.err();
    EXPECT_EQ(lines(program.err()), 1u) << program.err();
    EXPECT_TRUE(program.all_gone(within(std::chrono::seconds(1)))) << program.describe();
  }
}

TEST(NoRuntimeTest, AnExecutedChildWithoutOneFailsWithTheSentenceAndNoForkBomb) {
  // [test_noforkbomb]
  for (const char* mode : {"child_uses", "child_returns", "child_exits"}) {
    SCOPED_TRACE(mode);
    Program program("no_runtime", {.arguments = {mode}});
    EXPECT_EQ(program.wait(), 0) << program.describe();
    EXPECT_EQ(program.out(), "main\nmain\n") << "two mains: the program's, and one child's";
    EXPECT_NE(program.err().find(kLineToAdd), std::string::npos) << program.err();
    EXPECT_EQ(lines(program.err()), 1u) << program.err();
    EXPECT_TRUE(program.all_gone(within(std::chrono::seconds(1)))) << program.describe();
  }
}

}  // namespace
}  // namespace family_program_test
