#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <brood/channel/descriptor_box.hpp>
#include <brood/channel/thunk.hpp>
#include <brood/errors.hpp>
#include <brood/memory/handle.hpp>
#include <brood/memory/heap.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {

/// What a child is to be.
struct ChildSpec {
  std::string name;
  FunctionId function;  // a thunk of kind `process`
  Block payload;        // what the thunk reads; of this process's heap; given back at the end
  std::size_t payload_bytes = 0;
  std::vector<Handle> kept{};      // what the payload names
  DescriptorOutbox descriptors{};  // of the payload; closed when the child has them
  Role role = Role::process;
  bool dies_with_parent = false;
  bool keeps_record = false;  // after its end, until this object is destroyed
  std::optional<StartMethod> method;
};

/// A child of this process: starting it, waiting for it, how it ended. What Process and the pool
/// have in common.
///
/// Any threads of the process that made it may call it at once. Elsewhere (in a fork's copy) it is
/// inert: calls throw StateError and the destructor does nothing.
class ChildProcess {
 public:
  ChildProcess(std::shared_ptr<Family> family, ChildSpec spec);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  /// Does not wait: whoever owns it has joined it.
  ~ChildProcess();

  /// Once. Throws StateError, StartError, SharedMemoryFull, SystemError.
  void start();
  [[nodiscard]] bool started() const;
  /// Waits for its end; false at the deadline. Throws StateError before start.
  bool join(Deadline deadline);
  /// Started and not ended.
  [[nodiscard]] bool alive();
  /// How it ended; nullopt before.
  [[nodiscard]] std::optional<ExitCode> exit_code();
  /// What it had used when it ended; nullopt before, and where its end was seen by nobody who knew.
  /// With `keeps_record` waits for a moment for who can tell.
  [[nodiscard]] std::optional<ResourceUsage> usage();
  /// Nothing happens when it has ended. Throws StateError before start.
  void signal(int number);

  [[nodiscard]] const std::string& name() const { return spec_.name; }
  void rename(std::string name) { spec_.name = std::move(name); }
  void set_dies_with_parent(bool yes) { spec_.dies_with_parent = yes; }
  [[nodiscard]] bool dies_with_parent() const { return spec_.dies_with_parent; }
  [[nodiscard]] std::optional<int> pid() const;
  /// CPU time that all of its threads have used; nullopt when it has ended or the kernel does not
  /// tell.
  [[nodiscard]] std::optional<std::chrono::nanoseconds> cpu_time();
  /// Readable when it has ended; -1 before start.
  [[nodiscard]] int sentinel() const;
  [[nodiscard]] Tag tag() const { return tag_; }
  [[nodiscard]] bool made_here() const { return creator_ == family_->self(); }
  [[nodiscard]] Family& family() const { return *family_; }

 private:
  void require_here(const char* what) const;
  void require_started(const char* what) const;
  /// Finds out, without waiting, whether it has ended.
  bool settle();
  void finish(ExitCode code);
  void free_blocks();

  std::shared_ptr<Family> family_;
  Tag creator_;
  ChildSpec spec_;
  mutable std::mutex mutex_;
  Tag tag_;  // guarded by mutex_, as all below
  Block start_block_;
  ProcessHandle process_;
  bool own_child_ = false;
  bool started_ = false;
  int pid_ = 0;
  std::optional<ExitCode> exit_code_;
  std::optional<ResourceUsage> usage_;
  std::optional<Deadline::Clock::time_point> ended_unnoted_;  // ended, but nobody said how
};

}  // namespace brood::detail
