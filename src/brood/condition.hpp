// Layer: channel
// Waiting, under a lock, until what it guards is as one wants it.
#pragma once

#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <type_traits>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include <brood/channel/handle_codec.hpp>
#include <brood/errors.hpp>
#include <brood/lock.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/condition_word.hpp>

namespace brood {

namespace detail {

template <class L>
concept BasicLockable = requires(L& lock) {
  lock.lock();
  lock.unlock();
};

}  // namespace detail

/// A condition to wait for under a lock, its own RLock or one that it is given. It is a Lockable
/// itself: to lock it is to lock that lock.
///
///     void take(brood::Condition changed, brood::Value<int> stock) {
///       std::scoped_lock guard(changed);
///       changed.wait([&] { return stock.get() > 0; });
///       stock.fetch_sub(1);
///     }
///     void put(brood::Condition changed, brood::Value<int> stock) {
///       std::scoped_lock guard(changed);
///       stock.fetch_add(1);
///       changed.notify_one();
///     }
///
/// or, as std::condition_variable_any is used,
///
///     std::unique_lock<brood::Lock> guard(lock);
///     changed.wait(guard, [&] { return stock.get() > 0; });
///
/// A handle: copies are the same condition with the same lock, and it travels as an argument, in a
///   message, in a container.
/// At once: any process of the family, any thread. Who waits or notifies holds the lock.
/// Bytes: 16, and those of the lock, in the family's shared memory, gone with the last handle.
/// Death: all who wait look again, as the dead may have had the wake-up in hand, or have changed
///   what is waited for and notified nobody. So a wait without a predicate may end without a
///   notification, also when a process is born: ask again, or give the predicate. The lock may have
///   been taken over from one who died with it: owner_died() says so, as for Lock.
/// Across fork: the child holds nothing and waits for nothing.
/// Memory ordering: the lock's.
/// Errors: StateError when the calling thread does not hold the lock, and for a handle that was
///   moved from; ArgumentError for a guard of another lock, and for notifying -1; SharedMemoryFull
///   from the constructor.
class Condition {
 public:
  /// With an RLock of its own, as in Python.
  Condition() : Condition(RLock()) {}
  explicit Condition(RLock lock) : Condition(AnyLock(std::move(lock))) {}
  explicit Condition(Lock lock) : Condition(AnyLock(std::move(lock))) {}

  /// Its lock's.
  void lock() {
    visit([](auto& word) { word.lock(); });
  }
  [[nodiscard]] bool try_lock() {
    return visit([](auto& word) { return word.try_lock(); });
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> time) {
    return visit([&](auto& word) { return word.try_lock_until(detail::Deadline::after(time)); });
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    return try_lock_for(when - Clock::now());
  }
  void unlock() {
    visit([](auto& word) { word.unlock(); });
  }
  [[nodiscard]] bool locked() const {
    return visit([](auto& word) { return word.locked(); });
  }
  [[nodiscard]] bool owner_died() const {
    return visit([](auto& word) { return word.owner_died(); });
  }

  /// Unlocks, waits for a notification, and locks again, an RLock as often as it was.
  void wait() { static_cast<void>(wait_by(detail::Deadline::never())); }
  /// Until `ready()`, which is called with the lock held.
  template <std::predicate Ready>
  void wait(Ready ready) {
    static_cast<void>(wait_by(detail::Deadline::never(), ready));
  }
  /// False when it was not notified in time. To lock again has no deadline.
  template <class Rep, class Period>
  bool wait_for(std::chrono::duration<Rep, Period> time) {
    return wait_by(detail::Deadline::after(time));
  }
  template <class Clock, class Duration>
  bool wait_until(std::chrono::time_point<Clock, Duration> when) {
    return wait_by(detail::Deadline::until(when));
  }
  /// What `ready()` says in the end.
  template <class Rep, class Period, std::predicate Ready>
  bool wait_for(std::chrono::duration<Rep, Period> time, Ready ready) {
    return wait_by(detail::Deadline::after(time), ready);
  }
  template <class Clock, class Duration, std::predicate Ready>
  bool wait_until(std::chrono::time_point<Clock, Duration> when, Ready ready) {
    return wait_by(detail::Deadline::until(when), ready);
  }

  /// As std::condition_variable_any's. `held` is its lock, this condition, or a std::unique_lock of
  /// either, and held.
  template <detail::BasicLockable Held>
  void wait(Held& held) {
    check(held);
    wait();
  }
  template <detail::BasicLockable Held, std::predicate Ready>
  void wait(Held& held, Ready ready) {
    check(held);
    wait(ready);
  }
  template <detail::BasicLockable Held, class Rep, class Period>
  std::cv_status wait_for(Held& held, std::chrono::duration<Rep, Period> time) {
    check(held);
    return wait_for(time) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <detail::BasicLockable Held, class Clock, class Duration>
  std::cv_status wait_until(Held& held, std::chrono::time_point<Clock, Duration> when) {
    check(held);
    return wait_until(when) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <detail::BasicLockable Held, class Rep, class Period, std::predicate Ready>
  bool wait_for(Held& held, std::chrono::duration<Rep, Period> time, Ready ready) {
    check(held);
    return wait_for(time, ready);
  }
  template <detail::BasicLockable Held, class Clock, class Duration, std::predicate Ready>
  bool wait_until(Held& held, std::chrono::time_point<Clock, Duration> when, Ready ready) {
    check(held);
    return wait_until(when, ready);
  }

  /// One who waits goes on, or nobody when nobody waits. Unlike std::condition_variable_any's these
  /// need the lock.
  void notify_one() { notify(1); }
  /// Up to so many.
  void notify(int count) {
    if (count < 0) throw ArgumentError(fmt::format("notifying {}: at least 0", count));
    visit([&](auto& word) { shared().word.notify(word, static_cast<std::uint32_t>(count)); });
  }
  void notify_all() { notify(std::numeric_limits<int>::max()); }

  /// Whether both are the same condition.
  friend bool operator==(const Condition& a, const Condition& b) { return a.handle_ == b.handle_; }

 private:
  friend detail::HandleAccess;
  using AnyLock = std::variant<RLock, Lock>;
  struct Shared {
    detail::ConditionWord<> word;
    std::uint32_t kind;      // which of AnyLock; constant
    detail::ObjectRef lock;  // constant
  };
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<Shared>(detail::ObjectKind::condition);
  static constexpr std::size_t kLeastBytes = sizeof(Shared);

  explicit Condition(AnyLock lock)
      : lock_(std::move(lock)), handle_(detail::Handle::create(kObjectType, kLeastBytes)) {
    shared().kind = static_cast<std::uint32_t>(lock_.index());
    shared().lock = needed().ref();
  }
  explicit Condition(detail::Handle handle)
      : lock_(lock_of(*reinterpret_cast<const Shared*>(handle.payload().data()))),
        handle_(std::move(handle)) {}

  static AnyLock lock_of(const Shared& shared) {
    if (shared.kind == 0) return detail::HandleAccess::adopt<RLock>(shared.lock);
    if (shared.kind == 1) return detail::HandleAccess::adopt<Lock>(shared.lock);
    throw DecodeError("a condition with a lock of no known kind");
  }
  /// For the codec: who can decode this needs the lock too.
  [[nodiscard]] const detail::Handle& needed() const {
    return std::visit([](const auto& lock) -> auto& { return detail::HandleAccess::handle(lock); },
                      lock_);
  }

  template <class Visitor>
  std::invoke_result_t<Visitor, detail::RLockWord<>&> visit(Visitor visitor) const {
    std::byte* bytes = needed().payload().data();
    return lock_.index() == 0 ? visitor(*reinterpret_cast<detail::RLockWord<>*>(bytes))
                              : visitor(*reinterpret_cast<detail::LockWord<>*>(bytes));
  }
  bool wait_by(detail::Deadline deadline) {
    return visit([&](auto& word) { return shared().word.wait_until(word, deadline); });
  }
  template <class Ready>
  bool wait_by(detail::Deadline deadline, Ready& ready) {
    return visit([&](auto& word) {
      return shared().word.wait_until(word, deadline, [&] { return static_cast<bool>(ready()); });
    });
  }

  template <class Held>
  void check(Held& held) const {
    if constexpr (requires { held.owns_lock(); }) {
      if (!held.owns_lock()) {
        throw StateError("waiting for a condition with a guard that does not hold the lock");
      }
      check(*held.mutex());
    } else if constexpr (std::same_as<Held, Condition>) {
      if (held != *this) throw ArgumentError("waiting for a condition with another one's lock");
    } else {
      static_assert(std::same_as<Held, Lock> || std::same_as<Held, RLock>,
                    "a brood::Condition is waited for with the brood::Lock or brood::RLock that it "
                    "was made for: other locks hold in one process only");
      const Held* own = std::get_if<Held>(&lock_);
      if (own == nullptr || !(*own == held)) {
        throw ArgumentError("waiting for a condition with a lock that it was not made for");
      }
    }
  }

  [[nodiscard]] Shared& shared() const {
    return *reinterpret_cast<Shared*>(handle_.payload().data());
  }

  AnyLock lock_;
  detail::Handle handle_;
};

}  // namespace brood

template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::Condition> = true;
template <>
struct std::hash<brood::Condition> : brood::detail::HandleHash<brood::Condition> {};
