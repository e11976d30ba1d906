// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <csignal>
#include <optional>

#include <brood/platform/process_handle.hpp>
#include <brood/platform/terminal_signals.hpp>

#include "support/forked.hpp"

namespace brood::detail::terminal_signals_test {
namespace {

using namespace brood::testing;

TEST(TerminalSignals, AreIgnoredUntilRestored) {
  in_child([] {
    static volatile std::sig_atomic_t interrupted = 0;
    ::signal(SIGINT, [](int) { interrupted = interrupted + 1; });
    ignore_terminal_signals();
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::raise(number);
    EXPECT_EQ(interrupted, 0);
    restore_terminal_signals();
    ::raise(SIGINT);
    EXPECT_EQ(interrupted, 1) << "the handler that was there before";
  });
  EXPECT_EQ(exit_code_of([] {
              ignore_terminal_signals();
              restore_terminal_signals();
              ::raise(SIGHUP);
            }),
            -SIGHUP);
}

TEST(TerminalSignals, InterruptAloneCanBeIgnored) {
  EXPECT_EQ(exit_code_of([] {
              ignore_interrupt();
              ::raise(SIGINT);
              ::raise(SIGTERM);
            }),
            -SIGTERM);
}

TEST(TerminalSignals, WaitAndAreForgottenByWhoIgnoresThem) {
  in_child([] {
    static volatile std::sig_atomic_t interrupted = 0;
    ::signal(SIGINT, [](int) { interrupted = interrupted + 1; });
    std::optional<TerminalSignalsWait> waiting(std::in_place);
    const int pid = fork_process();
    if (pid == 0) {
      ::raise(SIGINT);
      ::raise(SIGTERM);
      ignore_terminal_signals();
      waiting.reset();
      restore_terminal_signals();
      exit_now(interrupted == 0 ? 0 : 1);
    }
    ::raise(SIGINT);
    EXPECT_EQ(interrupted, 0);
    waiting.reset();
    EXPECT_EQ(interrupted, 1);
    ProcessHandle child = ProcessHandle::open_child(pid);
    EXPECT_TRUE(child.wait_ended(Deadline::never()));
    ExitCode code = -1000;
    child.reap(code);
    EXPECT_EQ(code, 0);
  });
}

TEST(TerminalSignals, ThatWereBlockedBeforeAreBlockedAfterwards) {
  EXPECT_EQ(exit_code_of([] {
              const sigset_t all = terminal_signals();
              ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
              { const TerminalSignalsWait waiting; }
              ::raise(SIGINT);
              ::raise(SIGKILL);
            }),
            -SIGKILL);
  EXPECT_EQ(exit_code_of([] {
              const sigset_t all = terminal_signals();
              ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
              unblock_terminal_signals();
              ::raise(SIGINT);
            }),
            -SIGINT);
}

}  // namespace
}  // namespace brood::detail::terminal_signals_test
