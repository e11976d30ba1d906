#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include <brood/log.hpp>
#include <brood/memory/member.hpp>
#include <brood/memory/tag.hpp>
#include <brood/process/log_collector.hpp>
#include <brood/process/log_record.hpp>

namespace brood::detail {

class Family;

/// This process's part in the family's log: what the destination that the family has agreed on
/// means here. There is one, which is never destroyed. Any thread may use it.
class LogOutput {
 public:
  static LogOutput& mine();

  /// Writes a record, or counts it as lost.
  void write(log::Level level, std::string_view text) noexcept;

  /// For the whole family: first where to, then from which level on. `take`: of root_call. Throws
  /// what the functions of brood::log say.
  void set(LogDestination destination, LogCollector::Take take, log::Level level);
  void off();
  bool flush(std::chrono::milliseconds patience);

  /// For Family: from now on the level is the family's; when all others have ended.
  static void family_begins(Member& member) noexcept;
  void family_ends(Member& member) noexcept;
  /// What a root that was killed, or ended without its Runtime's destructor, had not passed on: by
  /// who has seen it end, and everybody else. Does nothing if only the root could.
  static void write_what_is_left(Member& member) noexcept;

  /// While it lives, no thread of the log runs in this process.
  class Pause {
   public:
    Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    /// In the parent. Not called in the child, which leaves by exec or exit.
    ~Pause();

   private:
    Tag owner_;
  };

  /// Where this process puts its records.
  class Target;

 private:
  std::shared_ptr<Target> target(Member& member);
  /// Of this process, if there is one. Only with `changing_` does it stay.
  LogCollector* collector_here();
  void replace(Family& family, const LogDestination& destination,
               std::unique_ptr<LogCollector> collector);

  std::mutex changing_;  // who sets the destination
  std::mutex mutex_;
  Tag owner_;                                // guarded by mutex_, as all below
  std::uint64_t generation_ = 0;             // of the destination that `target_` stands for
  std::shared_ptr<Target> target_;           // null: nowhere, or it cannot be had
  std::unique_ptr<LogCollector> collector_;  // of the root, when all goes there
};

}  // namespace brood::detail
