#pragma once

#include <coroutine>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include <brood/channel/local_task.hpp>
#include <brood/channel/pending_result.hpp>
#include <brood/channel/watch.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// What a Future refers to, without its type: a result that another process
/// is about to have, or one of this process.
/// Lets go of it when it is destroyed. Used by one thread at a time.
class TaskHandle {
 public:
  TaskHandle() = default;
  explicit TaskHandle(std::shared_ptr<PendingResult> remote) : remote_(std::move(remote)) {}
  explicit TaskHandle(std::shared_ptr<LocalTask> local) : local_(std::move(local)) {}
  TaskHandle(TaskHandle&& other) noexcept = default;
  TaskHandle& operator=(TaskHandle&& other) noexcept;
  TaskHandle(const TaskHandle&) = delete;
  TaskHandle& operator=(const TaskHandle&) = delete;
  ~TaskHandle() { release(); }

  [[nodiscard]] bool valid() const { return remote_ != nullptr || local_ != nullptr; }
  /// Throws StateError if it is not.
  void require() const;

  // Of a valid one:
  [[nodiscard]] bool ready() const { return local_ ? local_->ready() : remote_->ready(); }
  bool wait(Deadline deadline) const;
  bool cancel() const;
  [[nodiscard]] std::shared_ptr<Watch> watch() const;
  /// Calls it once when ready, from a thread that must not be kept; or here.
  void when_ready(std::function<void()> callback) const;
  /// The same on a thread for callbacks, which it may keep.
  void call_when_ready(std::function<void()> callback) const;
  void resume_when_ready(std::coroutine_handle<> coroutine) const;

  /// Of this process; null for one of another.
  [[nodiscard]] const std::shared_ptr<LocalTask>& local() const { return local_; }
  /// Of another process, when ready: the bytes of its value, until it is released. Otherwise
  /// throws why there is none.
  [[nodiscard]] std::span<const std::byte> result() const { return remote_->result(); }
  /// How many they are, 0 where there are none. When ready.
  [[nodiscard]] std::size_t result_bytes() const noexcept;
  void release() noexcept;

 private:
  std::shared_ptr<PendingResult> remote_;
  std::shared_ptr<LocalTask> local_;
};

}  // namespace brood::detail
