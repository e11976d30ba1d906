#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <brood/errors.hpp>
#include <brood/platform/signal_name.hpp>
#include <brood/platform/system_error.hpp>
#include <brood/platform/write_text.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>

namespace brood::detail::system_error_test {
namespace {

TEST(SystemError, SaysCallArgumentsReasonAndRemedy) {
  const SystemError error("memfd_create", "name=brood", EMFILE);
  EXPECT_STREQ(error.what(),
               "memfd_create(name=brood): Too many open files [EMFILE]; this process has no free "
               "file descriptors: raise `ulimit -n`, or close some");
  EXPECT_EQ(error.call(), "memfd_create");
  EXPECT_EQ(error.arguments(), "name=brood");
  EXPECT_EQ(error.code(), std::errc::too_many_files_open);
}

TEST(SystemError, UnknownNumbersAreShownAsNumbers) {
  EXPECT_STREQ(SystemError("ioctl", "", 9999).what(), "ioctl(): error 9999");
}

TEST(SystemError, OnlyMakingProcessesLacksSlotsOnEagain) {
  const std::string fork = SystemError("fork", "", EAGAIN).what();
  EXPECT_NE(fork.find("ulimit -u"), std::string::npos) << fork;
  const std::string read = SystemError("read", "", EAGAIN).what();
  EXPECT_EQ(read.find("ulimit"), std::string::npos) << read;
}

TEST(Check, PassesResultsAndThrowsWithTheCallsArguments) {
  EXPECT_EQ(check(7, "dup", "fd={}", 3), 7);
  EXPECT_EQ(check(0L, "lseek"), 0L);
  const std::string path = "/nowhere/at/all";
  try {
    check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), "open", "path={}", path);
    ADD_FAILURE() << "opened " << path;
  } catch (const SystemError& e) {
    EXPECT_STREQ(e.what(), "open(path=/nowhere/at/all): No such file or directory [ENOENT]");
    EXPECT_EQ(e.code(), std::errc::no_such_file_or_directory);
  }
}

TEST(Check, ErrorNumbersThatAreReturned) {
  EXPECT_NO_THROW(check_error(0, "pthread_mutex_lock"));
  EXPECT_THROW(check_error(EINVAL, "pthread_mutex_lock", "mutex={}", 3), SystemError);
}

TEST(SignalName, NamesStandardAndRealTimeSignals) {
  EXPECT_EQ(signal_name(SIGSEGV), "SIGSEGV");
  EXPECT_EQ(signal_name(SIGKILL), "SIGKILL");
  EXPECT_EQ(signal_name(SIGRTMIN), "SIGRTMIN");
  EXPECT_EQ(signal_name(SIGRTMIN + 2), "SIGRTMIN+2");
  EXPECT_EQ(signal_name(0), "signal 0");
  EXPECT_EQ(signal_name(999), "signal 999");
}

TEST(WorkerCrashed, SaysWhoDiedOfWhatDoingWhat) {
  const WorkerCrashed killed(
      {.worker = "brood-worker-2", .pid = 123, .signal = SIGKILL, .item = 17, .attempt = 2});
  EXPECT_STREQ(killed.what(),
               "worker brood-worker-2 (pid 123) was killed by SIGKILL while it computed item 17 "
               "(attempt 2)");
  EXPECT_EQ(killed.signal_name(), "SIGKILL");
  EXPECT_EQ(killed.item(), 17u);

  const WorkerCrashed exited({.worker = "brood-worker-1", .pid = 5, .exit_code = 0, .item = 3});
  EXPECT_STREQ(exited.what(),
               "worker brood-worker-1 (pid 5) exited with code 0 while it computed item 3");
  EXPECT_EQ(exited.signal(), 0);
  EXPECT_EQ(exited.signal_name(), "");
}

TEST(WriteText, WritesAllOfIt) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  EXPECT_TRUE(write_text(ends[1], "two\nlines\n"));
  ::close(ends[1]);
  std::string got(64, '\0');
  got.resize(static_cast<std::size_t>(::read(ends[0], got.data(), got.size())));
  EXPECT_EQ(got, "two\nlines\n");
  ::close(ends[0]);
}

TEST(WriteText, NobodyReadingIsNoSignal) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  ::close(ends[0]);
  EXPECT_FALSE(write_text(ends[1], "nobody"));  // SIGPIPE would have ended this process
  ::close(ends[1]);
  sigset_t pending;
  ::sigpending(&pending);
  EXPECT_EQ(::sigismember(&pending, SIGPIPE), 0);
}

}  // namespace
}  // namespace brood::detail::system_error_test
