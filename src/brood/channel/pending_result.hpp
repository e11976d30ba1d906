// Layer: channel
// A result that another process is about to have: what is behind a Future.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include <brood/channel/watch.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// A task of a pool, a call of a manager. Used by one thread at a time; its destructor lets go of
/// the result, and neither waits for it nor cancels anything.
class PendingResult {
 public:
  PendingResult() = default;
  PendingResult(const PendingResult&) = delete;
  PendingResult& operator=(const PendingResult&) = delete;
  virtual ~PendingResult() = default;

  /// wait() would not wait.
  [[nodiscard]] virtual bool ready() const = 0;
  /// False at the deadline.
  virtual bool wait(Deadline deadline) = 0;
  /// The bytes of the value, once it is ready; valid until release(). Throws what there is instead.
  virtual std::span<const std::byte> result() = 0;
  /// Ends it with TaskCancelled, if it has not ended and can be stopped; otherwise false.
  virtual bool stop() { return false; }
  /// Calls `run` once when it is ready: here, or from a thread that must not be kept. `self` is
  /// this, and is held until then. What nobody else can tell is waited for by a thread.
  virtual void when_ready(std::shared_ptr<PendingResult> self, std::function<void()> run);
  /// Nobody wants the result any more.
  virtual void release() noexcept = 0;
  /// To wait for it among others; `self` is this.
  [[nodiscard]] virtual std::shared_ptr<Watch> watch(std::shared_ptr<PendingResult> self) = 0;
};

}  // namespace brood::detail
