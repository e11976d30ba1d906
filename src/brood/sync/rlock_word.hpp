#pragma once

#include <cstdint>
#include <limits>

#include <brood/errors.hpp>
#include <brood/sync/lock_word.hpp>

namespace brood::detail {

/// A lock that its holder may lock again: a LockWord, and how often, which only the holder writes.
///
/// All that LockWord says holds, except: only the holder, a thread, may unlock it. Who takes it
/// over from the dead holds it once.
/// Errors: StateError when somebody else unlocks it, or when it is locked 2^32 times.
template <class Env = Environment>
class RLockWord {
 public:
  void lock() { static_cast<void>(try_lock_until(Deadline::never())); }
  bool try_lock() { return try_lock_until(Deadline::now()); }
  bool try_lock_until(Deadline deadline) {
    if (word_.held_by_self()) {
      // Relaxed here and below: the holder's own; the lock orders it between holders.
      const std::uint32_t depth = depth_.load(std::memory_order_relaxed);
      if (depth == std::numeric_limits<std::uint32_t>::max()) {
        throw StateError("this lock is locked as often as can be counted");
      }
      depth_.store(depth + 1, std::memory_order_relaxed);
      return true;
    }
    if (!word_.try_lock_until(deadline)) return false;
    depth_.store(1, std::memory_order_relaxed);
    return true;
  }
  void unlock() {
    check_held();
    const std::uint32_t depth = depth_.load(std::memory_order_relaxed);
    if (depth > 1) {
      depth_.store(depth - 1, std::memory_order_relaxed);
    } else {
      word_.unlock();
    }
  }

  /// Unlocks it wholly; how often it was locked, for lock_again().
  std::uint32_t unlock_all() {
    check_held();
    const std::uint32_t depth = depth_.load(std::memory_order_relaxed);
    word_.unlock();
    return depth;
  }
  void lock_again(std::uint32_t depth) {
    word_.lock();
    depth_.store(depth, std::memory_order_relaxed);
  }

  [[nodiscard]] bool locked() const { return word_.locked(); }
  [[nodiscard]] bool owner_died() const { return word_.owner_died(); }
  [[nodiscard]] Tag holder() const { return word_.holder(); }
  [[nodiscard]] bool held_by_self() const { return word_.held_by_self(); }
  /// How often the calling thread has locked it.
  [[nodiscard]] std::uint32_t depth() const {
    return held_by_self() ? depth_.load(std::memory_order_relaxed) : 0;
  }

 private:
  void check_held() const {
    if (!held_by_self()) throw StateError("this thread does not hold the lock that it unlocks");
  }

  LockWord<Env> word_;
  typename Env::Word depth_{0};
};

}  // namespace brood::detail
