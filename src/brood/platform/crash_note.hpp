// Layer: platform
// What a process that dies of a signal still says: which, where, and how it got there.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <brood/platform/module.hpp>

namespace brood::detail {

/// A place for the last words of one process, in memory that it shares with who shall read them.
/// All zero is empty. Written by that process alone, read by others once it has ended. A process
/// that dies writes with what it has left, so readers believe nothing: see read().
struct CrashNote {
  enum State : std::uint32_t { kEmpty, kWriting, kComplete };
  static constexpr std::size_t kMaxFrames = 48;
  static constexpr std::size_t kMaxNames = 6;
  struct Name {
    std::uint64_t module;       // its key
    std::array<char, 40> name;  // of its file, without folder; NUL-terminated
  };

  std::atomic<std::uint32_t> state;
  std::int32_t pid;
  std::int32_t thread;
  std::int32_t signal;
  std::int32_t code;         // si_code
  std::int32_t system_call;  // of SIGSYS: which was refused; else -1
  std::uint64_t address;     // that the fault was about
  std::atomic<std::uint32_t> frames;
  std::uint32_t reserved;
  std::array<CodePlace, kMaxFrames> stack;  // of instructions, not of return addresses
  std::array<Name, kMaxNames> names;        // of shared libraries on the stack

  /// Makes it empty, for the next process.
  void clear() noexcept;
};

/// The same as plain data of the process that read it.
struct CrashData {
  struct Name {
    std::uint64_t module = 0;
    std::string name;
  };
  int signal = 0;
  int code = 0;
  int system_call = -1;
  std::uintptr_t address = 0;
  std::vector<CodePlace> stack;
  std::vector<Name> names;

  /// One line for each frame, as symbolize(): functions and lines where this process has loaded the
  /// module too, else "? (libsolver.so+0x1f)". Takes milliseconds the first time; never throws.
  [[nodiscard]] std::vector<std::string> describe_stack() const noexcept;
};

/// What the process `pid`, which was killed by `signal`, left in the note; nullopt if it left
/// nothing, something else, or nonsense. Without a stack if it had no time to finish.
std::optional<CrashData> read(const CrashNote& note, int pid, int signal);

/// "nothing is mapped there", for SIGSEGV with SEGV_MAPERR; empty if the code says nothing.
std::string describe_signal_code(int signal, int code);
/// Whether the code is that of a fault, which is about an address.
bool is_fault(int signal, int code) noexcept;

/// From now on this process, should it die of SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS or
/// SIGTRAP in any thread, says so in `note` first. It dies all the same, of the same signal and
/// with the same core: the handler gives the signal back to whoever had it.
///
/// For the calling thread a stack is reserved on which the handler runs, so that a stack overflow
/// is told too; other threads need one of their own for that. A signal that has a handler already,
/// a sanitizer's or the user's, is left alone; a handler that is installed later takes this one's
/// place, and may call it. The note must stay mapped as long as the process lives. Forks of the
/// process write nothing into it. Once in a process.
///
/// The handler calls what is safe in a signal handler only: it takes no lock and allocates nothing;
/// the unwinder has been used before, so that it is bound. On a damaged stack it notes the frames
/// that can be read.
void leave_crash_note_in(CrashNote& note) noexcept;

}  // namespace brood::detail
