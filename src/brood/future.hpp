// Layer: channel
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include <brood/channel/codec.hpp>
#include <brood/channel/pending_result.hpp>
#include <brood/channel/watch.hpp>
#include <brood/errors.hpp>
#include <brood/outcome.hpp>
#include <brood/platform/deadline.hpp>

namespace brood {

namespace detail {
/// For who makes futures.
struct FutureAccess {
  template <class R>
  static auto make(std::shared_ptr<PendingResult> pending);
};
}  // namespace detail

/// The result of a task that was submitted to a pool, or of a call that a manager's server was
/// asked for, when it will be there.
///
///     brood::Future<bool> f = pool.submit(is_prime, 10'000'019);
///     if (f.wait(1s)) std::printf("%d\n", f.get());
///
/// As std::future: get() once, then it is not valid() any more; move-only; used by one thread at a
/// time. The result lies in the family's shared memory until get() decodes it, in the thread that
/// asks. If the worker dies, get() throws WorkerCrashed; if the pool is terminated, TaskCancelled;
/// of a manager ManagerLost and ManagerClosed. It outlives the pool. In a forked copy of its
/// process it is inert. Memory ordering: what the task did is visible after get() or wait()
/// returned. Destroying it does not wait nor cancel the task.
template <class R>
class [[nodiscard]] Future {
 public:
  Future() = default;
  Future(Future&& other) noexcept = default;
  Future& operator=(Future&& other) noexcept {
    if (this != &other) {
      release();
      pending_ = std::move(other.pending_);
      outcome_ = std::move(other.outcome_);
    }
    return *this;
  }
  Future(const Future&) = delete;
  Future& operator=(const Future&) = delete;
  ~Future() { release(); }

  /// Refers to a task whose result has not been fetched.
  [[nodiscard]] bool valid() const { return pending_ != nullptr || outcome_ != nullptr; }
  /// get() would not wait.
  [[nodiscard]] bool ready() const {
    require();
    return outcome_ || pending_->ready();
  }

  /// Waits for the result.
  void wait() const { wait_until(detail::Deadline::never()); }
  /// False when `timeout` passed first.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) const {
    return wait_until(detail::Deadline::after(timeout));
  }

  /// Ends the task with TaskCancelled: it is not begun any more, or, if it runs, its worker is
  /// stopped (SIGTERM, then SIGKILL) and replaced, which costs no other task. False, and nothing
  /// happens, if it has ended already, and for a manager's call.
  bool cancel() {
    require();
    return !outcome_ && pending_->stop();
  }

  /// Waits, then returns the result or throws what the task threw, WorkerCrashed, TaskCancelled or
  /// DecodeError. Throws StateError if it is not valid().
  R get() { return get_until(detail::Deadline::never()); }
  /// Throws TimeoutError when `timeout` passed first; then it is still valid().
  template <class Rep, class Period>
  R get(std::chrono::duration<Rep, Period> timeout) {
    return get_until(detail::Deadline::after(timeout));
  }

 private:
  friend class PoolCaller;
  friend struct detail::FutureAccess;
  friend detail::WatchAccess;
  /// Of a pool without workers it is ready from the start.
  struct Ready final : detail::Watch {
    bool look(std::vector<detail::FutexWord>& /*words*/, detail::Deadline& /*soon*/) override {
      return true;
    }
  };
  explicit Future(std::shared_ptr<detail::PendingResult> pending) : pending_(std::move(pending)) {}
  explicit Future(Outcome<R> outcome)
      : outcome_(std::make_unique<Outcome<R>>(std::move(outcome))) {}

  void require() const {
    if (!valid()) throw StateError("this future has no result, or it has been fetched already");
  }
  [[nodiscard]] std::shared_ptr<detail::Watch> watch() const {
    require();
    if (outcome_) return std::make_shared<Ready>();
    return pending_->watch(pending_);
  }
  bool wait_until(detail::Deadline deadline) const {
    require();
    return outcome_ || pending_->wait(deadline);
  }
  R get_until(detail::Deadline deadline) {
    if (!wait_until(deadline)) throw TimeoutError("the result was not there in time");
    if (outcome_) {
      const std::unique_ptr<Outcome<R>> outcome = std::move(outcome_);
      return std::move(*outcome).value();
    }
    struct Release {
      Future& future;
      ~Release() { future.release(); }
    } const releaser{*this};
    detail::ByteSource source(pending_->result());
    if constexpr (!std::is_void_v<R>) return detail::decode<R>(source);
  }
  void release() noexcept {
    if (pending_) pending_->release();
    pending_.reset();
    outcome_.reset();
  }

  std::shared_ptr<detail::PendingResult> pending_;
  std::unique_ptr<Outcome<R>> outcome_;  // of a pool without workers
};

template <class R>
auto detail::FutureAccess::make(std::shared_ptr<PendingResult> pending) {
  return Future<R>(std::move(pending));
}

}  // namespace brood
