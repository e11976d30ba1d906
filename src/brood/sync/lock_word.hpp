#pragma once

#include <cstdint>

#include <brood/errors.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/environment.hpp>

namespace brood::detail {

/// A lock in one word of shared memory, {somebody waits, owner died, passing, sharing, tag of the
/// holder}.
///
/// Who may touch it at once: any threads of the family. Not recursive.
/// Where its bytes live: where it is placed, in memory of the family. Zero bytes are an unlocked
///   one; it needs no destruction.
/// When the holder dies: the next to ask has it, and `owner_died()` says so until it unlocks: what
///   the lock guards may be half changed. A holder that is stopped keeps it. When a waiter dies,
///   nobody notices.
/// Across fork: the child is another participant and holds nothing.
/// Memory ordering: unlocking releases to whoever locks next; so does a holder's death.
/// Errors: StateError when it is unlocked and nobody holds it; what Environment::self throws.
///
///     lock.lock();
///     if (lock.owner_died()) repair();
///     ...
///     lock.unlock();
///
/// Any thread may unlock it, as in Python. The algorithm and its kill windows: docs/design/sync.md.
template <class Env = Environment>
class LockWord {
 public:
  void lock() { static_cast<void>(try_lock_until(Deadline::never())); }

  /// False when somebody else holds it.
  bool try_lock() { return try_lock_until(Deadline::now()); }

  /// False when the deadline passed first.
  bool try_lock_until(Deadline deadline) {
    std::uint32_t free = 0;
    const std::uint32_t me = Env::self().bits();
    if (word_.compare_exchange_strong(free, me)) [[likely]]
      return true;
    return lock_slowly(me, deadline);
  }

  void unlock() {
    std::uint32_t mine = Env::self().bits();
    // Release: pairs with the compare-and-swaps that lock. The failure says nothing.
    if (word_.compare_exchange_strong(mine, 0, std::memory_order_release,
                                      std::memory_order_relaxed)) [[likely]] {
      return;
    }
    unlock_slowly(0);
  }

  /// Somebody holds it who lives.
  [[nodiscard]] bool locked() const {
    const Tag tag = holder();
    return !tag.none() && !Env::dead(tag);
  }
  /// The present hold was taken over from one who died with it.
  [[nodiscard]] bool owner_died() const { return (word_.load() & kOwnerDied) != 0; }
  /// Who holds it, dead or alive; nobody: none().
  [[nodiscard]] Tag holder() const { return Tag::from_bits(word_.load()); }
  [[nodiscard]] bool held_by_self() const { return holder() == Env::self(); }

 private:
  template <class, std::uint32_t, std::uint32_t>
  friend class SharedLockWord;

  static constexpr std::uint32_t kWaiters = 1U << 31U;
  static constexpr std::uint32_t kOwnerDied = 1U << 30U;
  /// The holder changes nothing that is guarded: its death is no owner's death. See SharedLockWord.
  static constexpr std::uint32_t kPassing = 1U << 29U;
  /// It passes to share the lock with others.
  static constexpr std::uint32_t kSharing = 1U << 28U;
  static_assert(Tag::kBits <= 28);

  bool lock_slowly(std::uint32_t me, Deadline deadline);
  void unlock_slowly(std::uint32_t keep);

  /// `me` in the place of the dead holder of `old`, or of nobody. That the owner died is lost only
  /// when somebody unlocks.
  static std::uint32_t taken(std::uint32_t old, std::uint32_t me) {
    std::uint32_t next = me | (old & (kWaiters | kOwnerDied));
    if (!Tag::from_bits(old).none() && (old & kPassing) == 0) next |= kOwnerDied;
    return next;
  }

  typename Env::Word word_{0};
};

template <class Env>
bool LockWord<Env>::lock_slowly(std::uint32_t me, Deadline deadline) {
  // A short hold is over before a sleep would have begun.
  for (int left = Env::passed(deadline) ? 0 : Env::spins(); left > 0; --left) {
    std::uint32_t old =
        word_.load(std::memory_order_relaxed);  // only to see whether it is worth it
    if (Tag::from_bits(old).none() && word_.compare_exchange_weak(old, taken(old, me))) return true;
    Env::relax();
  }
  bool slept = false;
  for (;;) {
    const typename Env::Glance glance = Env::look();
    std::uint32_t old = word_.load();
    const Tag holder = Tag::from_bits(old);
    if (holder.none()) {
      // SUBTLE: who has slept says that others may sleep still. One who unlocked may have taken the
      // mark away on the grounds of a wake-up that found nobody, long ago.
      const std::uint32_t next = taken(old, me) | (slept ? kWaiters : 0);
      if (word_.compare_exchange_strong(old, next)) return true;
      continue;
    }
    if (Env::dead(holder)) {
      // Announced before it is taken over: killed in between, nobody sleeps on one who is dead.
      if ((old & kWaiters) != 0) Env::announce();
      const std::uint32_t next = taken(old, me) | (slept ? kWaiters : 0);
      if (word_.compare_exchange_strong(old, next)) return true;
      continue;
    }
    if (!slept && Env::passed(deadline)) return false;
    // SUBTLE: the mark is set also by who has slept and gives up: the wake-up that it was given
    // may have been the only one.
    if ((old & kWaiters) == 0) {
      if (!word_.compare_exchange_strong(old, old | kWaiters)) continue;
      old |= kWaiters;
    }
    if (Env::passed(deadline)) return false;
    Env::sleep(glance, word_, old, holder, deadline);
    slept = true;
  }
}

template <class Env>
void LockWord<Env>::unlock_slowly(std::uint32_t keep) {
  std::uint32_t old = word_.load();
  std::uint32_t next = 0;
  do {
    if (Tag::from_bits(old).none()) throw StateError("this lock is not locked: nobody holds it");
    next = old & (kWaiters | keep);
  } while (!word_.compare_exchange_weak(old, next));
  if ((next & kWaiters) == 0 || Env::wake(word_, 1) != 0) return;
  // Nobody slept. If the word has not changed since, the mark can go.
  word_.compare_exchange_strong(next, next & ~kWaiters);
}

}  // namespace brood::detail
