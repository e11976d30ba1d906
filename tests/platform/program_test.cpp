// Not for ThreadSanitizer: processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/program.hpp>

#include "support/forked.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::detail::program_test {
namespace {

using namespace brood::testing;

constexpr const char* kTellArguments = "BROOD_TEST_TELL_ARGUMENTS";

// Executed again by a test below, this program tells its command line and ends before main.
[[maybe_unused]] const bool kTold = [] {
  const char* file = std::getenv(kTellArguments);
  if (file == nullptr) return false;
  std::string text;
  for (const std::string& argument : command_line()) text += "<" + argument + ">";
  write_file(file, text);
  ::_exit(0);
}();

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
bool is_close_on_exec(int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

/// What a descriptor refers to.
std::pair<dev_t, ino_t> identity(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return {};
  return {status.st_dev, status.st_ino};
}

Fd open_file(const TempDir& directory, const char* name) {
  return Fd(::open(directory.file(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

TEST(Program, CommandLineIsThatOfTheKernel) {
  const TempDir directory;
  const std::string out = directory.file("arguments");
  in_child([&] {
    ::setenv(kTellArguments, out.c_str(), 1);
    const std::string large(130'000, 'x');
    ::execl("/proc/self/exe", "name with spaces", "", "-x", large.c_str(), "a\nb", "", nullptr);
  });
  EXPECT_EQ(read_file(out), "<name with spaces><><-x><" + std::string(130'000, 'x') + "><a\nb><>");
}

TEST(Program, WithoutProcThereIsAName) {
  const TempDir empty;
  const int code = exit_code_of([&] {
    if (::chroot(empty.path().c_str()) != 0) ::_exit(50);
    EXPECT_EQ(command_line(), std::vector<std::string>{"brood"});
  });
  if (code == 50) GTEST_SKIP() << "chroot is not permitted here";
  EXPECT_EQ(code, 0);
}

TEST(Program, EnvironmentIsReplacedAsAWhole) {
  in_child([] {
    ::setenv("BROOD_TEST_OLD", "1", 1);
    const char* old = std::getenv("BROOD_TEST_OLD");
    set_environment(std::vector<std::string>{"A=1", "B=x=y", "EMPTY="});
    EXPECT_EQ(environment(), (std::vector<std::string>{"A=1", "B=x=y", "EMPTY="}));
    EXPECT_EQ(environment_variable("BROOD_TEST_OLD"), std::nullopt);
    EXPECT_EQ(environment_variable("A"), "1");
    EXPECT_EQ(environment_variable("B"), "x=y");
    EXPECT_EQ(environment_variable("EMPTY"), "");
    EXPECT_EQ(environment_variable("C"), std::nullopt);
    EXPECT_STREQ(old, "1") << "pointers into the old one stay good";
    ::setenv("C", "3", 1);
    EXPECT_EQ(environment_variable("C"), "3");
    unset_environment_variable("A");
    EXPECT_EQ(environment_variable("A"), std::nullopt);
    set_environment({});
    EXPECT_TRUE(environment().empty());
    EXPECT_EQ(environment_variable("B"), std::nullopt);
  });
}

TEST(Program, GoesBackToAWorkingDirectory) {
  in_child([] {
    const TempDir first;
    const TempDir second;
    ASSERT_EQ(::chdir(first.path().c_str()), 0);
    const Fd directory = open_working_directory();
    EXPECT_TRUE(is_close_on_exec(directory.get()));
    ASSERT_EQ(::chdir(second.path().c_str()), 0);
    change_directory(directory);
    EXPECT_TRUE(std::filesystem::equivalent(".", first.path()));
    EXPECT_THROW(change_directory(Fd()), SystemError);
    ASSERT_EQ(::chdir("/"), 0);
  });
}

TEST(StandardStreams, TellsWhichAreOpen) {
  in_child([] {
    ::close(0);
    EXPECT_EQ(open_standard_streams(), (std::vector<int>{-1, 1, 2}));
  });
}

/// The streams after set_standard_streams, as which of `files` each is; -1 where it is closed.
std::vector<int> streams_among(const std::vector<std::pair<dev_t, ino_t>>& files) {
  std::vector<int> found;
  for (int stream = 0; stream < 3; ++stream) {
    int which = is_open(stream) ? 99 : -1;
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (is_open(stream) && identity(stream) == files[i]) which = static_cast<int>(i);
    }
    found.push_back(which);
  }
  return found;
}

/// Puts files 0, 1, 2 at the descriptors 0, 1, 2, and 3 at 20; then sets the streams.
void expect_streams(std::array<int, 3> sources, std::vector<int> expected) {
  SCOPED_TRACE(::testing::PrintToString(sources));
  const TempDir directory;
  in_child([&] {
    std::vector<std::pair<dev_t, ino_t>> files;
    const int error_stream = ::fcntl(2, F_DUPFD, 30);
    for (const auto& [name, number] :
         {std::pair("a", 0), std::pair("b", 1), std::pair("c", 2), std::pair("d", 20)}) {
      const Fd file = open_file(directory, name);
      files.push_back(identity(file.get()));
      ::dup3(file.get(), number, number == 20 ? O_CLOEXEC : 0);
    }
    set_standard_streams(sources);
    const std::vector<int> now = streams_among(files);
    for (int stream = 0; stream < 3; ++stream) {
      if (is_open(stream) && is_close_on_exec(stream)) ::_exit(3);
    }
    if (now != expected) {
      ::dprintf(error_stream, "streams are %d %d %d\n", now[0], now[1], now[2]);
      ::_exit(2);
    }
    ::_exit(0);
  });
}

TEST(StandardStreams, AreReplaced) {
  expect_streams({20, 20, 20}, {3, 3, 3});
  expect_streams({20, 1, 2}, {3, 1, 2});
}

TEST(StandardStreams, AreClosed) {
  expect_streams({-1, -1, -1}, {-1, -1, -1});
  expect_streams({-1, 20, 2}, {-1, 3, 2});
}

// Who runs without standard streams gets descriptors in their place.
TEST(StandardStreams, MayComeFromEachOther) {
  expect_streams({1, 0, 2}, {1, 0, 2});
  expect_streams({2, 0, 1}, {2, 0, 1});
  expect_streams({-1, 0, 0}, {-1, 0, 0});
  expect_streams({20, 0, 1}, {3, 0, 1});
}

TEST(Descriptors, MoveOutOfTheWay) {
  in_child([] {
    ::close(0);
    const int low = ::open("/dev/null", O_RDONLY);
    ASSERT_EQ(low, 0);
    const auto file = identity(low);
    const Fd high = move_high(Fd(low));
    EXPECT_GE(high.get(), 10);
    EXPECT_FALSE(is_open(0));
    EXPECT_TRUE(is_close_on_exec(high.get()));
    EXPECT_EQ(identity(high.get()), file);
  });
  const Fd already(::fcntl(1, F_DUPFD_CLOEXEC, 25));
  const int number = already.get();
  const Fd same = move_high(Fd(::fcntl(1, F_DUPFD_CLOEXEC, 40)));
  EXPECT_GE(same.get(), 40);
  EXPECT_TRUE(is_open(number));
}

TEST(Descriptors, DuplicatesAreHighAndClosedByExec) {
  const Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd copy = duplicate(file.get());
  EXPECT_GE(copy.get(), 10);
  EXPECT_TRUE(is_close_on_exec(copy.get()));
  EXPECT_EQ(identity(copy.get()), identity(file.get()));
  try {
    duplicate(9999);
    ADD_FAILURE() << "duplicated what is not open";
  } catch (const SystemError& e) {
    EXPECT_EQ(e.code(), std::errc::bad_file_descriptor);
    EXPECT_NE(std::string(e.what()).find("9999"), std::string::npos) << e.what();
  }
}

TEST(Descriptors, PassedOnesAreClosedByTheNextExec) {
  const int number = ::fcntl(1, F_DUPFD, 25);
  EXPECT_FALSE(is_close_on_exec(number));
  const Fd taken = take_passed_descriptor(number);
  EXPECT_EQ(taken.get(), number);
  EXPECT_TRUE(is_close_on_exec(number));
}

}  // namespace
}  // namespace brood::detail::program_test
