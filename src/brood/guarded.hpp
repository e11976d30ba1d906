// Layer: channel
#pragma once

#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <utility>

#include <brood/channel/handle_codec.hpp>
#include <brood/errors.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/committed.hpp>

namespace brood {

namespace detail {

/// Types of which shared memory can hold a value.
template <class T>
constexpr void require_shareable() {
  static_assert(is_bytewise<T>,
                "only values whose bytes can be copied lie in shared memory as they are: numbers, "
                "enums, aggregates and std::arrays of such. For text use std::array<char, N>, for "
                "many numbers brood::Array or brood::SharedArray; whatever else crosses to other "
                "processes by value, as an argument or through a pool");
}

/// A lock that is held, and the value that it guards: a copy of one's own, which takes effect when
/// the lock is released. Dropped, and the value left as it was, by roll_back(), by an exception
/// that leaves its scope, and by the death of its process.
template <class T>
class Edit {
 public:
  Edit(Handle handle, Committed<T>& shared)
      : handle_(std::move(handle)), shared_(&shared), value_(shared.read()) {}
  Edit(Edit&& other) noexcept
      : handle_(std::move(other.handle_)),
        shared_(std::exchange(other.shared_, nullptr)),
        value_(other.value_) {}
  Edit(const Edit&) = delete;
  Edit& operator=(const Edit&) = delete;
  Edit& operator=(Edit&&) = delete;
  ~Edit() {
    if (shared_ == nullptr) return;
    if (std::uncaught_exceptions() == exceptions_) shared_->write(value_);
    shared_->lock.unlock();
  }

  [[nodiscard]] T& operator*() { return value_; }
  [[nodiscard]] T* operator->() { return &value_; }
  /// The value is again what it was when the lock was taken.
  void roll_back() { value_ = shared_->read(); }
  /// The last one to hold the lock died with it; what it had changed was dropped.
  [[nodiscard]] bool owner_died() const { return shared_->lock.owner_died(); }

 private:
  Handle handle_;  // keeps it there
  Committed<T>* shared_;
  T value_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace detail

/// A value that is reached only through its lock, and never half changed.
///
///     struct Account { long balance; long bookings; };
///     brood::Guarded<Account> account(Account{100, 0});
///     {
///       auto a = account.lock();
///       a->balance -= 30;
///       a->bookings += 1;
///     }                        // both take effect here
///     long now = account.get().balance;
///
/// A handle: copies refer to the same value, in this process and in others, to which they cross as
/// arguments, in containers and through pools. Who may use it: any process of the family that has a
/// handle, from any thread. The value lies in the family's shared memory and is gone with the last
/// handle. If a process dies while it holds the lock, the lock is taken over, and the value is what
/// it was at the last unlock. Across fork a handle is one of the child's own; the child does not
/// hold its parent's lock. Memory ordering: unlocking releases to the next one that locks or
/// get()s. T is copied at each lock and unlock: for large data with a part changed at a time see
/// Array and SharedArray. Errors: SharedMemoryFull; StateError for a handle that was moved from, or
/// without a Runtime.
template <class T>
class Guarded {
 public:
  explicit Guarded(const T& value = T())
      : handle_((detail::require_shareable<T>(),
                 detail::Handle::create(kObjectType, sizeof(detail::Committed<T>)))) {
    shared().write(value);
  }

  /// Waits for the lock. Holds it, and the value, until the result is destroyed.
  [[nodiscard]] detail::Edit<T> lock() {
    shared().lock.lock();
    return {handle_, shared()};
  }
  /// Nothing when somebody else holds it.
  [[nodiscard]] std::optional<detail::Edit<T>> try_lock() {
    return lock_until(detail::Deadline::now());
  }
  /// Nothing when `timeout` passed first.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<detail::Edit<T>> try_lock_for(
      std::chrono::duration<Rep, Period> timeout) {
    return lock_until(detail::Deadline::after(timeout));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<detail::Edit<T>> try_lock_until(
      std::chrono::time_point<Clock, Duration> when) {
    return lock_until(detail::Deadline::until(when));
  }

  /// What it was at the last unlock; does not wait for the lock.
  [[nodiscard]] T get() const { return shared().read(); }

  /// Whether both refer to the same value.
  friend bool operator==(const Guarded&, const Guarded&) = default;

 private:
  friend detail::HandleAccess;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<T>(detail::ObjectKind::guarded);
  static constexpr std::size_t kLeastBytes = sizeof(detail::Committed<T>);
  explicit Guarded(detail::Handle handle) : handle_(std::move(handle)) {}

  std::optional<detail::Edit<T>> lock_until(detail::Deadline deadline) {
    if (!shared().lock.try_lock_until(deadline)) return std::nullopt;
    return detail::Edit<T>(handle_, shared());
  }
  [[nodiscard]] detail::Committed<T>& shared() const {
    return *reinterpret_cast<detail::Committed<T>*>(handle_.payload().data());
  }

  detail::Handle handle_;
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::Guarded<T>> = true;
template <class T>
struct std::hash<brood::Guarded<T>> : brood::detail::HandleHash<brood::Guarded<T>> {};
