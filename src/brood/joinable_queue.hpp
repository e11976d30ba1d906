// Layer: channel
// A queue of tasks whose end can be waited for.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include <brood/queue.hpp>

namespace brood {

/// Python's JoinableQueue: who gets a task says task_done() when it is done; join() waits until
/// that has been said of all that was put.
///
/// As Queue in all, but: a task is a lease. A process that ends, however it ends, without having
/// said task_done() of what it got gives that back, and another gets it; so join() never waits for
/// the dead. task_done() speaks of the oldest task that was got through this handle or a copy of it
/// in this process. Throws StateError when there is none.
///
///     void work(brood::JoinableQueue<int> tasks) {
///       while (auto task = tasks.next()) { compute(*task); tasks.task_done(); }
///     }
///     brood::JoinableQueue<int> tasks;
///     ...
///     tasks.join();   // all are done
template <class T>
class JoinableQueue : private Queue<T> {
 public:
  explicit JoinableQueue(std::size_t most = 0) : JoinableQueue(QueueOptions{.maxsize = most}) {}
  explicit JoinableQueue(QueueOptions options) : Queue<T>(kObjectType, options) {
    detail::require_sendable<T>();
  }

  using Queue<T>::put;
  using Queue<T>::try_put;
  using Queue<T>::try_put_for;
  using Queue<T>::try_put_until;
  using Queue<T>::put_many;
  using Queue<T>::close;
  using Queue<T>::closed;
  using Queue<T>::size;
  using Queue<T>::empty;
  using Queue<T>::full;
  using Queue<T>::maxsize;

  /// Throws QueueClosed at the end.
  [[nodiscard]] T get() const {
    std::optional<T> value = next();
    if (!value) throw QueueClosed("the end of the queue: it is closed, and nothing is left");
    return std::move(*value);
  }
  /// Nothing at the end.
  [[nodiscard]] std::optional<T> next() const { return got(detail::Deadline::never()); }
  /// Nothing when nothing is there (in time), and at the end.
  [[nodiscard]] std::optional<T> try_get() const { return got(detail::Deadline::now()); }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> try_get_for(std::chrono::duration<Rep, Period> time) const {
    return got(detail::Deadline::after(time));
  }

  /// The oldest task of this process is done.
  void task_done() const {
    const std::lock_guard lock(tasks_->mutex);
    if (tasks_->leases.empty()) {
      throw StateError("task_done() was called more often than this process got tasks");
    }
    tasks_->leases.front().ack();
    tasks_->leases.pop_front();
  }
  /// Until all that was put is done.
  void join() const { (void)this->core_.join(detail::Deadline::never()); }
  /// False when it is not in time.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> time) const {
    return this->core_.join(detail::Deadline::after(time));
  }

  friend bool operator==(const JoinableQueue& a, const JoinableQueue& b) noexcept {
    return a.handle_ == b.handle_;
  }

 private:
  friend detail::HandleAccess;
  friend detail::WatchAccess;
  using Queue<T>::watch;
  using Queue<T>::handle_;
  using Queue<T>::kLeastBytes;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<JoinableQueue>(detail::ObjectKind::queue);
  explicit JoinableQueue(detail::Handle handle) : Queue<T>(std::move(handle)) {}

  struct Tasks {
    std::mutex mutex;
    std::deque<Lease<T>> leases;
  };
  std::optional<T> got(detail::Deadline deadline) const {
    std::optional<Lease<T>> lease = this->lease_until_deadline(deadline);
    if (!lease) return std::nullopt;
    T value = std::move(lease->value());
    const std::lock_guard lock(tasks_->mutex);
    tasks_->leases.push_back(std::move(*lease));
    return value;
  }

  std::shared_ptr<Tasks> tasks_ = std::make_shared<Tasks>();
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::JoinableQueue<T>> = true;
template <class T>
struct std::hash<brood::JoinableQueue<T>> : brood::detail::HandleHash<brood::JoinableQueue<T>> {};
