#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include <brood/platform/futex.hpp>

namespace brood::detail {

/// The kernel's own word on whether a thread lives (robust futexes, Documentation/locking/
/// robust-futexes.rst).
///
/// A thread locks its LifeMutex when it joins the family and holds it for life; when the thread
/// ends, however it ends, the kernel marks the word and wakes one sleeper on it. So "is it alive?"
/// is one load, exact, and immune to the reuse of process ids. A stopped thread is alive.
///
/// Its bytes live in a page of shared memory that is never used for anything else: the kernel may
/// write the word of a dying thread (glibc bug 14485). It is reused only by another LifeMutex.
/// After fork the child does not hold its parent's mutex: it takes one of its own.
class LifeMutex {
 public:
  /// Locks it for the calling thread. Zero bytes are a fresh one; after a holder's death or release
  /// the next may have it. False when a thread that lives holds it (errno is EBUSY), or when the
  /// system refuses. Of several who try at once, one gets it.
  [[nodiscard]] bool lock_for_life() noexcept;

  /// The holder lets go in order: afterwards the word reads as dead.
  void release() noexcept;

  /// Was locked by a thread that still runs. One load; acquire: what the dead thread did before it
  /// died is visible to who reads `false`.
  [[nodiscard]] bool alive() const noexcept { return is_alive(load()); }

  /// The thread that holds it, by the number that the kernel gave it; 0 when it runs no more.
  [[nodiscard]] int holder() const noexcept {
    const std::uint32_t value = load();
    return is_alive(value) ? static_cast<int>(value & kTidMask) : 0;
  }

  /// To sleep until the holder dies: the word, with the value it holds now.
  [[nodiscard]] FutexWord watch() const noexcept { return {word(), load()}; }

 private:
  static constexpr std::uint32_t kOwnerDied = 0x40000000;  // FUTEX_OWNER_DIED
  static constexpr std::uint32_t kTidMask = 0x3fffffff;    // FUTEX_TID_MASK

  static bool is_alive(std::uint32_t value) noexcept {
    return (value & kOwnerDied) == 0 && (value & kTidMask) != 0;
  }
  [[nodiscard]] std::uint32_t load() const noexcept {
    return word()->load(std::memory_order_acquire);  // pairs with the kernel's exit path
  }
  // The futex word is glibc's first field of a mutex: part of its ABI, as robust lists need it.
  [[nodiscard]] const std::atomic<std::uint32_t>* word() const noexcept {
    return reinterpret_cast<const std::atomic<std::uint32_t>*>(&mutex_.__data.__lock);
  }

  pthread_mutex_t mutex_;
};

}  // namespace brood::detail
