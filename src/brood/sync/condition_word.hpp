#pragma once

#include <cstdint>
#include <exception>
#include <limits>

#include <brood/errors.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/environment.hpp>
#include <brood/sync/lock_word.hpp>
#include <brood/sync/rlock_word.hpp>

namespace brood::detail {

/// A condition to wait for under a lock, in one word of shared memory: {somebody waits, how often
/// it was notified}.
///
/// Who may touch it at once: any threads of the family, always with the same lock, which they hold
///   when they wait and when they notify, as in Python.
/// Where its bytes live: where it is placed, in memory of the family. Zero bytes are one for which
///   nobody waits; it needs no destruction.
/// When somebody dies: all who wait wake up, as the dead may have had a wake-up in hand, or have
///   changed the state and notified nobody. So a wait may end without a notification (also when a
///   process is born): ask again.
/// Across fork: nothing special.
/// Memory ordering: the lock's.
/// Errors: StateError when the caller does not hold the lock; what Environment::look throws, with
///   the lock held.
///
///     lock.lock();
///     while (!ready()) condition.wait(lock);
///     ...                                      // and lock.owner_died() as after any locking
///     lock.unlock();
///
/// The algorithm and its kill windows: docs/design/sync.md.
template <class Env = Environment>
class ConditionWord {
 public:
  /// Unlocks, sleeps and locks again; of an RLockWord all of its depth.
  template <class Lock>
  void wait(Lock& lock) {
    static_cast<void>(wait_until(lock, Deadline::never()));
  }
  /// False when the deadline passed without a notification. The lock is taken again without a
  /// deadline.
  template <class Lock>
  bool wait_until(Lock& lock, Deadline deadline);
  /// Until `ready()`, which is called with the lock held; what it said last.
  template <class Lock, class Ready>
  bool wait_until(Lock& lock, Deadline deadline, Ready ready) {
    while (!ready()) {
      if (!wait_until(lock, deadline)) return ready();
    }
    return true;
  }

  /// Lets up to `count` of those who wait go on; now and then more.
  template <class Lock>
  void notify(Lock& lock, std::uint32_t count = 1);
  template <class Lock>
  void notify_all(Lock& lock) {
    notify(lock, std::numeric_limits<int>::max());
  }

 private:
  static constexpr std::uint32_t kWaiters = 1U << 31U;

  template <class Lock>
  static void check_held(const Lock& lock) {
    if (!lock.held_by_self()) {
      throw StateError("this thread does not hold the lock of the condition that it uses");
    }
  }
  static std::uint32_t release(LockWord<Env>& lock) {
    lock.unlock();
    return 0;
  }
  static std::uint32_t release(RLockWord<Env>& lock) { return lock.unlock_all(); }
  static void take(LockWord<Env>& lock, std::uint32_t) { lock.lock(); }
  static void take(RLockWord<Env>& lock, std::uint32_t depth) { lock.lock_again(depth); }
  static std::uint32_t next(std::uint32_t word) { return (word + 1) & ~kWaiters; }

  typename Env::Word word_{0};
};

template <class Env>
template <class Lock>
bool ConditionWord<Env>::wait_until(Lock& lock, Deadline deadline) {
  check_held(lock);
  // SUBTLE: both are read, and the mark is set, before the lock is given away: whoever changes the
  // state after that changes the word too, or dies, so that the sleep does not begin.
  const typename Env::Glance glance = Env::look();
  std::uint32_t word = word_.load();
  while ((word & kWaiters) == 0 && !word_.compare_exchange_weak(word, word | kWaiters)) continue;
  word |= kWaiters;
  const std::uint32_t depth = release(lock);
  bool notified = false;
  std::exception_ptr failure;
  try {
    for (;;) {
      Env::sleep(glance, word_, word, Tag(), deadline);
      // SUBTLE: a death since counts as a notification, which it may have swallowed. The deadline
      // is looked at last: who was woken finds the word changed, late or not.
      notified = word_.load() != word || Env::may_have_died(glance);
      if (notified || Env::passed(deadline)) break;
    }
  } catch (...) {
    failure = std::current_exception();
  }
  take(lock, depth);
  if (failure) std::rethrow_exception(failure);
  return notified;
}

template <class Env>
template <class Lock>
void ConditionWord<Env>::notify(Lock& lock, std::uint32_t count) {
  // SUBTLE: with the lock nobody begins to wait between the commit and the wake-up, who would take
  // it away from one who has waited before.
  check_held(lock);
  if (count == 0) return;
  constexpr std::uint32_t kMost = std::numeric_limits<int>::max();
  const int most = static_cast<int>(count < kMost ? count : kMost);
  std::uint32_t old = word_.load();
  std::uint32_t word = 0;
  do {
    if ((old & kWaiters) == 0) return;
    word = next(old) | kWaiters;  // the commit: who is about to sleep does not
  } while (!word_.compare_exchange_weak(old, word));
  if (Env::wake(word_, most) == most) return;
  // Fewer slept, so nobody waits: who had not slept yet does not, as the word has changed. Who
  // begins to wait marks it again.
  word_.compare_exchange_strong(word, word & ~kWaiters);
}

}  // namespace brood::detail
