#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include <brood/errors.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

/// How a process ended: its exit code, or minus the signal that killed it. As Python's `exitcode`.
using ExitCode = int;
/// When nobody can say how; as Python.
inline constexpr ExitCode kUnknownExitCode = 255;

/// A process, held by a descriptor (pidfd): not confused by the reuse of process ids.
class ProcessHandle {
 public:
  ProcessHandle() = default;
  explicit ProcessHandle(Fd pidfd) : fd_(std::move(pidfd)) {}
  /// Opens the process that has `pid` now. The caller knows that it is the one meant, because it is
  /// an unreaped child or has just been seen alive. Throws SystemError.
  static ProcessHandle open(int pid);
  /// Of a child that has just been made; if that fails, the child is killed and reaped first.
  static ProcessHandle open_child(int pid);
  /// Invalid instead of an error when there is no such process any more.
  static ProcessHandle try_open(int pid);
  /// Of a process that ended before anybody could open it: its descriptor is readable, no more.
  static ProcessHandle of_ended();

  [[nodiscard]] bool valid() const noexcept { return fd_.valid(); }
  /// Becomes readable when the process has ended.
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }

  /// Sends a signal; false when the process is gone. Throws SystemError for anything else.
  bool signal(int number) const;
  /// Waits until all threads of the process have ended; false at the deadline. The process may be
  /// anybody's child and stays a zombie until its parent reaps it.
  [[nodiscard]] bool wait_ended(Deadline deadline) const;
  /// For children of this process only: reaps it if it has ended, and sets `code` and what it had
  /// used. `not_a_child`
  /// too when somebody else has reaped it. Throws SystemError.
  enum class Reap : std::uint8_t { running, reaped, not_a_child };
  Reap reap(ExitCode& code, ResourceUsage* usage = nullptr) const;
  /// Asks the kernel for the exit code of a process that is not this one's child: while nobody has
  /// reaped it (needs /proc), and afterwards (Linux 6.15 and later); nullopt where it cannot tell.
  [[nodiscard]] std::optional<ExitCode> exit_code_from_kernel() const;

 private:
  [[nodiscard]] std::optional<ExitCode> exit_code_of_zombie() const;

  Fd fd_;
};

int current_pid() noexcept;
int parent_pid() noexcept;
int current_tid() noexcept;

/// CPU time that the threads of a process have used, those that ended included; nullopt when there
/// is no such process.
std::optional<std::chrono::nanoseconds> cpu_time_of(int pid) noexcept;

/// fork(2): 0 in the child. Throws SystemError.
int fork_process();

/// From now on, when this process calls exit() or returns from main, its status is stored in
/// `*where` before anything else happens. Forks of it do not.
void note_exit_status(std::atomic<std::int32_t>* where) noexcept;

/// Ends this process at once: no destructor, no atexit function, no flush.
[[noreturn]] void exit_now(int code) noexcept;
/// Ends this process by SIGKILL.
[[noreturn]] void kill_self() noexcept;

/// Threads of this process. Without /proc: 1, or 2 when there ever was a second one.
int thread_count() noexcept;

/// A name for `ps -L` and debuggers; cut after 15 bytes.
void set_thread_name(const char* name) noexcept;

}  // namespace brood::detail
