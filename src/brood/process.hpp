// Layer: process
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/callable.hpp>
#include <brood/channel/carries_descriptors.hpp>
#include <brood/channel/codec.hpp>
#include <brood/channel/descriptor_box.hpp>
#include <brood/channel/heap_sink.hpp>
#include <brood/channel/thunk.hpp>
#include <brood/errors.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/process/child_process.hpp>
#include <brood/start_method.hpp>

namespace brood {

struct ProcessOptions {
  /// Shown by ps, in error reports and by name(); "Process-N" if empty.
  std::string name = {};
  /// Ends with its parent, and is terminated instead of joined by the destructor.
  bool daemon = false;
  /// How it is started; get_start_method() if not given.
  std::optional<StartMethod> start_method = {};
};

/// A function that runs in a process of its own.
///
///     void worker(std::string name, int times);
///     brood::Process p(worker, "A", 3);   // arguments convert to the parameters' types
///     p.start();
///     p.join();
///     if (p.exitcode() != 0) ...
///
/// The callable and its arguments are encoded by the constructor; what cannot cross to another
/// process is refused by the compiler. A connection or descriptor is moved in, alone or inside a
/// value: `Process p(work, std::move(pipe.second))`; this object holds it until start() has
/// succeeded, then the child alone. The function's result is dropped. The child exits with 0
/// after it returned, with 1 after an exception left it, which is reported on stderr with its
/// stack; or as exit() and signals say. Its working directory, environment and standard streams are
/// the starter's at the time of start().
///
/// | state    | start      | join             | exitcode | is_alive | close      | destructor   |
/// | -------- | ---------- | ---------------- | -------- | -------- | ---------- | ------------ |
/// | initial  | -> started | StateError       | nullopt  | false    | -> closed  | -            |
/// | started  | StateError | waits -> ended   | nullopt  | true     | StateError | joins; kills |
/// |          |            |                  |          |          |            | a daemon     |
/// | ended    | StateError | true             | a number | false    | -> closed  | -            |
/// | closed   | StateError | StateError       | StateError ...        | nothing    | -            |
///
/// Who may use it: the process that constructed it, from any thread at once (but move, assignment
/// and destruction by one). A copy of it in a forked child is inert. Lives in private memory; the
/// arguments lie in the family's shared memory until the child has read them. If the child dies,
/// however, everybody who waits is told. If the starter dies, its daemons die and other children go
/// on; if the root dies, all do. Memory ordering: what was written before start() is visible to
/// the child; what the child wrote is visible after join() returned true.
class Process {
 public:
  /// Takes the callable and its arguments. Throws StateError without a Runtime while other threads
  /// run, and for more than 240 descriptors; SharedMemoryFull; SystemError when no descriptors are
  /// left. Then connections and descriptors that were to go are where they were.
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, ProcessOptions> &&
             !std::is_same_v<std::remove_cvref_t<F>, Process>)
  explicit Process(F&& f, Args&&... args)
      : Process(ProcessOptions{}, std::forward<F>(f), std::forward<Args>(args)...) {}

  template <class F, class... Args>
  Process(const ProcessOptions& options, F&& f, Args&&... args) {
    using Function = detail::stored_callable_t<F>;
    detail::require_callable<Function, Args...>();
    using Arguments = detail::stored_arguments_t<Function, Args...>;
    Function function(std::forward<F>(f));
    Arguments arguments(std::forward<Args>(args)...);
    try {
      const auto family = detail::Family::require();
      detail::DescriptorOutbox descriptors;
      detail::HeapSink sink(family->heap());
      sink.set_outbox(&descriptors);
      detail::encode_callable(sink, std::as_const(function));
      detail::encode(sink, std::as_const(arguments));
      const std::size_t bytes = sink.written();
      make(family, options,
           detail::thunk_id<&run<Function, Arguments>, detail::ThunkKind::process>(),
           sink.release(), bytes, sink.take_kept(), std::move(descriptors));
    } catch (...) {
      give_back<F>(function, f);
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        (give_back<Args>(std::get<I>(arguments), args), ...);
      }(std::index_sequence_for<Args...>{});
      throw;
    }
  }

  Process(Process&&) noexcept = default;
  /// What this one was is ended as by the destructor.
  Process& operator=(Process&& other) noexcept;
  ~Process();

  /// Starts the child, once. Throws StateError when it was started before, StartError when it
  /// cannot be started, SystemError. Returns when the child exists, not when its function runs.
  Process& start();

  /// Waits until the child has ended. Throws StateError before start().
  void join();
  /// Waits no longer than `timeout`; true if the child has ended.
  template <class Rep, class Period>
  bool join(std::chrono::duration<Rep, Period> timeout) {
    return join_until(detail::Deadline::after(timeout));
  }

  [[nodiscard]] bool is_alive() const;
  /// nullopt before the child has ended; then what it exited with, or minus the signal that killed
  /// it; 255 if nobody can say, because the fork server died before it did.
  [[nodiscard]] std::optional<int> exitcode() const;
  /// nullopt before start().
  [[nodiscard]] std::optional<int> pid() const;

  [[nodiscard]] const std::string& name() const;
  /// Before start(). Throws StateError afterwards.
  void set_name(std::string name);
  [[nodiscard]] bool daemon() const;
  void set_daemon(bool daemon);

  /// Sends SIGTERM, SIGKILL, SIGINT. Nothing happens if the child has ended. Throws StateError
  /// before start().
  void terminate();
  void kill();
  void interrupt();

  /// A descriptor that becomes readable when the child has ended, for poll and the like; it belongs
  /// to this object. Throws StateError before start().
  [[nodiscard]] int sentinel() const;

  /// Lets go of what an ended (or never started) process holds; afterwards most calls throw
  /// StateError. Throws StateError while the child runs.
  void close();

 private:
  template <class Function, class Arguments>
  static void run(detail::ByteSource& source, void (*decoded)()) {
    auto function = detail::decode_callable<Function>(source);
    auto arguments = detail::decode<Arguments>(source);
    decoded();
    detail::invoke_stored(function, std::move(arguments));
  }

  void make(std::shared_ptr<detail::Family> family, const ProcessOptions& options,
            detail::FunctionId function, detail::Block payload, std::size_t bytes,
            std::vector<detail::Handle> kept, detail::DescriptorOutbox descriptors);
  /// What was moved here and could not go on is its owner's again.
  template <class Given, class Stored, class Owners>
  static void give_back(Stored& stored, Owners& owners) {
    if constexpr (detail::kCarriesDescriptors<Stored> && !std::is_reference_v<Given> &&
                  std::is_same_v<Given, Stored>) {
      owners = std::move(stored);
    }
  }
  bool join_until(detail::Deadline deadline);
  void end() noexcept;
  [[nodiscard]] detail::ChildProcess& child(const char* call) const;

  std::unique_ptr<detail::ChildProcess> child_;
};

/// A process of the family, seen from anywhere: a few bytes, copied freely. It does not own the
/// process and cannot tell its exit code.
class ProcessRef {
 public:
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] bool daemon() const { return daemon_; }
  [[nodiscard]] bool is_alive() const;
  /// Waits until it has ended; false when `timeout` passed.
  template <class Rep, class Period>
  bool join(std::chrono::duration<Rep, Period> timeout) const {
    return join_until(detail::Deadline::after(timeout));
  }
  void join() const { join_until(detail::Deadline::never()); }

 private:
  friend ProcessRef current_process();
  friend std::optional<ProcessRef> parent_process();
  friend std::vector<ProcessRef> active_children();
  ProcessRef(detail::Family& family, detail::Tag tag);
  bool join_until(detail::Deadline deadline) const;

  detail::Tag tag_;
  std::string name_;
  int pid_ = 0;
  bool daemon_ = false;
};

/// This process; its name is "main" in the root.
ProcessRef current_process();
/// The process that started this one; nullopt in the root. It may have ended.
std::optional<ProcessRef> parent_process();
/// The children of this process that were started and have not ended.
std::vector<ProcessRef> active_children();

}  // namespace brood
