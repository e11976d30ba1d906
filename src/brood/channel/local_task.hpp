#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include <brood/channel/watch.hpp>
#include <brood/errors.hpp>
#include <brood/outcome.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// A result of this process that is computed by a thread of it, or was by the caller: what a
/// Future of a ThreadPool, of a pool without workers, or of then() refers to.
///
/// Private memory; any thread may call anything. `state_` says who may touch the outcome: begin()
/// makes it the computing thread's, settled() everybody's.
class LocalTask : public std::enable_shared_from_this<LocalTask> {
 public:
  LocalTask() = default;
  LocalTask(const LocalTask&) = delete;
  LocalTask& operator=(const LocalTask&) = delete;
  virtual ~LocalTask() = default;

  [[nodiscard]] bool ready() const noexcept {
    return state_.load(std::memory_order_acquire) == kSettled;  // pairs with settled()
  }
  bool wait(Deadline deadline) const;
  [[nodiscard]] std::shared_ptr<Watch> watch();
  /// Calls it once when ready: here if it is already, else in the thread that settles. It must not
  /// block, nor throw.
  void when_ready(std::function<void()> callback);
  /// True if it will end as cancelled, or was asked to stop while it runs.
  bool cancel();

  /// For who computes it. False: it has been cancelled, leave it alone.
  bool begin();
  /// The outcome is there.
  void settled();
  /// Makes `error` the outcome, which who takes it has alone. False: it has begun, or is cancelled.
  bool fail_with(std::exception_ptr error);
  /// For what takes a token: cancel() asks it to stop while it runs.
  std::stop_token stop_token();

 protected:
  virtual void set_outcome(std::exception_ptr error) = 0;
  /// It was cancelled before it began: what it waits for is not needed by anybody else.
  virtual void cancel_source() {}

 private:
  class LocalWatch;
  enum State : std::uint32_t { kWaiting, kRunning, kSettled };

  std::atomic<std::uint32_t> state_{kWaiting};  // slept on
  mutable std::atomic<std::uint32_t> sleepers_{0};
  std::mutex mutex_;
  std::vector<std::function<void()>> callbacks_;  // guarded by mutex_
  std::stop_source stop_{std::nostopstate};       // guarded by mutex_
};

template <class R>
class LocalResult : public LocalTask {
 public:
  LocalResult() = default;
  /// One that is there already.
  explicit LocalResult(Outcome<R> outcome) : outcome_(std::move(outcome)) {
    begin();
    settled();
  }

  /// Runs `compute` for its outcome, unless it was cancelled.
  template <class Compute>
  void compute_by(Compute&& compute) {
    if (!begin()) return;
    try {
      if constexpr (std::is_void_v<R>) {
        compute();
        outcome_.emplace(std::monostate{});
      } else {
        outcome_.emplace(compute());
      }
    } catch (...) {
      outcome_.emplace(std::current_exception());
    }
    settled();
  }
  /// Once, when ready.
  R take() { return std::move(*outcome_).value(); }
  Outcome<R> take_outcome() { return *std::move(outcome_); }

 protected:
  void set_outcome(std::exception_ptr error) override { outcome_.emplace(std::move(error)); }

 private:
  std::optional<Outcome<R>> outcome_;
};

}  // namespace brood::detail
