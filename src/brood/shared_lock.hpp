// Layer: channel
// Many may look, one may change.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <utility>

#include <brood/channel/handle_codec.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/shared_lock_word.hpp>

namespace brood {

/// A lock between processes that many may share, or one have alone, and whose holders may be
/// killed. It is what the standard library calls a SharedTimedLockable.
///
///     brood::SharedLock lock;
///     {
///       std::shared_lock guard(lock);        // beside others who look
///       ...
///     }
///     {
///       std::unique_lock guard(lock);        // alone
///       if (lock.owner_died()) repair();     // the last one to change it was killed meanwhile
///       ...
///     }
///
/// A handle: copies are the same lock, and it travels as an argument, in a message, in a container.
/// At once: any process of the family, any thread. Who comes to share it while somebody waits to
///   have it alone waits behind that one, so readers do not keep writers out. A thread that has a
///   share may take further ones at any time, and gives as many back. Only the thread that locked
///   may unlock.
/// Bytes: 16 KiB and 64, in the family's shared memory, gone with the last handle. Readers write to
///   a cell of their own each, so they do not slow each other down.
/// Death: a share of the dead is gone. If one dies that had it alone, the next have it within a
///   millisecond, and owner_died() says so to all of them, until one has had it alone and unlocked
///   it. The holder is a thread: it counts as dead when the thread ends. A stopped holder keeps
///   what it has. A waiter's death concerns nobody.
/// Across fork: the child holds nothing that its parent holds.
/// Memory ordering: what was done before an unlock, or before the holder's death, is visible to who
///   locks next.
/// Errors: SharedMemoryFull from the constructor; StateError when a thread unlocks what it does not
///   hold, when it would wait for itself (it has a share and wants the lock alone, or has it alone
///   and locks again), for 65536 shares of one thread, and for a handle that was moved from.
///   owner_died() is not an error.
class SharedLock {
 public:
  SharedLock() : handle_(detail::Handle::create(kObjectType, kLeastBytes)) {}

  /// Alone.
  void lock() { word().lock(); }
  /// False when somebody has it, or a share of it.
  [[nodiscard]] bool try_lock() { return word().try_lock(); }
  /// False when it was not to be had in time.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> time) {
    return word().try_lock_until(detail::Deadline::after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> when) {
    return word().try_lock_until(detail::Deadline::until(when));
  }
  void unlock() { word().unlock(); }

  /// Shared with others.
  void lock_shared() { word().lock_shared(); }
  /// False when somebody has it alone, or waits to.
  [[nodiscard]] bool try_lock_shared() { return word().try_lock_shared(); }
  /// False when it was not to be had in time.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(std::chrono::duration<Rep, Period> time) {
    return word().try_lock_shared_until(detail::Deadline::after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_shared_until(std::chrono::time_point<Clock, Duration> when) {
    return word().try_lock_shared_until(detail::Deadline::until(when));
  }
  void unlock_shared() { word().unlock_shared(); }

  /// A thread that lives has it alone.
  [[nodiscard]] bool locked() const { return word().locked(); }
  /// How many threads that live have shares at this moment.
  [[nodiscard]] int readers() const { return static_cast<int>(word().readers()); }
  /// The last one that had it alone died with it, so what it guards may be half changed. False
  /// again once somebody has had it alone and unlocked it.
  [[nodiscard]] bool owner_died() const { return word().owner_died(); }

  /// Whether both are the same lock.
  friend bool operator==(const SharedLock&, const SharedLock&) = default;

 private:
  friend detail::HandleAccess;
  using Word = detail::SharedLockWord<>;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<Word>(detail::ObjectKind::shared_lock);
  static constexpr std::size_t kLeastBytes = sizeof(Word);
  explicit SharedLock(detail::Handle handle) : handle_(std::move(handle)) {}
  [[nodiscard]] Word& word() const { return *reinterpret_cast<Word*>(handle_.payload().data()); }

  detail::Handle handle_;
};

}  // namespace brood

template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::SharedLock> = true;
template <>
struct std::hash<brood::SharedLock> : brood::detail::HandleHash<brood::SharedLock> {};
