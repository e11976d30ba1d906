// Layer: pool
// The shared half of a job: which items are whose, and what became of each.
// Length: one algorithm, whose steps are argued against each other.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

#if defined(__SANITIZE_THREAD__)
#define BROOD_UNDER_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BROOD_UNDER_THREAD_SANITIZER 1
#endif
#endif
#ifndef BROOD_UNDER_THREAD_SANITIZER
#define BROOD_UNDER_THREAD_SANITIZER 0
#endif

namespace brood::detail {

/// Items [begin, end).
struct Range {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  constexpr bool empty() const { return begin >= end; }
  constexpr explicit operator bool() const { return !empty(); }
  constexpr std::uint32_t size() const { return empty() ? 0 : end - begin; }
  friend constexpr bool operator==(Range, Range) = default;
};

/// What became of an item: one byte each. Everything from `kValue` up is final; a user of the
/// board may define more final states.
enum class ItemState : std::uint8_t {
  kPending = 0,  ///< not run yet, or running, or run by a worker that has not said so yet
  kValue = 1,
  kException = 2,
  kCrashed = 3,
  kCancelled = 4,
  kAsked = 5,   ///< ended with an exception; the pool decides whether it is run again
  kFailed = 6,  ///< ended with an exception, and is not
};

constexpr bool is_final(ItemState state) { return state >= ItemState::kValue; }

/// How items are handed out.
enum class TakeOrder : std::uint32_t {
  kSlices = 0,  ///< a map: one slice per slot, thieves take far halves
  kFifo = 1,    ///< a stream: items are appended, and taken from the front in small batches
};

/// The measures of a board.
struct RangeBoardShape {
  std::uint32_t items = 0;  ///< items, or the most that can be appended; below 2^32
  std::uint32_t slots = 1;  ///< worker processes at once, 1 .. 256
  std::uint32_t chunk = 1;  ///< items per commit at first, at least 1
  TakeOrder order = TakeOrder::kSlices;
  bool zeroed = false;  ///< the memory is known to be zero (fresh pages): do not write it again
};

/// The shape cannot be had, or the bytes hold no board (a layout of another version, damage).
class RangeBoardError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What the worker in one slot says about the items that it runs. In a tight loop keep a local
/// copy: its pointers then stay in registers, which halves the loop's cost.
///
/// Within a chunk, items are begun in ascending order. To begin one says that those before it in
/// the chunk have come to an end: with what `finish` has said, or else with a value. So the states
/// of many items can be written at once when the chunk is done, and an item costs one plain store
/// to a line that stays in the worker's cache.
template <template <class> class Atom = std::atomic>
class ItemMarks {
 public:
  ItemMarks(Atom<std::uint32_t>* cursor, Atom<std::uint8_t>* states, Atom<std::uint32_t>* mixed)
      : cursor_(cursor), states_(states), mixed_(mixed) {}

  /// The worker is about to run item `i` of its chunk; the results of those before it are written.
  void begin(std::uint32_t i) const {
    // SUBTLE: a kill shows exactly the instructions executed so far, so for the dead only the
    // compiler's order counts. The fences keep it from moving a crash of the item, or the result
    // of the previous one, across the mark.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    cursor_->store(i, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  /// The item that the worker, which is the caller, has begun last.
  std::uint32_t begun() const { return cursor_->load(std::memory_order_relaxed); }

  /// Item `i` has come to an end, its result is written. `state` must be final.
  void finish(std::uint32_t i, ItemState state) const {
    note(state);
    // Pairs with the acquire in RangeBoard::state and RangeOwner::first_unfinished.
    states_[i].store(static_cast<std::uint8_t>(state), std::memory_order_release);
  }

  /// The same for neighbours. To be said of all items of a chunk before it is committed.
  void finish(Range items, ItemState state) const {
    note(state);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const auto byte = static_cast<std::uint8_t>(state);
    std::uint32_t i = items.begin;
    if constexpr (kByEight) {
      // The states begin on a line of their own, so eight from a multiple of eight are aligned.
      for (; i < items.end && i % 8 != 0; ++i) states_[i].store(byte, std::memory_order_release);
      for (; items.end - i >= 8 && i < items.end; i += 8) {
        __atomic_store_n(reinterpret_cast<std::uint64_t*>(states_ + i),
                         byte * std::uint64_t{0x0101'0101'0101'0101}, __ATOMIC_RELEASE);
      }
    }
    for (; i < items.end; ++i) states_[i].store(byte, std::memory_order_release);
  }

 private:
  // Eight at a time where an atomic byte is a byte, and nobody watches pairs of operations.
#if BROOD_UNDER_THREAD_SANITIZER
  static constexpr bool kByEight = false;
#else
  static constexpr bool kByEight = std::is_same_v<Atom<std::uint8_t>, std::atomic<std::uint8_t>>;
#endif
  template <template <class> class>
  friend class RangeOwner;

  void note(ItemState state) const {
    // Relaxed: carried by the state's release. Written once, so that it stays in all caches.
    if (state == ItemState::kValue || mixed_->load(std::memory_order_relaxed) != 0) return;
    mixed_->store(1, std::memory_order_relaxed);
  }

  Atom<std::uint32_t>* cursor_;
  Atom<std::uint8_t>* states_;
  Atom<std::uint32_t>* mixed_;
};

/// A job of n items in shared memory, worked off by up to 256 processes, any of which may be
/// killed at any instruction. This class is the view of a worker; `RangeOwner` is that of the
/// process that hands out the job.
///
/// Who may touch it at once: any number of processes; at most one worker per slot; one owner.
/// Where its bytes live: in memory of the caller, without pointers, so each process may map it
///   elsewhere. The view itself is a few words of the process's own, free to copy.
/// When a worker dies: the owner, once it knows for certain, calls `RangeOwner::recover`; no
///   other worker waits for that or notices it. When the owner dies the job is moot.
/// Across fork: nothing special. A slot must not be used by parent and child both.
/// Memory ordering: what a worker did before `finish(i)` is visible to whoever reads a final
///   `state(i)`; what the owner did before it placed a range is visible to whoever gets it.
/// Errors: `format` and `attach` throw `RangeBoardError`; nothing else here throws. A word that
///   another process has scribbled over counts as empty.
///
///     auto board = RangeBoard<>::attach(memory, bytes);
///     const auto marks = board.marks(slot);
///     for (Range chunk = board.take(slot); chunk; chunk = board.next(slot, chunk)) {
///       for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) {
///         marks.begin(i);
///         output[i] = f(input[i]);
///       }
///       marks.finish(chunk, ItemState::kValue);
///     }
///     if (board.leave(slot)) wake_the_owner();
///
/// The algorithm, its invariants I1..I9 and its kill windows: docs/design/range_board.md.
/// `Atom` is std::atomic, or a stand-in through which tests schedule and kill the real code.
template <template <class> class Atom = std::atomic>
class RangeBoard {
 public:
  static constexpr std::uint32_t kMaxSlots = 256;
  static constexpr std::size_t kAlignment = 128;

  /// Bytes that a board of this shape takes; its address must be a multiple of `kAlignment`.
  static constexpr std::size_t bytes_needed(std::uint32_t items, std::uint32_t slots) {
    return sizeof(Header) + std::size_t{slots} * sizeof(Slot) +
           ((std::size_t{items} + 63) & ~std::size_t{63});
  }

  /// Makes a board without work in `memory`. `RangeOwner` hands out the work.
  static RangeBoard format(void* memory, std::size_t bytes, const RangeBoardShape& shape);

  /// The board that `format` made, in this process or another.
  static RangeBoard attach(void* memory, std::size_t bytes);

  std::uint32_t items() const { return items_; }
  std::uint32_t slots() const { return slot_count_; }

  // For the worker in `slot` -----------------------------------------------------------------

  /// The chunk to work on: the front of what the slot holds, else of what it now takes from a
  /// share or from another worker. Empty: there was nothing left to take; `leave`.
  Range take(std::uint32_t slot) const;

  /// Commits `done`, the front of the last chunk or all of it, and returns the next chunk.
  Range next(std::uint32_t slot, Range done) const;

  /// Lets the chunks of this slot be `items` long from the next commit on, to save commits where
  /// items turn out short. They never become shorter again (I9); to commit more often than
  /// that, give `next` a part of the chunk.
  void grow_chunk(std::uint32_t slot, std::uint32_t items) const {
    Atom<std::uint32_t>& grain = slots_[slot].grain;
    // Pairs with the acquire in steal(): released by the commit that follows, or by the store of
    // the next range. Only this worker writes it.
    if (items > grain.load(std::memory_order_relaxed)) {
      grain.store(items, std::memory_order_relaxed);
    }
  }

  /// See ItemMarks.
  ItemMarks<Atom> marks(std::uint32_t slot) const {
    return ItemMarks<Atom>(&slots_[slot].cursor, states_, &header_->mixed);
  }

  /// To be called after `take` or `next` returned nothing. True: the owner must be woken, as
  /// nothing is left or as it waits for room. Whoever is last to empty its word sees all empty
  /// (I7), so the end is never missed; that several are told so is normal.
  bool leave(std::uint32_t slot) const;
  /// After that: it is because the owner waits for room, not because of the end.
  bool wants_owner() const { return header_->attention.load(std::memory_order_seq_cst) != 0; }

  // For anyone -------------------------------------------------------------------------------

  /// What became of item `i`; its result may be read when this is final. As long as it is not, it
  /// may have come to an end all the same: see ItemMarks.
  ItemState state(std::uint32_t i) const {
    // Pairs with the release in finish().
    return static_cast<ItemState>(states_[i].load(std::memory_order_acquire));
  }

  /// About how many items have not been committed; of a stream, of those that were appended. For
  /// people: while it looks, ranges move.
  std::uint32_t left() const {
    std::uint64_t left = unpack(header_->inbox.load(std::memory_order_relaxed)).size();
    for (std::uint32_t i = 0; i < slot_count_; ++i) {
      left += unpack(slots_[i].own.load(std::memory_order_relaxed)).size();
      left += unpack(slots_[i].share.load(std::memory_order_relaxed)).size();
    }
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(left, items_));
  }

 private:
  template <template <class> class>
  friend class RangeOwner;
  friend struct RangeBoardPeek;  // tests look inside through it

  static constexpr std::uint64_t kMagic = 0x3230'4452'414f'4252;  // "RBOARD02"
  static constexpr std::uint32_t kNoItem = 0xffff'ffff;           // a cursor on no item

  struct alignas(kAlignment) Header {
    std::uint64_t magic;  // constant from here ...
    std::uint32_t items;
    std::uint32_t slots;
    std::uint32_t chunk;
    std::uint32_t order;                    // ... to here, written by format
    Atom<std::uint32_t> mixed;              // 1: an item may be final as something else than kValue
    Atom<std::uint32_t> attention;          // 1: the owner has work that found no room, or a doubt
    alignas(64) Atom<std::uint64_t> inbox;  // a range without owner; of a stream: what is appended
  };

  // Worker and share on lines of their own: whoever empties the share must not slow the worker.
  struct alignas(kAlignment) Slot {
    Atom<std::uint64_t> own;     // the worker advances begin, thieves shrink end
    Atom<std::uint64_t> intent;  // the range it means to move while `moves` is odd
    Atom<std::uint64_t> moves;   // odd: between taking a range out of a word and having it in own
    Atom<std::uint32_t> grain;   // items at the front of own that no thief touches; only grows
    Atom<std::uint32_t> cursor;  // the item that the worker has begun last
    alignas(64) Atom<std::uint64_t> share;  // a range without owner: anyone may take from it
  };

  static_assert(sizeof(Header) == 128 && sizeof(Slot) == 128, "the layout is shared by processes");
  static_assert(sizeof(Atom<std::uint64_t>) == 8 && sizeof(Atom<std::uint32_t>) == 4 &&
                    sizeof(Atom<std::uint8_t>) == 1,
                "atomics must be nothing but their value");
  static_assert(Atom<std::uint64_t>::is_always_lock_free &&
                    Atom<std::uint32_t>::is_always_lock_free &&
                    Atom<std::uint8_t>::is_always_lock_free,
                "a lock inside an atomic would not survive its holder");

  static constexpr std::uint64_t pack(Range r) {
    return std::uint64_t{r.begin} | (std::uint64_t{r.end} << 32);
  }
  /// The range in a word; empty when the word makes no sense.
  Range unpack(std::uint64_t word) const {
    const Range r{static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
    return r.begin <= r.end && r.end <= items_ ? r : Range{};
  }
  static constexpr Range front(Range r, std::uint32_t count) {
    return count < r.size() ? Range{r.begin, r.begin + count} : r;
  }
  static constexpr Range far_half(Range r) {
    std::uint32_t from = r.begin + r.size() / 2;
    if (r.size() >= 1024) from = (from + 63) & ~std::uint32_t{63};  // whole lines of states
    return {from, r.end};
  }

  RangeBoard(void* memory, std::uint32_t items, std::uint32_t slots)
      : items_(items), slot_count_(slots) {
    auto* bytes = static_cast<std::byte*>(memory);
    header_ = reinterpret_cast<Header*>(bytes);
    slots_ = reinterpret_cast<Slot*>(bytes + sizeof(Header));
    states_ = reinterpret_cast<Atom<std::uint8_t>*>(bytes + sizeof(Header) + slots * sizeof(Slot));
  }
  static void check(void* memory, std::size_t bytes, const RangeBoardShape& shape);

  bool nothing_left() const;
  std::uint32_t grain_of(const Slot& slot) const {
    // Read after `own`, whose acquire makes the grain in force for that value, or a larger one,
    // visible. Relaxed is enough.
    return std::max<std::uint32_t>(slot.grain.load(std::memory_order_relaxed), 1);
  }
  /// What others may take of the range in `slot`: all but its first chunk.
  Range loose(const Slot& slot, Range held) const {
    const std::uint32_t kept = grain_of(slot);
    return kept < held.size() ? Range{held.begin + kept, held.end} : Range{};
  }

  template <class Choose>
  Range move(Slot& to, Atom<std::uint64_t>& from, const Choose& choose) const;
  Range take_share(Slot& to, Atom<std::uint64_t>& share, bool mine) const;
  Range steal(Slot& to, Slot& victim) const;

  Header* header_ = nullptr;
  Slot* slots_ = nullptr;
  Atom<std::uint8_t>* states_ = nullptr;
  std::uint32_t items_ = 0;
  std::uint32_t slot_count_ = 0;
  std::uint32_t chunk_ = 1;
  TakeOrder order_ = TakeOrder::kSlices;
};

// --------------------------------------------------------------------------------------------

template <template <class> class Atom>
void RangeBoard<Atom>::check(void* memory, std::size_t bytes, const RangeBoardShape& shape) {
  const auto refuse = [&](const char* why) {
    throw RangeBoardError(std::string("range board of ") + std::to_string(shape.items) +
                          " items, " + std::to_string(shape.slots) + " slots, chunks of " +
                          std::to_string(shape.chunk) + " in " + std::to_string(bytes) +
                          " bytes: " + why);
  };
  if (shape.slots < 1 || shape.slots > kMaxSlots) refuse("slots must be 1 to 256");
  if (shape.chunk < 1) refuse("a chunk must be at least 1 item");
  if (shape.order != TakeOrder::kSlices && shape.order != TakeOrder::kFifo) {
    refuse("unknown order");
  }
  if (reinterpret_cast<std::uintptr_t>(memory) % kAlignment != 0) {
    refuse("its address must be a multiple of 128");
  }
  if (bytes < bytes_needed(shape.items, shape.slots)) refuse("too few bytes; see bytes_needed()");
}

template <template <class> class Atom>
RangeBoard<Atom> RangeBoard<Atom>::format(void* memory, std::size_t bytes,
                                          const RangeBoardShape& shape) {
  check(memory, bytes, shape);
  RangeBoard board(memory, shape.items, shape.slots);
  board.chunk_ = shape.chunk;
  board.order_ = shape.order;
  auto* header = new (memory) Header{};
  header->items = shape.items;
  header->slots = shape.slots;
  header->chunk = shape.chunk;
  header->order = static_cast<std::uint32_t>(shape.order);
  for (std::uint32_t s = 0; s != shape.slots; ++s) {
    auto* slot = new (board.slots_ + s) Slot{};
    slot->grain.store(shape.chunk, std::memory_order_relaxed);
    slot->cursor.store(kNoItem, std::memory_order_relaxed);
  }
  // The states are single bytes of value 0; NOTE: constructing them one by one is 10 times slower.
  if (!shape.zeroed) std::memset(static_cast<void*>(board.states_), 0, shape.items);
  header->magic = kMagic;
  return board;
}

template <template <class> class Atom>
RangeBoard<Atom> RangeBoard<Atom>::attach(void* memory, std::size_t bytes) {
  if (bytes < sizeof(Header)) throw RangeBoardError("range board: too few bytes for its header");
  const auto* header = static_cast<const Header*>(memory);
  const RangeBoardShape shape{.items = header->items,
                              .slots = header->slots,
                              .chunk = header->chunk,
                              .order = static_cast<TakeOrder>(header->order)};
  if (header->magic != kMagic) throw RangeBoardError("range board: these bytes hold none");
  check(memory, bytes, shape);
  RangeBoard board(memory, shape.items, shape.slots);
  board.chunk_ = shape.chunk;
  board.order_ = shape.order;
  return board;
}

// Moves a part of the range in `from` into the worker's empty own word.
//
// SUBTLE: a thief may be killed between the compare-and-swap, by which the part leaves `from`, and
// the store by which it appears in `own`. What is in its hands then is in `intent` (I4), and
// `moves` is odd. The owner relies on: intent says the part before moves is odd; moves is odd
// before the part has left; own says the part before moves is even. All in one line that only
// this worker writes, so each is a plain store on x86.
template <template <class> class Atom>
template <class Choose>
Range RangeBoard<Atom>::move(Slot& to, Atom<std::uint64_t>& from, const Choose& choose) const {
  // Acquire pairs with the release half of the compare-and-swap or store that wrote the range.
  std::uint64_t word = from.load(std::memory_order_acquire);
  for (;;) {
    const Range whole = unpack(word);
    const Range part = choose(whole);
    if (!part) return {};
    const Range rest =
        part.begin == whole.begin ? Range{part.end, whole.end} : Range{whole.begin, part.begin};
    const std::uint64_t moves = to.moves.load(std::memory_order_relaxed);  // written only here
    // Releases pair with the acquires in RangeOwner::look_at: whoever sees this intent sees that
    // the move before it is over, whoever sees odd sees the intent.
    to.intent.store(pack(part), std::memory_order_release);
    to.moves.store(moves + 1, std::memory_order_release);
    // Release: whoever sees that the part is gone sees moves odd. seq_cst: see leave().
    const bool moved = from.compare_exchange_strong(word, pack(rest), std::memory_order_seq_cst,
                                                    std::memory_order_acquire);
    if (moved) to.own.store(pack(part), std::memory_order_release);
    to.moves.store(moves + 2, std::memory_order_release);
    if (moved) return front(part, grain_of(to));
    // Lost to another thief, or to the worker's progress: it got what we wanted or less is left.
  }
}

template <template <class> class Atom>
Range RangeBoard<Atom>::take_share(Slot& to, Atom<std::uint64_t>& share, bool mine) const {
  return move(to, share, [&](Range all) {
    if (order_ == TakeOrder::kFifo) {
      return front(all, std::max<std::uint32_t>(1, all.size() / (4 * slot_count_)));
    }
    return mine || all.size() / 2 <= chunk_ ? all : far_half(all);
  });
}

template <template <class> class Atom>
Range RangeBoard<Atom>::steal(Slot& to, Slot& victim) const {
  return move(to, victim.own, [&](Range held) {
    const Range part = loose(victim, held);  // never the first chunk (I3)
    return part.size() <= chunk_ ? part : far_half(part);
  });
}

template <template <class> class Atom>
Range RangeBoard<Atom>::take(std::uint32_t slot) const {
  Slot& me = slots_[slot];
  // Acquire pairs with a thief's compare-and-swap; only begin matters, and that is ours.
  if (const Range held = unpack(me.own.load(std::memory_order_acquire))) {
    return front(held, grain_of(me));
  }
  if (const Range chunk = take_share(me, me.share, true)) return chunk;
  if (const Range chunk = take_share(me, header_->inbox, false)) return chunk;
  // Among three or more, a range may go from a word not yet read to one already read. Missing it
  // would leave this worker idle, no more than that; a second round makes it unlikely.
  const std::uint32_t others = slot_count_ - 1;
  const std::uint32_t tries = others > 1 ? 2 * others : others;
  for (std::uint32_t t = 0; t != tries; ++t) {
    const std::uint32_t other = slot + 1 + t % others;
    Slot& victim = slots_[other < slot_count_ ? other : other - slot_count_];
    if (const Range chunk = take_share(me, victim.share, false)) return chunk;
    if (const Range chunk = steal(me, victim)) return chunk;
  }
  return {};
}

template <template <class> class Atom>
Range RangeBoard<Atom>::next(std::uint32_t slot, Range done) const {
  Slot& me = slots_[slot];
  std::uint64_t word = me.own.load(std::memory_order_relaxed);  // begin is ours, end is checked
  Range rest;
  do {
    const Range held = unpack(word);
    if (held.begin != done.begin || held.end < done.end) return {};  // somebody scribbled over it
    rest = {done.end, held.end};
    // seq_cst: this is the commit, see leave(). Its release half carries the grain and the states
    // to whoever reads the word, its acquire half is not needed.
  } while (!me.own.compare_exchange_weak(word, pack(rest), std::memory_order_seq_cst,
                                         std::memory_order_relaxed));
  if (rest) return front(rest, grain_of(me));
  return take(slot);
}

// SUBTLE: two workers commit their last chunks at once: each empties its word, then reads the
// other's. Would both read the old word of the other, nobody would wake the owner. The commit
// and these loads are seq_cst, so at least the later of the two commits is followed by a scan that
// sees both words empty (I7). Likewise the owner sets `attention` before it looks for room again.
template <template <class> class Atom>
bool RangeBoard<Atom>::leave(std::uint32_t /*slot*/) const {
  return header_->attention.load(std::memory_order_seq_cst) != 0 || nothing_left();
}

template <template <class> class Atom>
bool RangeBoard<Atom>::nothing_left() const {
  constexpr auto kOrder = std::memory_order_seq_cst;
  if (unpack(header_->inbox.load(kOrder))) return false;
  for (std::uint32_t s = 0; s != slot_count_; ++s) {
    if (unpack(slots_[s].own.load(kOrder)) || unpack(slots_[s].share.load(kOrder))) return false;
  }
  return true;
}

}  // namespace brood::detail
