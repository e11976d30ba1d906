// Layer: channel
#pragma once

#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <brood/channel/codec.hpp>
#include <brood/channel/task_handle.hpp>
#include <brood/channel/watch.hpp>
#include <brood/errors.hpp>
#include <brood/outcome.hpp>
#include <brood/platform/deadline.hpp>

namespace brood {

namespace detail {
struct FutureAccess;
template <class R, class F>
struct Then;
}  // namespace detail

/// The result of a task, when it will be there: of worker processes, of a ThreadPool, of a call
/// that a manager's server was asked for, or of what then() has made of another.
///
///     brood::Future<bool> f = pool.submit(is_prime, 10'000'019);
///     if (f.wait(1s)) std::printf("%d\n", f.get());
///     pool.submit(load, path).then([](const Image& image) { show(image); });
///     const int n = co_await pool.submit(count, path);
///
/// As std::future: get() once, then it is not valid() any more; move-only; used by one thread at a
/// time. The result of a worker process lies in the family's shared memory until get() decodes it,
/// in the thread that asks; others lie in memory of this process. If the worker dies, get() throws
/// WorkerCrashed; if the task is cancelled or the pool terminated, TaskCancelled; of a manager
/// ManagerLost and ManagerClosed. It outlives the
/// pool. In a forked copy of its process it is inert. Memory ordering: what the task did is visible
/// after get() or wait() returned, and to then(). Destroying it does not wait nor cancel the task.
template <class R>
class [[nodiscard]] Future {
 public:
  using value_type = R;

  Future() = default;

  /// Refers to a task whose result has not been fetched.
  [[nodiscard]] bool valid() const { return task_.valid(); }
  /// get() would not wait.
  [[nodiscard]] bool ready() const {
    task_.require();
    return task_.ready();
  }

  /// Waits for the result.
  void wait() const { wait_until(detail::Deadline::never()); }
  /// False when `timeout` passed first.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) const {
    return wait_until(detail::Deadline::after(timeout));
  }

  /// Waits, then returns the result or throws what the task threw, WorkerCrashed, TaskCancelled or
  /// DecodeError. Throws StateError if it is not valid().
  R get() { return get_until(detail::Deadline::never()); }
  /// Throws TimeoutError when `timeout` passed first; then it is still valid().
  template <class Rep, class Period>
  R get(std::chrono::duration<Rep, Period> timeout) {
    return get_until(detail::Deadline::after(timeout));
  }

  /// Nobody wants the result: a task that has not begun never will, one that runs is stopped if it
  /// can be (its worker process is stopped and
  /// replaced, which costs no other task; a function that takes a std::stop_token is asked). True
  /// if that is so, and get() will throw TaskCancelled, or what a function that was asked to stop
  /// makes of it. False if it had ended, or runs on a thread and cannot be stopped. A continuation
  /// that has not begun cancels also what it waits for.
  bool cancel() const {
    task_.require();
    return task_.cancel();
  }

  /// A future of what f makes of the result. f gets the value, and is not called if there is none:
  /// then what get() would throw is passed on. If it takes an Outcome<R> or a Future<R>, which is
  /// ready, it gets that in any case. This future is not valid() any more.
  ///
  /// f runs on a thread of this process, of which there are as many as are needed: it may block,
  /// and stops no other. They end when there is nothing to wait for. Nothing of f crosses to
  /// another process: it may capture what it likes, by reference too if that lives long enough.
  /// What it throws is the new future's to throw.
  template <class F>
  auto then(F&& f) -> Future<typename detail::Then<R, std::decay_t<F>>::Result>;

  /// In a coroutine: as get(), but the thread goes on meanwhile; the coroutine does on a thread as
  /// those of then().
  auto operator co_await() {
    struct Awaiter {
      Future& future;
      [[nodiscard]] bool await_ready() const { return future.ready(); }
      void await_suspend(std::coroutine_handle<> coroutine) const {
        future.task_.resume_when_ready(coroutine);
      }
      R await_resume() const { return future.get(); }
    };
    return Awaiter{*this};
  }

 private:
  friend detail::FutureAccess;
  friend detail::WatchAccess;
  explicit Future(detail::TaskHandle task) : task_(std::move(task)) {}

  [[nodiscard]] std::shared_ptr<detail::Watch> watch() const {
    task_.require();
    return task_.watch();
  }
  bool wait_until(detail::Deadline deadline) const {
    task_.require();
    return task_.ready() || task_.wait(deadline);
  }
  R get_until(detail::Deadline deadline) {
    if (!wait_until(deadline)) throw TimeoutError("the result was not there in time");
    const detail::TaskHandle task = std::move(task_);  // lets go of it at the end
    if (task.local()) return static_cast<detail::LocalResult<R>&>(*task.local()).take();
    const std::span<const std::byte> bytes = task.result();
    if constexpr (!std::is_void_v<R> && detail::Sendable<R>) {
      detail::ByteSource source(bytes);
      return detail::decode<R>(source);
    } else if constexpr (!std::is_void_v<R>) {
      throw StateError("a result of this type never comes from a worker process");
    }
  }

  detail::TaskHandle task_;
};

namespace detail {

/// How pools make futures, and take them apart.
struct FutureAccess {
  template <class R>
  static Future<R> make(std::shared_ptr<PendingResult> remote) {
    return Future<R>(TaskHandle(std::move(remote)));
  }
  template <class R>
  static Future<R> make(std::shared_ptr<LocalResult<R>> local) {
    return Future<R>(TaskHandle(std::shared_ptr<LocalTask>(std::move(local))));
  }
  template <class R>
  static const TaskHandle& task(const Future<R>& future) {
    return future.task_;
  }
};

/// What get() returned or threw.
template <class R>
Outcome<R> outcome_of_future(Future<R>& future) {
  try {
    if constexpr (std::is_void_v<R>) {
      future.get();
      return Outcome<R>(std::monostate{});
    } else {
      return Outcome<R>(future.get());
    }
  } catch (...) {
    return Outcome<R>(std::current_exception());
  }
}

/// What then(f) gives to F, and what comes of it.
template <class R, class F>
struct Then {
  // A generic callable takes all: the value comes first.
  static constexpr bool kTakesValue = [] {
    if constexpr (std::is_void_v<R>) {
      return std::is_invocable_v<F&>;
    } else {
      return std::is_invocable_v<F&, R>;
    }
  }();
  static constexpr bool kTakesOutcome = std::is_invocable_v<F&, Outcome<R>>;
  static constexpr bool kTakesFuture = std::is_invocable_v<F&, Future<R>>;
  static_assert(kTakesValue || kTakesOutcome || kTakesFuture,
                "then() calls its function with the result: it must take the value, or an "
                "Outcome or Future of it");

  static decltype(auto) call(F& f, Future<R>& future) {
    if constexpr (kTakesValue && std::is_void_v<R>) {
      future.get();
      return std::invoke(f);
    } else if constexpr (kTakesValue) {
      return std::invoke(f, future.get());
    } else if constexpr (kTakesOutcome) {
      return std::invoke(f, outcome_of_future(future));
    } else {
      return std::invoke(f, std::move(future));
    }
  }
  using Result =
      std::remove_cvref_t<decltype(call(std::declval<F&>(), std::declval<Future<R>&>()))>;
};

/// The task that then() makes. It holds the future that it waits for, which holds it until it is
/// ready.
template <class R, class F>
class Continuation final : public LocalResult<typename Then<R, F>::Result> {
 public:
  Continuation(Future<R> source, F f) : source_(std::move(source)), f_(std::move(f)) {}

  void start(const std::shared_ptr<Continuation>& self) {
    FutureAccess::task(source_).call_when_ready([self] { self->compute(); });
  }

 private:
  void compute() {
    this->compute_by([&] {
      // Both are gone before anybody sees the result.
      Future<R> source = std::move(source_);
      F f = std::move(f_);
      return Then<R, F>::call(f, source);
    });
  }
  void cancel_source() override { source_.cancel(); }

  Future<R> source_;
  F f_;
};

}  // namespace detail

template <class R>
template <class F>
auto Future<R>::then(F&& f) -> Future<typename detail::Then<R, std::decay_t<F>>::Result> {
  task_.require();
  using Continuation = detail::Continuation<R, std::decay_t<F>>;
  const auto next = std::make_shared<Continuation>(std::move(*this), std::forward<F>(f));
  using Result = typename detail::Then<R, std::decay_t<F>>::Result;
  auto result = detail::FutureAccess::make<Result>(
      std::static_pointer_cast<detail::LocalResult<Result>>(next));
  next->start(next);
  return result;
}

}  // namespace brood
