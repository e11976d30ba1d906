#pragma once

#include <csignal>
#include <cstdint>

namespace brood::detail {

/// What a terminal, or who ends a session, sends to everybody: SIGINT, SIGQUIT, SIGHUP, and
/// SIGTERM. Who ends a family must outlive the others, so it ignores them from its first moment on.
sigset_t terminal_signals() noexcept;
/// Whether they reach a program that is executed, or wait until it says unblock_terminal_signals().
enum class TerminalSignals : std::uint8_t { come, wait };

/// This process ignores them until a child asks for the manners that were there before. Those that
/// wait, because they were blocked, are forgotten. Once in a process.
void ignore_terminal_signals() noexcept;
void restore_terminal_signals() noexcept;
/// Ctrl-C does not reach this process: its parent decides.
void ignore_interrupt() noexcept;

/// While it lives they wait: in the thread that made it, and in the copy of it that a fork makes,
/// which so has the time to ignore them.
class TerminalSignalsWait {
 public:
  TerminalSignalsWait() noexcept;
  TerminalSignalsWait(const TerminalSignalsWait&) = delete;
  TerminalSignalsWait& operator=(const TerminalSignalsWait&) = delete;
  ~TerminalSignalsWait();

 private:
  sigset_t before_;
};
/// In a process that was executed with TerminalSignals::wait.
void unblock_terminal_signals() noexcept;

}  // namespace brood::detail
