// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>

#include "support/forked.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::detail::process_handle_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using Reap = ProcessHandle::Reap;

/// Runs `body` in a child and reaps it through its handle.
template <class Body>
ExitCode reaped_code(Body body) {
  const int pid = fork_process();
  if (pid == 0) {
    body();
    exit_now(77);
  }
  const ProcessHandle process = ProcessHandle::open(pid);
  EXPECT_TRUE(process.wait_ended(patience()));
  ExitCode code = -1000;
  EXPECT_EQ(process.reap(code), Reap::reaped);
  return code;
}

TEST(ProcessHandleTest, TellsExitCodesAndSignals) {
  EXPECT_EQ(reaped_code([] { exit_now(0); }), 0);
  EXPECT_EQ(reaped_code([] { exit_now(3); }), 3);
  EXPECT_EQ(reaped_code([] { exit_now(255); }), 255);
  EXPECT_EQ(reaped_code([] { exit_now(256 + 4); }), 4);
  EXPECT_EQ(reaped_code([] { kill_self(); }), -SIGKILL);
  EXPECT_EQ(reaped_code([] { ::raise(SIGTERM); }), -SIGTERM);
  EXPECT_EQ(reaped_code([] {
              ::signal(SIGSEGV, SIG_DFL);
              ::raise(SIGSEGV);  // with or without a core
            }),
            -SIGSEGV);
}

TEST(ProcessHandleTest, WaitsUntilTheDeadlineAndNoShorter) {
  Forked child([] {
    for (;;) ::pause();
  });
  const ProcessHandle process = ProcessHandle::open(child.pid());
  EXPECT_FALSE(process.wait_ended(Deadline::now()));
  const auto start = Deadline::Clock::now();
  EXPECT_FALSE(process.wait_ended(Deadline::after(3ms)));
  EXPECT_GE(Deadline::Clock::now() - start, 3ms);
  ExitCode code = 12345;
  EXPECT_EQ(process.reap(code), Reap::running);
  EXPECT_EQ(code, 12345);
  EXPECT_TRUE(process.signal(SIGTERM));
  EXPECT_TRUE(process.wait_ended(Deadline::never()));
  EXPECT_TRUE(process.wait_ended(Deadline::now()));
}

TEST(ProcessHandleTest, AStoppedProcessHasNotEnded) {
  Forked child([] {
    for (;;) ::pause();
  });
  const ProcessHandle process = ProcessHandle::open(child.pid());
  EXPECT_TRUE(process.signal(SIGSTOP));
  ASSERT_TRUE(await_state(child.pid(), 'T'));
  EXPECT_FALSE(process.wait_ended(Deadline::now()));
  ExitCode code = 0;
  EXPECT_EQ(process.reap(code), Reap::running);
}

TEST(ProcessHandleTest, EndsWithItsLastThread) {
  const Gate go;
  Forked child([&] {
    std::thread([&] {
      if (!go.pass()) exit_now(1);
      exit_now(21);
    }).detach();
    ::syscall(SYS_exit, 0);  // the main thread alone
  });
  const ProcessHandle process = ProcessHandle::open(child.pid());
  ASSERT_TRUE(await_state(child.pid(), 'Z')) << "the main thread has not ended";
  EXPECT_FALSE(process.wait_ended(Deadline::now()));
  go.open();
  EXPECT_TRUE(process.wait_ended(patience()));
  EXPECT_EQ(child.wait(), 21);
}

TEST(ProcessHandleTest, KnowsThatItIsGone) {
  Forked child([] {});
  const int pid = child.pid();
  const ProcessHandle process = ProcessHandle::open(pid);
  EXPECT_TRUE(process.wait_ended(patience()));
  EXPECT_EQ(child.wait(), 0);
  EXPECT_FALSE(process.signal(SIGTERM));
  EXPECT_TRUE(process.wait_ended(Deadline::now()));
  ExitCode code = 0;
  EXPECT_EQ(process.reap(code), Reap::not_a_child);
  EXPECT_FALSE(ProcessHandle::try_open(pid).valid());
  try {
    ProcessHandle::open(pid);
    ADD_FAILURE() << "opened a process that is gone";
  } catch (const SystemError& e) {
    EXPECT_EQ(e.code(), std::errc::no_such_process);
    EXPECT_NE(std::string(e.what()).find(std::to_string(pid)), std::string::npos) << e.what();
  }
}

TEST(ProcessHandleTest, BadNumbersAreErrors) {
  EXPECT_THROW(ProcessHandle::try_open(-5), SystemError);
  const ProcessHandle self = ProcessHandle::open(current_pid());
  EXPECT_THROW(self.signal(1000), SystemError);
  EXPECT_TRUE(self.signal(0));
}

TEST(ProcessHandleTest, OthersChildrenCanBeWaitedForAndNotReaped) {
  const Gate go;
  Forked sibling([&] { EXPECT_TRUE(go.pass()); });
  const ProcessHandle process = ProcessHandle::open(sibling.pid());
  Forked other([&] {
    ExitCode code = 555;
    EXPECT_EQ(process.reap(code), Reap::not_a_child);
    EXPECT_EQ(code, 555);
    EXPECT_FALSE(process.wait_ended(Deadline::now()));
    go.open();
    EXPECT_TRUE(process.wait_ended(patience()));
    EXPECT_EQ(process.reap(code), Reap::not_a_child);
  });
  EXPECT_EQ(other.wait(), 0);
  ExitCode code = 555;
  EXPECT_EQ(process.reap(code), Reap::reaped);
  EXPECT_EQ(code, 0);
}

TEST(ProcessHandleTest, TheKernelRemembersTheExitCode) {
  const Gate go;
  Forked exits([&] { exit_now(go.pass() ? 9 : 1); });
  Forked killed([] {
    for (;;) ::pause();
  });
  const ProcessHandle first = ProcessHandle::open(exits.pid());
  const ProcessHandle second = ProcessHandle::open(killed.pid());
  EXPECT_EQ(first.exit_code_from_kernel(), std::nullopt) << "it runs";
  go.open();
  ASSERT_TRUE(first.wait_ended(patience()));
  EXPECT_EQ(first.exit_code_from_kernel(), 9) << "nobody has reaped it yet";
  killed.signal(SIGKILL);
  ASSERT_TRUE(second.wait_ended(patience()));
  EXPECT_EQ(second.exit_code_from_kernel(), -SIGKILL);
  EXPECT_EQ(exits.wait(), 9);
  killed.kill();
  const auto code = first.exit_code_from_kernel();
  if (!code) GTEST_SKIP() << "this kernel does not tell (it takes Linux 6.15)";
  EXPECT_EQ(*code, 9);
  EXPECT_EQ(second.exit_code_from_kernel(), -SIGKILL);
}

TEST(ProcessHandleTest, OneThatCouldNotBeOpenedInTimeHasEnded) {
  const ProcessHandle ended = ProcessHandle::of_ended();
  EXPECT_TRUE(ended.valid());
  EXPECT_TRUE(ended.wait_ended(Deadline::now()));
  EXPECT_EQ(ended.exit_code_from_kernel(), std::nullopt);
}

TEST(ProcessHandleTest, WhoIsWho) {
  EXPECT_EQ(current_pid(), ::getpid());
  const int parent = current_pid();
  in_child([&] {
    EXPECT_EQ(parent_pid(), parent);
    EXPECT_NE(current_pid(), parent);
    EXPECT_EQ(current_tid(), current_pid());
    int other = 0;
    std::thread([&] { other = current_tid(); }).join();
    EXPECT_NE(other, current_tid());
  });
}

TEST(ProcessHandleTest, ACopyKnowsItsOwnNumberHoweverItWasMade) {
  const int own = current_pid();
  EXPECT_EQ(own, ::getpid());
  EXPECT_EQ(reaped_code([&] { exit_now(current_pid() == ::getpid() && current_pid() != own); }), 1);
  const auto copy = static_cast<int>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0));
  if (copy == 0) exit_now(current_pid() == ::getpid() && current_pid() != own ? 1 : 2);
  ASSERT_GT(copy, 0);
  const ProcessHandle process = ProcessHandle::open(copy);
  EXPECT_TRUE(process.wait_ended(patience()));
  ExitCode code = -1000;
  EXPECT_EQ(process.reap(code), Reap::reaped);
  EXPECT_EQ(code, 1);
  EXPECT_EQ(current_pid(), own);
}

TEST(ProcessHandleTest, EndsAtOnce) {
  // Neither destructors nor functions of atexit run.
  static const Shared<std::atomic<bool>> ran;
  EXPECT_EQ(reaped_code([] {
              std::atexit([] { ran->store(true); });
              exit_now(5);
            }),
            5);
  EXPECT_FALSE(ran->load());
}

TEST(ThreadCount, CountsThreads) {
  in_child([] {
    EXPECT_EQ(thread_count(), 1);
    const Gate leave;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] { EXPECT_TRUE(leave.pass()); });
      EXPECT_EQ(thread_count(), i + 2);
    }
    leave.open(threads.size());
    for (std::thread& thread : threads) thread.join();
    const Deadline deadline = patience();  // the kernel's count follows the join
    while (thread_count() != 1 && !deadline.passed()) std::this_thread::yield();
    EXPECT_EQ(thread_count(), 1);
  });
}

TEST(ThreadCount, IsNotConfusedByTheNameOfTheProgram) {
  EXPECT_EQ(exit_code_of([] {
              set_thread_name(") R 1 2 3) 77");
              EXPECT_EQ(thread_count(), 1);
            }),
            0);
}

TEST(ThreadCount, IsCautiousWithoutProc) {
  const TempDir empty;
  const int code = exit_code_of([&] {
    if (::chroot(empty.path().c_str()) != 0) exit_now(50);
    // The test program may have had threads before.
    EXPECT_EQ(thread_count(), __libc_single_threaded != 0 ? 1 : 2);
    const Gate leave;
    std::thread thread([&] { EXPECT_TRUE(leave.pass()); });
    EXPECT_EQ(thread_count(), 2);
    leave.open();
    thread.join();
    EXPECT_EQ(thread_count(), 2) << "nobody can know that it has ended";
  });
  if (code == 50) GTEST_SKIP() << "chroot is not permitted here";
  EXPECT_EQ(code, 0);
}

TEST(ProcessHandleTest, NamesThreads) {
  in_child([] {
    set_thread_name("a-name-of-more-than-15-bytes");
    std::string name;
    std::getline(std::ifstream("/proc/self/comm") >> std::ws, name);
    EXPECT_EQ(name, "a-name-of-more-");
  });
}

}  // namespace
}  // namespace brood::detail::process_handle_test
