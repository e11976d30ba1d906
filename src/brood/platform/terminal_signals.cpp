#include <brood/platform/terminal_signals.hpp>

#include <array>
#include <cstddef>

namespace brood::detail {
namespace {

constexpr std::array kTerminalSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
std::array<struct sigaction, kTerminalSignals.size()> manners_before{};

}  // namespace

sigset_t terminal_signals() noexcept {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : kTerminalSignals) ::sigaddset(&set, signal);
  return set;
}

void ignore_terminal_signals() noexcept {
  for (std::size_t i = 0; i < kTerminalSignals.size(); ++i) {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(kTerminalSignals[i], &ignore, &manners_before[i]);
  }
}

void restore_terminal_signals() noexcept {
  for (std::size_t i = 0; i < kTerminalSignals.size(); ++i) {
    ::sigaction(kTerminalSignals[i], &manners_before[i], nullptr);
  }
}

void ignore_interrupt() noexcept { ::signal(SIGINT, SIG_IGN); }

TerminalSignalsWait::TerminalSignalsWait() noexcept {
  const sigset_t set = terminal_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, &before_);
}

TerminalSignalsWait::~TerminalSignalsWait() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

void unblock_terminal_signals() noexcept {
  const sigset_t set = terminal_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace brood::detail
