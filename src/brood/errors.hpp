// Layer: platform
// Length: every exception in one place.
// Everything Brood throws. All derive from brood::Error, so `catch (const brood::Error& e)` gets
// any of them and nothing else, and `e.what()` says what was asked, with which values, and what
// to do about it.
//
// What a task or process throws itself comes back as its own type where that is known (see
// register_exception.hpp), otherwise as RemoteError; remote_trace() finds where it was thrown. All
// classes copy without throwing, as exceptions must, belong to whoever caught them, and hold no
// handle to anything shared.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace brood {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Bytes that do not decode to the value asked for: damaged, truncated, or of another version.
class DecodeError : public Error {
 public:
  using Error::Error;
};

/// A function that this program does not contain: sent by another build, or a module which is not
/// loaded here.
class UnknownFunction : public Error {
 public:
  using Error::Error;
};

/// The family's shared memory, or a table in it, has no room left.
class SharedMemoryFull : public Error {
 public:
  using Error::Error;
};

/// A handle came too late: the shared object that it names is gone, as the last process that held
/// it has ended or let go.
class ObjectGone : public Error {
 public:
  using Error::Error;
};

/// A process could not be started. The text says what to change.
class StartError : public Error {
 public:
  using Error::Error;
};

/// A deadline passed.
class TimeoutError : public Error {
 public:
  using Error::Error;
};

/// A task ran longer than it may; its worker was replaced.
class TaskTimeout : public TimeoutError {
 public:
  using TimeoutError::TimeoutError;
};

/// A task needed more memory than it may have. Nothing else failed, its worker goes on.
class MemoryLimitExceeded : public Error {
 public:
  using Error::Error;
};

/// The call makes no sense in the object's present state: started twice, closed while running.
class StateError : public Error {
 public:
  using Error::Error;
};

/// An argument that the call never takes, whatever the state of things: a name with a slash, an
/// index beyond the end, a value that is too long for its place.
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// Work was given to a pool that is closed or terminated.
class PoolClosed : public StateError {
 public:
  using StateError::StateError;
};

/// Something was put into a queue that is closed, or was to be got at its end.
class QueueClosed : public StateError {
 public:
  using StateError::StateError;
};

/// The task was cancelled before it had a result.
class TaskCancelled : public Error {
 public:
  using Error::Error;
};

/// A barrier will not be passed: a party died or did not wait any longer, or it was aborted or
/// reset while others waited. The text says which, and names the dead.
class BrokenBarrierError : public Error {
 public:
  using Error::Error;
};

/// A worker died and none could be started in its place, so the task was not finished.
class WorkerLost : public Error {
 public:
  using Error::Error;
};

/// What a cluster stands on, its server, cannot be reached or does not do what is needed. The text
/// says what to change.
class EngineError : public Error {
 public:
  using Error::Error;
};

/// No agent of a cluster that could run a task has been heard of for too long: none is there, or
/// all are of other builds.
class NoAgents : public Error {
 public:
  using Error::Error;
};

/// A task of a cluster was lost with the nodes that had it, once too often or when it was to run at
/// most once.
class TaskLost : public Error {
 public:
  using Error::Error;
};

/// A manager was shut down: its objects are gone.
class ManagerClosed : public StateError {
 public:
  using StateError::StateError;
};

/// The server of a manager died, or cannot be reached any more, and its objects with it:
/// "manager accounts (pid 123) was killed by SIGKILL". A call that was under way may have been
/// done.
class ManagerLost : public Error {
 public:
  using Error::Error;
};

/// The name or the layout of a type is another one at the other end: another build, or another
/// type.
class TypeMismatch : public Error {
 public:
  using Error::Error;
};

/// The other end of a connection is gone: closed, or its process ended or was killed. Everything
/// that was sent before has been received; a message that was not sent to its end never is.
class EndOfStream : public Error {
 public:
  using Error::Error;
};

/// A message is larger than the connection allows, or than the caller did.
class MessageTooLarge : public Error {
 public:
  using Error::Error;
};

/// The other side of a connection could not prove that it may talk to this one: another authkey or
/// none, another user, a program that is none of Brood's.
class AuthenticationError : public Error {
 public:
  using Error::Error;
};

/// A message does not fit into the buffer that it was to be received into. It is here.
class BufferTooShort : public Error {
 public:
  BufferTooShort(const std::string& text, std::vector<std::byte> message)
      : Error(text), message_(std::make_shared<const std::vector<std::byte>>(std::move(message))) {}

  [[nodiscard]] const std::vector<std::byte>& message() const noexcept { return *message_; }

 private:
  std::shared_ptr<const std::vector<std::byte>> message_;
};

/// A system call failed. `throw SystemError("memfd_create", "name=brood", errno)` reads
/// "memfd_create(name=brood): Too many open files [EMFILE]; no free file descriptors: ...".
/// check() in platform/system_error.hpp throws it for a call that returned -1.
class SystemError : public Error {
 public:
  /// `arguments` is readable text, for instance "path=/tmp/x, flags=0x2"; `error` an errno value.
  SystemError(std::string_view call, std::string_view arguments, int error);

  /// The errno value, in std::generic_category, so that it compares equal to std::errc.
  [[nodiscard]] std::error_code code() const noexcept { return code_; }
  [[nodiscard]] const std::string& call() const noexcept { return context_->call; }
  [[nodiscard]] const std::string& arguments() const noexcept { return context_->arguments; }

 private:
  struct Context {
    std::string call, arguments;
  };
  std::error_code code_;
  std::shared_ptr<const Context> context_;
};

/// An exception of another process, as data.
struct RemoteFailure {
  std::string type;                        ///< readable: "std::out_of_range", "int"
  std::string message;                     ///< its what(); empty where it has none
  std::vector<std::string> stack = {};     ///< "function(args) at file.cpp:12 (module+0x1f)",
                                           ///< innermost first; from where it was thrown
  std::vector<RemoteFailure> causes = {};  ///< what std::throw_with_nested kept
  std::string process = {};                ///< "brood-worker-2 (pid 123)"; empty when not known
  std::optional<std::size_t> item = {};    ///< index of the input that was being computed

  /// All of it, for people, several lines.
  [[nodiscard]] std::string describe() const;
};

/// The remote side of a rethrown exception; found in a caught one by remote_trace().
class RemoteTrace {
 public:
  explicit RemoteTrace(RemoteFailure failure)
      : failure_(std::make_shared<const RemoteFailure>(std::move(failure))) {}
  explicit RemoteTrace(std::shared_ptr<const RemoteFailure> failure) noexcept
      : failure_(std::move(failure)) {}
  RemoteTrace(const RemoteTrace&) noexcept = default;
  RemoteTrace& operator=(const RemoteTrace&) noexcept = default;
  virtual ~RemoteTrace() = default;

  [[nodiscard]] const std::string& type() const noexcept { return failure_->type; }
  [[nodiscard]] const std::string& message() const noexcept { return failure_->message; }
  [[nodiscard]] const std::vector<std::string>& stack() const noexcept { return failure_->stack; }
  [[nodiscard]] const std::vector<RemoteFailure>& causes() const noexcept {
    return failure_->causes;
  }
  [[nodiscard]] const RemoteFailure& failure() const noexcept { return *failure_; }

 private:
  std::shared_ptr<const RemoteFailure> failure_;  // shared, so that copies cannot throw
};

/// What the other process knew about `exception`, if that came from one; nullptr otherwise.
///
///     catch (const std::out_of_range& e) {
///       if (const auto* trace = brood::remote_trace(e)) print(trace->stack());
///     }
template <class E>
  requires std::is_polymorphic_v<E>
[[nodiscard]] const RemoteTrace* remote_trace(const E& exception) noexcept {
  return dynamic_cast<const RemoteTrace*>(&exception);
}

/// An exception of another process whose type cannot be thrown again here: not derived from
/// std::exception, or neither standard nor registered. what() is RemoteFailure::describe().
class RemoteError : public Error, public RemoteTrace {
 public:
  explicit RemoteError(RemoteFailure failure)
      : RemoteError(std::make_shared<const RemoteFailure>(std::move(failure))) {}
  explicit RemoteError(std::shared_ptr<const RemoteFailure> failure)
      : Error(failure->describe()), RemoteTrace(std::move(failure)) {}
  /// A failure without a history: type and message.
  RemoteError(std::string type, std::string message)
      : RemoteError(RemoteFailure{.type = std::move(type), .message = std::move(message)}) {}
};

namespace detail {
struct CrashData;
}

/// What a process had used when it ended, with those of its children that it had waited for.
struct ResourceUsage {
  /// The most memory that was resident at once. One that was started by spawn begins with what its
  /// parent had, as the kernel counts.
  std::size_t peak_bytes = 0;
  std::chrono::microseconds user{0};    ///< CPU time in its own code
  std::chrono::microseconds system{0};  ///< and in the kernel
};

/// The end of a worker which was computing something.
struct Crash {
  std::string worker;  ///< its name: "brood-worker-2"
  int pid = 0;
  int signal = 0;                           ///< what killed it; 0 when it exited
  int exit_code = 0;                        ///< when it exited
  std::optional<std::size_t> item = {};     ///< index of the input it was computing
  unsigned attempt = 1;                     ///< 1 the first time
  std::uintptr_t address = 0;               ///< the address a fault was about, or 0
  std::string reason = {};                  ///< of a signal, where known: "nothing is mapped there"
  bool out_of_memory = false;               ///< the kernel killed it because memory had run out
  std::optional<ResourceUsage> usage = {};  ///< where known
  std::vector<std::string> stack = {};      ///< where it died, where known; innermost first
  /// The end of what it had written to stderr; see PoolOptions::stderr_tail.
  std::string stderr_tail = {};
  /// The stack as it came, of which WorkerCrashed makes `stack` when somebody asks for it.
  std::shared_ptr<const detail::CrashData> raw_stack = {};

  /// One line: "worker brood-worker-2 (pid 123) was killed by SIGSEGV while it computed item 17".
  [[nodiscard]] std::string summary() const;
  /// All of it, for people, several lines.
  [[nodiscard]] std::string describe() const;
};

/// A worker died computing an item:
/// "worker brood-worker-2 (pid 123) was killed by SIGKILL while it computed item 17".
///
/// Functions and lines of its stack are looked up when crash(), stack() or describe() is called
/// first, by that thread, which takes milliseconds; copies share what was found.
class WorkerCrashed : public Error {
 public:
  explicit WorkerCrashed(Crash crash);

  /// The signal that killed it, 0 when it exited by itself.
  [[nodiscard]] int signal() const noexcept { return crash_->signal; }
  /// "SIGSEGV"; empty when it exited by itself.
  [[nodiscard]] std::string signal_name() const;
  /// Its exit status; meaningful when signal() is 0.
  [[nodiscard]] int exit_code() const noexcept { return crash_->exit_code; }
  [[nodiscard]] int pid() const noexcept { return crash_->pid; }
  [[nodiscard]] const std::string& worker() const noexcept { return crash_->worker; }
  [[nodiscard]] std::optional<std::size_t> item() const noexcept { return crash_->item; }
  [[nodiscard]] unsigned attempt() const noexcept { return crash_->attempt; }
  /// The kernel killed it because memory had run out, its own group's or the machine's.
  [[nodiscard]] bool out_of_memory() const noexcept { return crash_->out_of_memory; }
  [[nodiscard]] const std::vector<std::string>& stack() const noexcept { return crash().stack; }
  /// The end of what the worker had written to stderr; see PoolOptions::stderr_tail.
  [[nodiscard]] const std::string& stderr_tail() const noexcept { return crash_->stderr_tail; }
  [[nodiscard]] const Crash& crash() const noexcept;
  /// what(), then why, the stack, what it said last and what it had used: for people, several
  /// lines.
  [[nodiscard]] std::string describe() const { return crash().describe(); }

 private:
  struct State;
  std::shared_ptr<State> state_;
  const Crash* crash_;  // the state's; its stack may still be raw
};

}  // namespace brood
