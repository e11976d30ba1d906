// Layer: channel
// Mutual exclusion between processes that survives its holders.
#pragma once

#include <chrono>
#include <functional>
#include <utility>

#include <brood/channel/handle_codec.hpp>
#include <brood/sync/lock_word.hpp>
#include <brood/sync/rlock_word.hpp>

namespace brood {

namespace detail {

/// What Lock and RLock have in common: a handle to a Word with the interface of LockWord. A
/// Lockable of the standard library, TimedLockable included.
template <class Word, ObjectKind Kind>
class LockHandle {
 public:
  LockHandle() : handle_(Handle::create(kObjectType, kLeastBytes)) {}

  void lock() { word().lock(); }
  /// False when somebody else holds it.
  [[nodiscard]] bool try_lock() { return word().try_lock(); }
  /// False when it was not to be had in time.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> time) {
    return word().try_lock_until(Deadline::after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    return word().try_lock_until(Deadline::until(when));
  }
  void unlock() { word().unlock(); }

  /// A process that lives holds it.
  [[nodiscard]] bool locked() const { return word().locked(); }
  /// The present hold was taken over from a holder that died: what the lock guards may be half
  /// changed. False again once it is unlocked.
  [[nodiscard]] bool owner_died() const { return word().owner_died(); }

  /// Whether both are the same lock.
  friend bool operator==(const LockHandle&, const LockHandle&) = default;

 protected:
  explicit LockHandle(Handle handle) : handle_(std::move(handle)) {}

  static constexpr ObjectType kObjectType = object_type<Word>(Kind);
  static constexpr std::size_t kLeastBytes = sizeof(Word);
  [[nodiscard]] Word& word() const { return *reinterpret_cast<Word*>(handle_.payload().data()); }

  Handle handle_;
};

}  // namespace detail

/// A mutual exclusion lock between processes, whose holder may be killed.
///
///     brood::Lock lock;
///     {
///       std::scoped_lock guard(lock);
///       if (lock.owner_died()) repair();       // the last holder was killed in here
///       ...
///     }
///     if (lock.try_lock_for(100ms)) lock.unlock();
///
/// A handle: copies are the same lock, and it travels as an argument, in a message, in a container.
/// At once: any process of the family, any thread; not recursive: who locks it twice waits for
///   ever, or until its deadline. As in Python any thread may unlock it, not the holder only.
/// Bytes: one word in the family's shared memory, gone with the last handle.
/// Death: a holder's lock is taken over by whoever asks next, within a millisecond, and
/// owner_died()
///   says so. The holder is a thread: it counts as dead when the thread ends. A stopped holder
///   keeps the lock. A waiter's death concerns nobody.
/// Across fork: the child holds nothing that its parent holds.
/// Memory ordering: what was done before unlock(), or before the holder's death, is visible to who
///   locks it next.
/// Errors: SharedMemoryFull from the constructor; StateError from unlock() when nobody holds it,
///   and for a handle that was moved from. owner_died() is not an error.
class Lock : public detail::LockHandle<detail::LockWord<>, detail::ObjectKind::lock> {
 public:
  Lock() = default;

 private:
  friend detail::HandleAccess;
  using LockHandle::LockHandle;
};

/// A Lock that its holder, a thread, may lock again; it is free when it was unlocked as often.
///
///     void visit(brood::RLock lock, Tree tree) {
///       std::scoped_lock guard(lock);
///       for (const Tree& child : tree.children) visit(lock, child);
///     }
///
/// All that Lock says holds, except: only the holder may unlock it (StateError). Who takes it over
/// from the dead holds it once.
class RLock : public detail::LockHandle<detail::RLockWord<>, detail::ObjectKind::rlock> {
 public:
  RLock() = default;

 private:
  friend detail::HandleAccess;
  using LockHandle::LockHandle;
};

}  // namespace brood

template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::Lock> = true;
template <>
struct std::hash<brood::Lock> : brood::detail::HandleHash<brood::Lock> {};
template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::RLock> = true;
template <>
struct std::hash<brood::RLock> : brood::detail::HandleHash<brood::RLock> {};
