#include "support/single_step.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>

#include "support/sanitizers.hpp"

namespace brood::testing {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(std::string("SingleStep: ") + what + ": " + std::strerror(errno));
}

// Marks the start and the end of the operation: a trap that the kernel reports in another way
// than that of a single step.
inline void trap() {
#if defined(__x86_64__)
  asm volatile("int3" ::: "memory");
#endif
}

}  // namespace

std::optional<std::string> SingleStep::why_not() {
#if !defined(__x86_64__)
  return "single steps are implemented for x86-64 only";
#endif
  if (kThreadSanitizer) return "ThreadSanitizer does not see what other processes do";
  if (kAddressSanitizer) return "most instructions here are AddressSanitizer's, not the product's";
  // Ask the kernel by doing it: a child that may be traced by its parent stops at its first trap.
  const pid_t pid = fork();
  if (pid < 0) return std::string("fork: ") + std::strerror(errno);
  if (pid == 0) {
    _exit(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : errno);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  return std::string("ptrace is not permitted here: ") +
         std::strerror(WIFEXITED(status) ? WEXITSTATUS(status) : 0);
}

SingleStep::SingleStep(const std::function<void()>& operation) : SingleStep([] {}, operation) {}

SingleStep::SingleStep(const std::function<void()>& prepare,
                       const std::function<void()>& operation) {
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    try {
      prepare();
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(126);
      trap();
      operation();
      trap();
    } catch (...) {
      _exit(125);
    }
    _exit(0);
  }
  try {
    wait_for_stop();
    ended_ = false;
    constexpr long kOptions = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD;
    if (ptrace(PTRACE_SETOPTIONS, pid_, nullptr, kOptions) != 0) fail("PTRACE_SETOPTIONS");
  } catch (...) {
    kill();
    throw;
  }
}

SingleStep::~SingleStep() { kill(); }

bool SingleStep::wait_for_stop() {
  int status = 0;
  for (;;) {
    if (waitpid(pid_, &status, 0) >= 0) break;
    if (errno != EINTR) fail("waitpid");
  }
  if (!WIFSTOPPED(status)) {
    pid_ = -1;
    throw std::runtime_error("SingleStep: the operation ended its process, wait status " +
                             std::to_string(status) + " after " + std::to_string(steps_) +
                             " instructions");
  }
  if (WSTOPSIG(status) == (SIGTRAP | 0x80)) return false;  // a system call; see step_past()
  siginfo_t info{};
  if (ptrace(PTRACE_GETSIGINFO, pid_, nullptr, &info) != 0) fail("PTRACE_GETSIGINFO");
  if (WSTOPSIG(status) != SIGTRAP) {
    const int signal = WSTOPSIG(status);
    kill();
    throw std::runtime_error("SingleStep: the operation got signal " + std::to_string(signal) +
                             " after " + std::to_string(steps_) + " instructions");
  }
  // NOTE: not TRAP_BRKPT, which the kernel reports for a single step over a system call.
  return info.si_code == SI_KERNEL;
}

bool SingleStep::step(std::uint64_t count) {
  for (; count != 0 && !ended_; --count) {
    if (ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0) fail("PTRACE_SINGLESTEP");
    ended_ = wait_for_stop();
    if (!ended_) ++steps_;
  }
  return !ended_;
}

bool SingleStep::at_system_call() const {
#if defined(__x86_64__)
  constexpr long kInstruction = 0x050f;
  const long at = ptrace(PTRACE_PEEKUSER, pid_, offsetof(user, regs.rip), nullptr);
  return (ptrace(PTRACE_PEEKTEXT, pid_, at, nullptr) & 0xffff) == kInstruction;
#else
  return false;
#endif
}

SingleStep::SystemCalls SingleStep::walk(const std::function<void()>& look) {
  SystemCalls calls;
  for (;;) {
    const bool calling = at_system_call();
    if (!step()) return calls;
    if (calling) calls.push_back(steps_);
    look();
  }
}

bool SingleStep::step_past(const SystemCalls& calls, std::uint64_t count) {
  const auto last = std::upper_bound(calls.begin(), calls.end(), count);
  for (auto call = calls.begin(); call != last && !ended_; ++call) {
    for (int stop = 0; stop < 2 && !ended_; ++stop) {  // at its begin and at its end
      if (ptrace(PTRACE_SYSCALL, pid_, nullptr, nullptr) != 0) fail("PTRACE_SYSCALL");
      ended_ = wait_for_stop();
    }
    if (!ended_) steps_ = *call;
  }
  return step(count - std::min(count, steps_));
}

void SingleStep::finish() {
  if (ended_) return;
  if (ptrace(PTRACE_CONT, pid_, nullptr, nullptr) != 0) fail("PTRACE_CONT");
  ended_ = wait_for_stop();
}

void SingleStep::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  for (;;) {
    const pid_t got = waitpid(pid_, &status, __WALL);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 || WIFEXITED(status) || WIFSIGNALED(status)) break;
  }
  pid_ = -1;
}

}  // namespace brood::testing
