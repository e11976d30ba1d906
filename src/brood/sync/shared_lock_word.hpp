#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <brood/errors.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/environment.hpp>
#include <brood/sync/lock_word.hpp>

namespace brood::detail {

/// A lock that many may share, or one have alone: a gate, which is a LockWord, and a cell for each
/// participant that there can be, {generation of its tag, how many shares it has}.
///
/// Who may touch it at once: any threads of the family. Who has a share may take another one, also
///   while somebody waits to have it alone; others wait behind that one.
/// Where its bytes live: where it is placed, in memory of the family. Zero bytes are an unlocked
///   one; it needs no destruction.
/// When somebody dies: its shares are gone. The lock of one who had it alone is free, and
///   `owner_died()` says so to all who have it or share it, until somebody has had it alone and
///   unlocked it: what it guards may be half changed. Whoever is stopped keeps what it has.
/// Across fork: the child is another participant and holds nothing.
/// Memory ordering: unlocking releases to whoever locks next, shared or not; so does a death.
/// Errors: StateError when a thread unlocks what it does not hold, or would wait for itself; what
///   Environment::self throws.
///
///     lock.lock_shared();                    lock.lock();
///     look();                                if (lock.owner_died()) repair();
///     lock.unlock_shared();                  lock.unlock();
///
/// Only a slot's own thread writes to its cell. The algorithm and its kill windows:
/// docs/design/sync.md.
template <class Env = Environment, std::uint32_t Slots = Tag::kSlots,
          std::uint32_t SlotsOfLine = 16>
class SharedLockWord {
  static_assert(Slots % SlotsOfLine == 0);

 public:
  void lock() { static_cast<void>(try_lock_until(Deadline::never())); }
  /// False when somebody else has it or a share of it.
  bool try_lock() { return try_lock_until(Deadline::now()); }
  bool try_lock_until(Deadline deadline);
  void unlock();

  void lock_shared() { static_cast<void>(try_lock_shared_until(Deadline::never())); }
  /// False when somebody else has it alone, or waits to; now and then also when it gave up just
  /// then.
  bool try_lock_shared() { return try_lock_shared_until(Deadline::now()); }
  bool try_lock_shared_until(Deadline deadline);
  void unlock_shared();

  /// Somebody has it alone who lives.
  [[nodiscard]] bool locked() const {
    const std::uint32_t word = gate().load();
    const Tag tag = Tag::from_bits(word);
    return !tag.none() && (word & Gate::kPassing) == 0 && !Env::dead(tag);
  }
  /// How many have shares, those not counted who died with them.
  [[nodiscard]] std::uint32_t readers() const {
    std::uint32_t count = 0;
    for_each_reader([&](Tag) {
      ++count;
      return true;
    });
    return count;
  }
  [[nodiscard]] bool owner_died() const {
    const std::uint32_t word = gate().load();
    if ((word & Gate::kOwnerDied) != 0) return true;
    const Tag tag = Tag::from_bits(word);
    return !tag.none() && (word & Gate::kPassing) == 0 && Env::dead(tag);
  }
  [[nodiscard]] bool held_by_self() const {
    const std::uint32_t word = gate().load();
    return Tag::from_bits(word) == Env::self() && (word & Gate::kPassing) == 0;
  }
  /// How many shares the calling thread has.
  [[nodiscard]] std::uint32_t shares() const {
    const Tag me = Env::self();
    return shares_in(cell_of(me).load(std::memory_order_relaxed), me);
  }

 private:
  using Gate = LockWord<Env>;
  using Word = typename Env::Word;

  static constexpr std::uint32_t kLines = Slots / SlotsOfLine;
  static constexpr std::uint32_t kShareBits = 32 - Tag::kGenerationBits;
  static constexpr std::uint32_t kMostShares = (1U << kShareBits) - 1;
  static constexpr std::size_t kMostWatched = 100;

  /// Neighbours are on lines of their own, so that those who share it do not share a line.
  static std::uint32_t line_of(Tag tag) { return tag.slot() % kLines; }
  Word& cell_of(Tag tag) const {
    return const_cast<Word&>(cells_[line_of(tag) * SlotsOfLine + tag.slot() / kLines]);
  }
  static std::uint32_t cell_with(Tag me, std::uint32_t shares) {
    return me.generation() << kShareBits | shares;
  }
  static std::uint32_t shares_in(std::uint32_t cell, Tag me) {
    return cell >> kShareBits == me.generation() ? cell & kMostShares : 0;
  }

  Word& gate() { return gate_.word_; }
  const Word& gate() const { return gate_.word_; }

  /// Nobody who lives has it alone or waits to.
  [[nodiscard]] bool open() const {
    const std::uint32_t word = gate().load();
    const Tag holder = Tag::from_bits(word);
    return holder.none() || (word & Gate::kSharing) != 0 || Env::dead(holder);
  }
  bool take_gate(Tag me, std::uint32_t how, Deadline deadline);
  static bool refuse_to_wait_for_itself(Deadline deadline) {
    if (deadline.is_now()) return false;
    throw StateError("this thread would wait for itself: it has the lock, or a share of it");
  }
  void reach(std::uint32_t line);
  void leave(Word& cell);
  bool drain(Deadline deadline);

  /// Calls `visit` with each one that has a share and lives, as long as it says true.
  template <class Visit>
  void for_each_reader(Visit visit) const {
    std::uint32_t lines = lines_.load();
    if (lines > kLines) lines = kLines;  // bytes of others
    for (std::uint32_t line = 0; line != lines; ++line) {
      for (std::uint32_t i = 0; i != SlotsOfLine; ++i) {
        const std::uint32_t cell = cells_[line * SlotsOfLine + i].load();
        if (cell == 0) continue;
        const Tag tag(i * kLines + line, cell >> kShareBits);
        if (!Env::dead(tag) && !visit(tag)) return;
      }
    }
  }

  Gate gate_;
  Word bell_{0};   // changes when somebody leaves while another waits for that
  Word lines_{0};  // no cell from this line on was ever written; only grows
  alignas(64) std::array<Word, Slots> cells_{};
};

// SUBTLE: a reader writes its cell, then looks at the gate; a writer takes the gate, then looks at
// the cells; all of it sequentially consistent, so one of them sees the other.
template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
bool SharedLockWord<Env, Slots, SlotsOfLine>::try_lock_shared_until(Deadline deadline) {
  const Tag me = Env::self();
  Word& cell = cell_of(me);
  // Relaxed: what others wrote to it is of another generation, and nobody's.
  const std::uint32_t shares = shares_in(cell.load(std::memory_order_relaxed), me);
  if (shares != 0) {
    if (shares == kMostShares) throw StateError("this thread has all shares that can be counted");
    // Relaxed: it has one already.
    cell.store(cell_with(me, shares + 1), std::memory_order_relaxed);
    return true;
  }
  reach(line_of(me));
  if (open()) {
    cell.exchange(cell_with(me, 1));
    if (open()) return true;
    leave(cell);
  }
  if (!take_gate(me, Gate::kPassing | Gate::kSharing, deadline)) return false;
  // Who has the gate keeps all others from having it alone.
  cell.exchange(cell_with(me, 1));
  gate_.unlock_slowly(Gate::kOwnerDied);
  return true;
}

template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
void SharedLockWord<Env, Slots, SlotsOfLine>::unlock_shared() {
  const Tag me = Env::self();
  Word& cell = cell_of(me);
  // Relaxed, both: the thread's own.
  const std::uint32_t shares = shares_in(cell.load(std::memory_order_relaxed), me);
  if (shares == 0) throw StateError("this thread has no share of the lock that it unlocks");
  if (shares > 1) {
    cell.store(cell_with(me, shares - 1), std::memory_order_relaxed);
  } else {
    leave(cell);
  }
}

template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
bool SharedLockWord<Env, Slots, SlotsOfLine>::try_lock_until(Deadline deadline) {
  const Tag me = Env::self();
  // Relaxed: its own.
  if (shares_in(cell_of(me).load(std::memory_order_relaxed), me) != 0) {
    return refuse_to_wait_for_itself(deadline);
  }
  if (deadline.is_now()) {  // would turn others away for nothing
    bool shared = false;
    for_each_reader([&](Tag) {
      shared = true;
      return false;
    });
    if (shared) return false;
  }
  if (!take_gate(me, Gate::kPassing, deadline)) return false;
  bool alone = false;
  try {
    alone = drain(deadline);
  } catch (...) {
    gate_.unlock_slowly(Gate::kOwnerDied);
    throw;
  }
  if (!alone) {
    gate_.unlock_slowly(Gate::kOwnerDied);
    return false;
  }
  // The commit: from here on its death leaves something half changed. Others only set the mark.
  std::uint32_t word = gate().load();
  while (!gate().compare_exchange_weak(word, word & ~Gate::kPassing)) continue;
  return true;
}

template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
void SharedLockWord<Env, Slots, SlotsOfLine>::unlock() {
  if (!held_by_self()) throw StateError("this thread does not hold the lock that it unlocks");
  gate_.unlock();
}

template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
bool SharedLockWord<Env, Slots, SlotsOfLine>::take_gate(Tag me, std::uint32_t how,
                                                        Deadline deadline) {
  std::uint32_t free = 0;
  if (gate().compare_exchange_strong(free, me.bits() | how)) return true;
  if (Tag::from_bits(free) == me) return refuse_to_wait_for_itself(deadline);
  return gate_.lock_slowly(me.bits() | how, deadline);
}

/// A line is reached before a cell of it is written, so that who looks at the cells sees it.
template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
void SharedLockWord<Env, Slots, SlotsOfLine>::reach(std::uint32_t line) {
  for (std::uint32_t lines = lines_.load(); lines <= line;) {
    if (lines_.compare_exchange_weak(lines, line + 1)) return;
  }
}

template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
void SharedLockWord<Env, Slots, SlotsOfLine>::leave(Word& cell) {
  // The commit. SUBTLE: after it, the gate is looked at: who took that before has seen the cell
  // perhaps, and sleeps until the bell changes.
  cell.exchange(0);
  if ((gate().load() & (Gate::kPassing | Gate::kSharing)) != Gate::kPassing) return;
  bell_.fetch_add(1);
  Env::wake_all(bell_);
}

/// With the gate: until nobody who lives has a share. False when the deadline passed first.
template <class Env, std::uint32_t Slots, std::uint32_t SlotsOfLine>
bool SharedLockWord<Env, Slots, SlotsOfLine>::drain(Deadline deadline) {
  for (int left = Env::passed(deadline) ? 0 : Env::spins();; --left) {
    const typename Env::Glance glance = Env::look();
    const std::uint32_t bell = bell_.load();
    std::array<Tag, kMostWatched> readers;
    std::size_t count = 0;
    for_each_reader([&](Tag tag) {
      readers[count++] = tag;
      return count != kMostWatched;
    });
    if (count == 0) return true;
    if (Env::passed(deadline)) return false;
    if (left > 0) {
      Env::relax();
    } else {
      Env::sleep(glance, bell_, bell, std::span(readers.data(), count), deadline);
    }
  }
}

}  // namespace brood::detail
