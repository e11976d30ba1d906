#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/environment.hpp>

namespace brood::detail {

/// What becomes of permits whose holders die.
enum class DeadPermits : std::uint32_t {
  kReturn = 0,  ///< others may have them
  kStay = 1,    ///< nobody holds a permit, it is only counted: for signals
};

/// A semaphore of permit cells, each one word: absent, free, or held by whom.
///
/// Who may touch it at once: any threads of the family.
/// Where its bytes live: `bytes_needed(capacity)` of them, in memory of the family, made by
///   format(); it needs no destruction.
/// When a holder dies: its permits are free again, exactly, unless kStay. A waiter's death loses no
///   wake-up.
/// Across fork: the child holds nothing.
/// Memory ordering: what was done before release() is visible to who acquires the permit.
/// Errors: StateError when more is released than `capacity` permits; what Environment::self throws.
///
/// A release gives back a permit of the caller's own; who holds none adds one that is absent, or
/// gives back one of somebody else's. So a permit may be released by another than who acquired it.
/// docs/design/sync.md has the algorithm and its kill windows.
template <class Env = Environment>
class SemaphoreWord {
 public:
  static constexpr std::size_t bytes_needed(std::uint32_t capacity) {
    return sizeof(SemaphoreWord) + std::size_t{capacity} * sizeof(Word);
  }
  /// A semaphore with `initial` free permits, at most `capacity` at any time. A bounded one has a
  /// capacity of `initial`. `memory` is as large as bytes_needed() says.
  static SemaphoreWord* format(void* memory, std::uint32_t initial, std::uint32_t capacity,
                               DeadPermits dead) {
    if (capacity == 0 || initial > capacity) {
      throw StateError(
          fmt::format("a semaphore of {} permits, of which {} are free", capacity, initial));
    }
    auto* semaphore = new (memory) SemaphoreWord(capacity, dead);
    for (std::uint32_t i = 0; i != capacity; ++i) {
      new (semaphore->cells() + i) Word(i < initial ? kFree : kAbsent);
    }
    semaphore->present_.store(initial);
    return semaphore;
  }

  void acquire() { static_cast<void>(try_acquire_until(Deadline::never())); }
  /// False when there is none; now and then also when one moved from holder to holder meanwhile.
  bool try_acquire() { return try_acquire_until(Deadline::now()); }
  bool try_acquire_until(Deadline deadline) {
    const std::uint32_t me = Env::self().bits();
    return take_free(me) || acquire_slowly(me, deadline);
  }

  void release() {
    const std::uint32_t me = Env::self().bits();
    if (!give_back(me)) add();
    // seq_cst, like the compare-and-swaps of cells: see acquire_slowly().
    const std::uint32_t signal = signal_.load();
    if ((signal & kWaiters) != 0) wake();
  }

  /// How many could be acquired now.
  [[nodiscard]] std::uint32_t value() const {
    std::uint32_t count = 0;
    const std::uint32_t present = bound();
    for (std::uint32_t i = 0; i != present; ++i) {
      if (is_open(cells()[i].load())) ++count;
    }
    return count;
  }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }

 private:
  using Word = typename Env::Word;
  static constexpr std::uint32_t kAbsent = 0;
  static constexpr std::uint32_t kFree = 1U << Tag::kBits;
  static constexpr std::uint32_t kWaiters = 1U << 31U;  // of signal_; the rest of it counts

  SemaphoreWord(std::uint32_t capacity, DeadPermits dead) : capacity_(capacity), dead_(dead) {}

  [[nodiscard]] Word* cells() const {
    return reinterpret_cast<Word*>(const_cast<SemaphoreWord*>(this) + 1);
  }
  /// No cell from there on was ever present. Checked: it is bytes of others.
  [[nodiscard]] std::uint32_t bound() const { return std::min(present_.load(), capacity_); }
  /// What a cell holds while a permit is out.
  [[nodiscard]] std::uint32_t held(std::uint32_t me) const {
    return dead_ == DeadPermits::kReturn ? me : kAbsent;
  }
  static bool is_held(std::uint32_t cell) { return (cell & kFree) == 0 && cell != kAbsent; }
  static bool is_open(std::uint32_t cell) {
    return cell == kFree || (is_held(cell) && Env::dead(Tag::from_bits(cell)));
  }
  /// Where to begin: all at one line where there is one only, spread where there are more.
  static std::uint32_t home(std::uint32_t me, std::uint32_t count) {
    return count <= 16 ? 0 : Tag::from_bits(me).slot() % count;
  }

  bool take_free(std::uint32_t me) {
    const std::uint32_t count = bound();
    std::uint32_t i = home(me, count);
    for (std::uint32_t left = count; left != 0; --left) {
      // Relaxed: only to see whether it is worth it.
      std::uint32_t cell = cells()[i].load(std::memory_order_relaxed);
      if (cell == kFree && cells()[i].compare_exchange_strong(cell, held(me))) return true;
      if (++i == count) i = 0;
    }
    return false;
  }
  bool give_back(std::uint32_t me) {
    if (dead_ != DeadPermits::kReturn) return false;
    const std::uint32_t count = bound();
    std::uint32_t i = home(me, count);
    for (std::uint32_t left = count; left != 0; --left) {
      // Relaxed: what says `me` was written by this thread, and may be taken by another's release.
      std::uint32_t cell = cells()[i].load(std::memory_order_relaxed);
      if (cell == me && cells()[i].compare_exchange_strong(cell, kFree)) return true;
      if (++i == count) i = 0;
    }
    return false;
  }
  void add();
  void wake();
  bool acquire_slowly(std::uint32_t me, Deadline deadline);

  std::uint32_t capacity_;  // constant
  DeadPermits dead_;        // constant
  Word present_{0};         // only grows
  Word signal_{0};
};

template <class Env>
void SemaphoreWord<Env>::add() {
  for (std::uint32_t i = 0; i != capacity_; ++i) {
    std::uint32_t cell = cells()[i].load();
    if (cell != kAbsent) continue;
    // The bound first: killed in between, it is too large, which harms nothing.
    for (std::uint32_t present = present_.load(); present <= i;) {
      if (present_.compare_exchange_weak(present, i + 1)) break;
    }
    if (cells()[i].compare_exchange_strong(cell, kFree)) return;
  }
  for (std::uint32_t i = 0; i != capacity_; ++i) {
    std::uint32_t cell = cells()[i].load();
    if (is_held(cell) && !is_open(cell) && cells()[i].compare_exchange_strong(cell, kFree)) return;
  }
  throw StateError(fmt::format(
      "this semaphore has {} permits, all of them free: there is none to release", capacity_));
}

// SUBTLE: the mark goes together with a change of the word, so who is about to sleep on the old one
// does not; and who fell asleep between the wake-up that found nobody and this is woken.
template <class Env>
void SemaphoreWord<Env>::wake() {
  // Before waking: who has looked at the cells and is about to sleep looks again.
  std::uint32_t old = signal_.load();
  std::uint32_t signal = 0;
  do {
    if ((old & kWaiters) == 0) return;  // somebody has woken all since
    signal = (old + 1) | kWaiters;
  } while (!signal_.compare_exchange_weak(old, signal));
  if (Env::wake(signal_, 1) != 0) return;
  const std::uint32_t calm = (signal + 1) & ~kWaiters;
  if (signal_.compare_exchange_strong(signal, calm)) Env::wake_all(signal_);
}

template <class Env>
bool SemaphoreWord<Env>::acquire_slowly(std::uint32_t me, Deadline deadline) {
  for (int left = Env::passed(deadline) ? 0 : Env::spins(); left > 0; --left) {
    if (take_free(me)) return true;
    Env::relax();
  }
  constexpr std::size_t kMostWatched = 100;
  bool slept = false;
  for (;;) {
    const typename Env::Glance glance = Env::look();
    // SUBTLE: marked before the cells are read. Who releases one that was read already sees the
    // mark, as all of this is seq_cst, and changes the word.
    std::uint32_t signal = signal_.load();
    if ((signal & kWaiters) == 0 && (slept || !Env::passed(deadline))) {
      if (!signal_.compare_exchange_strong(signal, signal | kWaiters)) continue;
      signal |= kWaiters;
    }
    std::array<Tag, kMostWatched> holders;
    std::size_t watched = 0;
    const std::uint32_t count = bound();
    std::uint32_t i = home(me, count);
    for (std::uint32_t left = count; left != 0; --left) {
      std::uint32_t cell = cells()[i].load();
      // SUBTLE: until it is not open. Of one that was the dead's and is free now nobody tells: it
      // was given back by who was killed before he could.
      while (is_open(cell)) {
        if (cells()[i].compare_exchange_strong(cell, held(me))) return true;
      }
      if (is_held(cell) && watched != kMostWatched) holders[watched++] = Tag::from_bits(cell);
      if (++i == count) i = 0;
    }
    if (Env::passed(deadline)) return false;
    Env::sleep(glance, signal_, signal, std::span(holders.data(), watched), deadline);
    slept = true;
  }
}

}  // namespace brood::detail
