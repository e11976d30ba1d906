#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <brood/channel/queue_core.hpp>
#include <brood/log.hpp>
#include <brood/memory/member.hpp>

namespace brood::detail {

/// The queue through which records go to the root.
class LogQueue {
 public:
  /// A new one, which this process holds. Throws SharedMemoryFull.
  LogQueue();
  /// That the root made. Throws what Handle::adopt throws.
  explicit LogQueue(ObjectRef ref);

  [[nodiscard]] ObjectRef ref() const { return core_.handle().ref(); }
  [[nodiscard]] const QueueCore& core() const { return core_; }

  /// From its return on the record outlives this process. False when there is no room: waits for
  /// some at most until the deadline. Throws SharedMemoryFull.
  [[nodiscard]] bool put(const log::Record& record, Deadline deadline) const;
  /// Gives the oldest record to `take`; false when there is none. What `take` throws it throws; the
  /// record is gone then.
  bool pass_on(const std::function<void(const log::Record&)>& take) const;

 private:
  QueueCore core_;
};

/// The root's end of it: a thread that takes records as they come.
///
/// Any thread may call it. `take` is called by one thread at a time, and may log itself.
class LogCollector {
 public:
  using Take = std::function<void(const log::Record&)>;

  /// Throws SharedMemoryFull, SystemError.
  LogCollector(std::shared_ptr<Member> member, Take take);
  LogCollector(const LogCollector&) = delete;
  LogCollector& operator=(const LogCollector&) = delete;
  /// Passes on what is there. In a copy made by fork nothing happens.
  ~LogCollector();

  [[nodiscard]] ObjectRef queue() const { return queue_.ref(); }
  /// Passes on all that was put before. False when somebody who is in the middle of a put keeps the
  /// rest back for that long.
  bool flush(std::chrono::milliseconds patience);

  /// Whether the calling thread is in a call of some `take`.
  [[nodiscard]] static bool passing_on() noexcept;

  /// Ends the thread, and starts it again: for a fork. Records wait meanwhile.
  void pause();
  void resume();

 private:
  void run();
  void drain();
  void report_lost();

  std::shared_ptr<Member> member_;
  Tag owner_;
  LogQueue queue_;
  Take take_;
  std::mutex mutex_;             // who drains
  std::uint64_t reported_lost_;  // guarded by mutex_
  std::atomic<std::uint32_t> stop_{0};
  std::thread thread_;
};

}  // namespace brood::detail
