// Layer: channel
#pragma once

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include <brood/guarded.hpp>

namespace brood {

namespace detail {

/// Types that the processor changes in one step.
template <class T>
inline constexpr bool kIsAtomic = [] {
  if constexpr (std::is_trivially_copyable_v<T> &&
                (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8)) {
    return std::atomic_ref<T>::is_always_lock_free && std::atomic_ref<T>::required_alignment <= 8;
  } else {
    return false;
  }
}();

/// A value that the processor changes in one step, and its lock.
template <class T>
struct AtomicCell {
  LockWord<> lock;
  std::uint32_t reserved;
  alignas(8) T value;

  [[nodiscard]] std::atomic_ref<T> ref() { return std::atomic_ref<T>(value); }
  [[nodiscard]] T read() { return ref().load(); }
  void write(const T& next) { ref().store(next); }
};

template <class T>
using ValueCell = std::conditional_t<kIsAtomic<T>, AtomicCell<T>, Committed<T>>;

/// The lock of a value that is held, and a copy of the value, which is written back when the lock
/// is released, if it was changed. The Value must outlive it, as a mutex its lock.
template <class T>
class ValueEdit {
 public:
  explicit ValueEdit(ValueCell<T>& cell) : cell_(&cell), before_(cell.read()), value_(before_) {}
  ValueEdit(const ValueEdit&) = delete;
  ValueEdit& operator=(const ValueEdit&) = delete;
  ~ValueEdit() {
    // What others did without the lock meanwhile stays when this one has only looked.
    const bool changed = std::memcmp(&before_, &value_, sizeof(T)) != 0;
    if (changed && std::uncaught_exceptions() == exceptions_) cell_->write(value_);
    cell_->lock.unlock();
  }
  [[nodiscard]] T& operator*() { return value_; }
  [[nodiscard]] T* operator->() { return &value_; }
  [[nodiscard]] bool owner_died() const { return cell_->lock.owner_died(); }

 private:
  ValueCell<T>* cell_;
  T before_;
  T value_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace detail

/// One value that processes share.
///
///     brood::Value<int> hits(0);
///     hits.fetch_add(1);                       // one step, no lock
///     { auto m = most.lock(); if (now > *m) *m = now; }
///
/// A handle: copies refer to the same value, in this process and in others, to which they cross as
/// arguments, in containers and through pools. Who may use it: any process of the family that has a
/// handle, from any thread. The value lies in the family's shared memory and is gone with the last
/// handle. get() and set() are never torn, whatever T is, also when a writer dies. If a process
/// dies while it holds the lock, the lock is taken over, and the value is what it was before.
/// Across fork a handle is one of the child's own. Memory ordering: all calls are sequentially
/// consistent where T is a number of up to 8 bytes; otherwise what was done before set() is visible
/// to who get()s it. Errors: SharedMemoryFull; StateError for a handle that was moved from, or
/// without a Runtime.
template <class T>
class Value {
  static constexpr bool kIsAtomic = detail::kIsAtomic<T>;
  static constexpr bool kAdds = kIsAtomic && std::is_arithmetic_v<T> && !std::same_as<T, bool>;
  static constexpr bool kHasBits = kAdds && std::integral<T>;

 public:
  explicit Value(const T& value = T())
      : handle_(
            (detail::require_shareable<T>(), detail::Handle::create(kObjectType, kLeastBytes))) {
    cell().write(value);
  }

  [[nodiscard]] T get() const { return cell().read(); }
  void set(const T& value) {
    if constexpr (kIsAtomic) {
      cell().write(value);
    } else {
      cell().lock.lock();
      cell().write(value);
      cell().lock.unlock();
    }
  }

  /// Waits for the value's lock. Holds it until the result is destroyed, and then writes back what
  /// was changed through it, unless an exception leaves the scope.
  [[nodiscard]] detail::ValueEdit<T> lock() {
    cell().lock.lock();
    return detail::ValueEdit<T>(cell());
  }
  /// Nothing when somebody else holds it.
  [[nodiscard]] std::optional<detail::ValueEdit<T>> try_lock() {
    return lock_until(detail::Deadline::now());
  }
  /// Nothing when the time passed first.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<detail::ValueEdit<T>> try_lock_for(
      std::chrono::duration<Rep, Period> timeout) {
    return lock_until(detail::Deadline::after(timeout));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<detail::ValueEdit<T>> try_lock_until(
      std::chrono::time_point<Clock, Duration> when) {
    return lock_until(detail::Deadline::until(when));
  }

  /// Each in one step, without the lock; they return what was there before.
  T fetch_add(T by)
    requires kAdds
  {
    return cell().ref().fetch_add(by);
  }
  T fetch_sub(T by)
    requires kAdds
  {
    return cell().ref().fetch_sub(by);
  }
  T fetch_and(T bits)
    requires kHasBits
  {
    return cell().ref().fetch_and(bits);
  }
  T fetch_or(T bits)
    requires kHasBits
  {
    return cell().ref().fetch_or(bits);
  }
  T fetch_xor(T bits)
    requires kHasBits
  {
    return cell().ref().fetch_xor(bits);
  }
  T exchange(T value)
    requires kIsAtomic
  {
    return cell().ref().exchange(value);
  }
  /// Sets it to `next` if it is `expected`, otherwise `expected` to what it is.
  bool compare_exchange_strong(T& expected, T next)
    requires kIsAtomic
  {
    return cell().ref().compare_exchange_strong(expected, next);
  }
  bool compare_exchange_weak(T& expected, T next)
    requires kIsAtomic
  {
    return cell().ref().compare_exchange_weak(expected, next);
  }

  /// Whether both refer to the same value; to compare values use get().
  friend bool operator==(const Value&, const Value&) = default;

 private:
  friend detail::HandleAccess;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<T>(detail::ObjectKind::value);
  static constexpr std::size_t kLeastBytes = sizeof(detail::ValueCell<T>);
  explicit Value(detail::Handle handle) : handle_(std::move(handle)) {}

  std::optional<detail::ValueEdit<T>> lock_until(detail::Deadline deadline) {
    using Result = std::optional<detail::ValueEdit<T>>;
    return cell().lock.try_lock_until(deadline) ? Result(std::in_place, cell()) : Result();
  }
  [[nodiscard]] detail::ValueCell<T>& cell() const {
    return *reinterpret_cast<detail::ValueCell<T>*>(handle_.payload().data());
  }

  detail::Handle handle_;
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::Value<T>> = true;
template <class T>
struct std::hash<brood::Value<T>> : brood::detail::HandleHash<brood::Value<T>> {};
