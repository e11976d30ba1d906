#pragma once

#include <cstdint>

#include <brood/memory/tag.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/environment.hpp>

namespace brood::detail {

/// A flag to wait for, in one word of shared memory: {somebody waits, how often it was set, set}.
///
/// Who may touch it at once: any threads of the family. set() and clear() may be called in a signal
/// handler.
/// Where its bytes live: where it is placed, in memory of the family. Zero bytes are a clear one;
/// it needs no destruction. When somebody dies: killed in set(), the event is set or not, and
/// whoever waits learns it; a
///   waiter's death concerns nobody.
/// Across fork: nothing special.
/// Memory ordering: what was done before set() is visible to who sees it set.
/// Errors: waiting throws what Environment::look throws.
template <class Env = Environment>
class EventWord {
 public:
  [[nodiscard]] bool is_set() const { return (word_.load() & kSet) != 0; }

  /// All who wait are let go, even if it is cleared at once.
  void set() {
    std::uint32_t old = word_.load();
    for (;;) {
      if ((old & kSet) != 0) return;
      // The commit. The mark goes: all are woken.
      const std::uint32_t next = ((old + kOnce) & ~kWaiters) | kSet;
      if (word_.compare_exchange_weak(old, next)) break;
    }
    if ((old & kWaiters) != 0) Env::wake_all(word_);
  }
  void clear() {
    std::uint32_t old = word_.load();
    while ((old & kSet) != 0 && !word_.compare_exchange_weak(old, old & ~kSet)) continue;
  }

  void wait() { static_cast<void>(wait_until(Deadline::never())); }
  /// True as soon as it is set, or was since this began; false when the deadline passed first.
  bool wait_until(Deadline deadline) {
    std::uint32_t old = word_.load();
    const std::uint32_t times = old & kTimes;
    for (;;) {
      const typename Env::Glance glance = Env::look();
      old = word_.load();
      if ((old & kSet) != 0 || (old & kTimes) != times) return true;
      if (Env::passed(deadline)) return false;
      if ((old & kWaiters) == 0) {
        if (!word_.compare_exchange_strong(old, old | kWaiters)) continue;
        old |= kWaiters;
      }
      Env::sleep(glance, word_, old, Tag(), deadline);
    }
  }

 private:
  static constexpr std::uint32_t kSet = 1;
  static constexpr std::uint32_t kOnce = 2;
  static constexpr std::uint32_t kWaiters = 1U << 31U;
  static constexpr std::uint32_t kTimes = ~(kSet | kWaiters);

  typename Env::Word word_{0};
};

}  // namespace brood::detail
