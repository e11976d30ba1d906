// Kills an operation at any instruction of our choice.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace brood::testing {

/// A child process that runs one operation instruction by instruction, so that it can be stopped
/// or killed at each of them. What the operation wrote to shared memory by then is there to see,
/// and nothing else happens to that memory meanwhile.
///
/// The child is forked from the caller by the constructor and stands in front of the first
/// instruction of `operation`. It may be stepped from the thread that made it only. It never
/// outlives this object, nor the calling process.
///
///     SingleStep child([&] { board.take(0); });
///     while (child.step()) look_at_the_board();   // stopped after each instruction
///     SingleStep other([&] { board.take(0); });
///     other.step(17);
///     other.kill();                               // died after exactly 17 instructions
///
/// Errors: std::runtime_error when the operation dies by itself or a call fails.
class SingleStep {
 public:
  /// Why this cannot work here (no permission for ptrace, another architecture, a sanitizer that
  /// does not survive it), or nothing.
  static std::optional<std::string> why_not();

  explicit SingleStep(const std::function<void()>& operation);
  /// The child first does `prepare`, at full speed.
  SingleStep(const std::function<void()>& prepare, const std::function<void()>& operation);
  ~SingleStep();
  SingleStep(const SingleStep&) = delete;
  SingleStep& operator=(const SingleStep&) = delete;

  /// Runs up to `count` instructions. False: the operation has returned, the child still exists.
  bool step(std::uint64_t count = 1);

  /// How many instructions had run when each system call of the operation returned.
  using SystemCalls = std::vector<std::uint64_t>;
  /// Steps to the end of the operation and notes them. `look` is called after each instruction.
  SystemCalls walk(const std::function<void()>& look);
  /// As step(count) at the operation's start, in a fraction of the time: as far as the last of
  /// `calls` allows at full speed. They are those of another child with the same operation; where
  /// this one goes another way, it is not the same instruction.
  bool step_past(const SystemCalls& calls, std::uint64_t count);

  /// Lets the operation run to its end at full speed.
  void finish();

  /// Kills the child with SIGKILL and reaps it: from here on its death is a fact.
  void kill();

  bool alive() const { return pid_ > 0; }
  bool ended() const { return ended_; }
  std::uint64_t steps() const { return steps_; }  ///< instructions run by step()

 private:
  bool wait_for_stop();  // true: it has run into the end of the operation
  bool at_system_call() const;

  pid_t pid_ = -1;
  bool ended_ = false;
  std::uint64_t steps_ = 0;
};

}  // namespace brood::testing
