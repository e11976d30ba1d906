// Layer: pool
// The owner's half of a job: hands out the items, recovers those of the dead, sees the end.
// Length: one algorithm, whose steps are argued against each other.
#pragma once

#include <brood/pool/range_board.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace brood::detail {

/// What recovery found.
struct RangeRecovery {
  /// Items in which a worker died. The caller must settle each by `fail` or `retry`. One at most,
  /// unless a worker has scribbled over the board.
  std::vector<std::uint32_t> culprits;
  /// There is work again: wake the workers that have left.
  bool work = false;
};

/// The view of the one process that owns a job on a `RangeBoard`.
///
/// Who may touch it at once: one thread; callers with several hold their own mutex. Workers go on
/// all the while, and no call waits for any of them.
/// Where its bytes live: in the owner's private memory; if the owner dies the job is moot.
/// When a worker dies: call `recover` with its slot, but only on certain knowledge (the kernel's)
///   that none of its threads runs any more; then a new worker may have the slot. A worker that
///   retires with work in its slot is recovered in the same way.
/// When to call `heal`: whenever the owner is woken. It is cheap when there is nothing to do.
/// Errors: none of its own; memory may run out in `recover` and `heal`, which may then be repeated.
///
///     RangeOwner<> owner(RangeBoard<>::format(memory, bytes, {.items = n, .slots = 4}));
///     owner.hand_out();                      // start or wake the workers, then whenever woken:
///     auto found = owner.recover(slot);      //   a worker died
///     for (auto item : found.culprits) owner.fail(item);
///     if (owner.heal()) wake_the_workers();
///     if (owner.finished()) return;
template <template <class> class Atom = std::atomic>
class RangeOwner {
 public:
  using Board = RangeBoard<Atom>;

  explicit RangeOwner(Board board) : board_(board) {}

  const Board& board() const { return board_; }

  /// Hands out all items of a board just formatted with `TakeOrder::kSlices`, to the first `slots`
  /// slots; 0: to all.
  void hand_out(std::uint32_t slots = 0);

  /// The same in pieces, for items whose inputs come to be there one after the other: from now on
  /// all items exist, and none is handed out. As many slices are kept back as slots.
  void keep_back(std::uint32_t slots = 0);
  /// How many slices there are, and the first items of one, at most so many, that are kept back.
  /// Nothing when they have been handed out, or were cancelled.
  std::uint32_t slices() const { return static_cast<std::uint32_t>(kept_back_.size()); }
  Range kept_back(std::uint32_t slice, std::uint32_t items) const {
    return Board::front(kept_back_[slice], items);
  }
  /// Hands out what `kept_back` has said of the slice, or less; nothing when it has been cancelled
  /// meanwhile. Then wake workers that have left.
  void let_go(std::uint32_t slice, Range items);

  /// Adds up to `count` items at the end of a `TakeOrder::kFifo` board, and returns how many it
  /// had room for; then wake workers that have left. None after `cancel`.
  std::uint32_t append(std::uint32_t count);

  /// Items that exist so far: all, or what was appended.
  std::uint32_t existing() const { return existing_; }

  /// Takes the work back from the dead worker of `slot` and hands it on. Items that it had
  /// finished stay finished. May be repeated.
  RangeRecovery recover(std::uint32_t slot);

  /// Settles a culprit: it failed for good (`state` is final), or it is to be run again.
  void fail(std::uint32_t item, ItemState state = ItemState::kCrashed);
  /// True: wake the workers that have left.
  bool retry(std::uint32_t item);

  /// Runs a final item again, whatever it ended with. False, and nothing is changed, as long as its
  /// worker has not committed it: ask again when that worker has, or is dead. Afterwards as
  /// `retry`, but `heal` says whether to wake workers.
  bool reopen(std::uint32_t item);

  /// Makes a pending item final as `state` before a worker begins it. The worker that begins it at
  /// the same time sees the state if it looks after ItemMarks::begin and a seq_cst fence, or the
  /// caller sees the item in `begun` from now on. False: it is final already.
  bool withdraw(std::uint32_t item, ItemState state);

  /// The item that the worker of `slot` has begun last, if that is in its chunk under way. Unless
  /// its state is final, the worker is in it or just behind it.
  std::optional<std::uint32_t> begun(std::uint32_t slot) const;

  /// Hands out what found no room before, and clears up doubts. True: there is work again: wake
  /// the workers that have left.
  bool heal();

  /// Looks for items in nobody's hands among all of them, at the next `heal`. Needed only where
  /// a crashing worker may have scribbled over the words of others: when the owner is woken, `heal`
  /// found nothing, no worker is at work, and yet not all is finished.
  void suspect_all() {
    doubts_.push_back({0, existing_});
    disturbed_ = true;
  }

  /// Marks all items as cancelled that are in no worker's first chunk or hands. A worker that sees
  /// the caller's flag finishes the rest of its own as cancelled; later recoveries and calls of
  /// `heal` hand out nothing any more.
  void cancel();

  /// The first item from `from` on that is not final, or `existing()`.
  std::uint32_t first_unfinished(std::uint32_t from) const {
    return skip(from, ItemState::kValue, is_final);
  }

  /// The first item from `from` on whose state is another than `state`, or `existing()`.
  std::uint32_t first_other_than(ItemState state, std::uint32_t from) const {
    return skip(from, state, [state](ItemState s) { return s == state; });
  }

  /// The first item from `from` on whose state is `state`, or `existing()`.
  std::uint32_t first_of(ItemState state, std::uint32_t from) const {
    for (std::uint32_t i = from; i < existing_; ++i) {
      if constexpr (ItemMarks<Atom>::kByEight) {
        while (i % 8 == 0 && existing_ - i >= 8 && !any_of_eight(i, state)) i += 8;
        if (i == existing_) break;
      }
      if (board_.state(i) == state) return i;
    }
    return existing_;
  }

  /// Items that have come to an end by now, those included of which their worker has not said so
  /// yet. For the eyes of a user: it looks at every item.
  std::uint32_t count_ended() const;

  /// Whether all existing items are final. As long as no worker has died the words alone tell,
  /// whatever the number of items; after a death each item is looked at, once over all calls, so
  /// that even words scribbled over by a crash cannot fake the end.
  bool finished() {
    if (finished_to_ != existing_ && !disturbed_) {
      if (!board_.nothing_left()) return false;
      if (at_rest()) finished_to_ = existing_;
    }
    // SUBTLE: also when a worker is stopped in a move that is going to fail: it delays nobody.
    if (finished_to_ != existing_) finished_to_ = first_unfinished(finished_to_);
    return finished_to_ == existing_;
  }

  /// Once `finished`: true says that every item is `kValue`, false that some may not be.
  bool all_values() const {
    // Acquire pairs with nothing of its own: the states, or the words, seen by finished() did it.
    return board_.header_->mixed.load(std::memory_order_acquire) == 0;
  }

 private:
  using Word = Atom<std::uint64_t>;
  using Ranges = std::vector<Range>;

  // An item changes hands between workers at most 33 times without the owner: once out of a share,
  // then by thefts that each take at most half of a word of fewer than 2^32 items. A change is two
  // events, out of a word and into a word (I8).
  static constexpr int kMostEvents = 66;
  static constexpr int kMostLooks = 4 * kMostEvents;

  struct Look {
    Ranges held;        // in words, or held by the owner
    Ranges moving;      // intents of moves under way: perhaps held, perhaps not
    bool still = true;  // nothing moved meanwhile
    bool sharp = true;  // all intents could be read
  };

  template <class Accept>
  std::uint32_t skip(std::uint32_t from, ItemState usual, const Accept& accept) const;
  bool any_of_eight(std::uint32_t first, ItemState state) const {
    constexpr std::uint64_t kOnes = 0x0101'0101'0101'0101;
    // Relaxed: the caller looks at the items one by one.
    const std::uint64_t eight = __atomic_load_n(
        reinterpret_cast<const std::uint64_t*>(board_.states_ + first), __ATOMIC_RELAXED);
    const std::uint64_t other = eight ^ (kOnes * static_cast<std::uint64_t>(state));
    return ((other - kOnes) & ~other & (kOnes << 7U)) != 0;  // a byte of zero: Knuth 7.1.3 (90)
  }
  bool at_rest() const;
  Look look() const;
  void look_at(const typename Board::Slot& slot, Look& seen) const;
  void settle(Range doubt, Ranges& undecided);
  void settle_doubts();
  void put_back(Range range);
  void hand_on_orphans(Range range);
  bool place(Range range);
  bool lengthen(Word& share, Range range);
  void place_spilled();
  std::vector<Range> slices_for(std::uint32_t slots) const;
  void take_back();
  Range empty_word(Word& word);
  void cancel_pending(Range range);
  void set_state(std::uint32_t item, ItemState state);
  bool is_suspect(std::uint32_t item) const {
    return std::find(suspects_.begin(), suspects_.end(), item) != suspects_.end();
  }
  void report(std::uint32_t culprit) {
    std::erase(suspects_, culprit);
    culprits_.push_back(culprit);
    reported_.push_back(culprit);
  }

  static void subtract(Ranges& from, const Ranges& what);
  static bool overlap(const Ranges& a, const Ranges& b);

  Board board_;
  std::uint32_t existing_ = 0;
  std::uint32_t finished_to_ = 0;
  bool cancelled_ = false;
  bool disturbed_ = false;               // somebody died: trust the states, not the words
  bool placed_ = false;                  // since the last answer to the caller
  Ranges kept_back_;                     // by slice: not handed out yet
  Ranges spilled_;                       // ranges that found no empty share
  Ranges doubts_;                        // perhaps in nobody's hands
  std::vector<std::uint32_t> suspects_;  // where workers were that died scribbling
  std::vector<std::uint32_t> culprits_;  // found, not settled
  std::vector<std::uint32_t> reported_;  // of those, found since the last report
};

// --------------------------------------------------------------------------------------------

template <template <class> class Atom>
std::vector<Range> RangeOwner<Atom>::slices_for(std::uint32_t to) const {
  const std::uint64_t items = board_.items_;
  const std::uint64_t slots = to == 0 ? board_.slot_count_ : std::min(to, board_.slot_count_);
  // Whole lines of states for everyone, where there are enough.
  const std::uint64_t grid = items >= slots * 1024 ? 64 : 1;
  std::vector<Range> slices(slots);
  std::uint64_t begin = 0;
  for (std::uint64_t s = 0; s != slots; ++s) {
    std::uint64_t end = items * (s + 1) / slots / grid * grid;
    if (s + 1 == slots) end = items;
    slices[s] = {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)};
    begin = end;
  }
  return slices;
}

template <template <class> class Atom>
void RangeOwner<Atom>::hand_out(std::uint32_t to) {
  std::uint32_t s = 0;
  for (const Range slice : slices_for(to)) {
    // Release pairs with the acquire in RangeBoard::move.
    if (slice) board_.slots_[s].share.store(Board::pack(slice), std::memory_order_release);
    ++s;
  }
  existing_ = board_.items_;
}

template <template <class> class Atom>
void RangeOwner<Atom>::keep_back(std::uint32_t to) {
  kept_back_ = slices_for(to);
  existing_ = board_.items_;
}

// What is kept back is in the owner's hands, as what found no room; but nobody is to call for it.
template <template <class> class Atom>
void RangeOwner<Atom>::let_go(std::uint32_t slice, Range items) {
  Range& kept = kept_back_[slice];
  if (!items || items.begin != kept.begin || items.end > kept.end) return;  // cancelled
  spilled_.reserve(spilled_.size() + 1);  // between two places memory must not run out
  kept.begin = items.end;
  if (lengthen(board_.slots_[slice].share, items)) {
    placed_ = true;
  } else {
    put_back(items);
  }
  if (!spilled_.empty()) heal();
}

// Puts `range` behind what is in the share, or into it when it is empty. False when it ends
// elsewhere: somebody took its far half.
template <template <class> class Atom>
bool RangeOwner<Atom>::lengthen(Word& share, Range range) {
  std::uint64_t word = share.load(std::memory_order_relaxed);  // only the owner adds
  for (;;) {
    const Range now = board_.unpack(word);
    if (now && now.end != range.begin) return false;
    const Range longer{now ? now.begin : range.begin, range.end};
    // Release pairs with the acquire in RangeBoard::move.
    if (share.compare_exchange_weak(word, Board::pack(longer), std::memory_order_seq_cst,
                                    std::memory_order_relaxed)) {
      return true;
    }
  }
}

template <template <class> class Atom>
std::uint32_t RangeOwner<Atom>::append(std::uint32_t count) {
  count = cancelled_ ? 0 : std::min(count, board_.items_ - existing_);
  if (count == 0) return 0;
  Word& inbox = board_.header_->inbox;
  std::uint64_t word = inbox.load(std::memory_order_relaxed);  // only the owner adds
  Range longer;
  do {
    // Workers only advance begin, so end is where the last append left it: `existing_`.
    const Range now = board_.unpack(word);
    longer = {now ? now.begin : existing_, existing_ + count};
  } while (!inbox.compare_exchange_weak(word, Board::pack(longer), std::memory_order_seq_cst,
                                        std::memory_order_relaxed));
  existing_ += count;
  return count;
}

template <template <class> class Atom>
RangeRecovery RangeOwner<Atom>::recover(std::uint32_t slot_index) {
  disturbed_ = true;
  auto& slot = board_.slots_[slot_index];
  // The caller knows of the death from the kernel, so all that the worker wrote is visible;
  // seq_cst and acquire here are for thieves, and for tests in which threads stand in.
  const std::uint64_t word = slot.own.load(std::memory_order_acquire);
  const std::uint64_t moves = slot.moves.load(std::memory_order_acquire);
  const std::uint32_t cursor = slot.cursor.load(std::memory_order_acquire);
  const Range said{static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
  const bool scribbled = said.begin > said.end || said.end > existing_;
  // Once the word is empty its range is only in our hands: from there on memory must not run out.
  spilled_.reserve(spilled_.size() + 1);
  doubts_.reserve(doubts_.size() + 2);
  suspects_.reserve(suspects_.size() + 1);
  culprits_.reserve(culprits_.size() + 1);
  reported_.reserve(reported_.size() + 1);
  if (scribbled) {
    suspect_all();
    // What it was in will be found in nobody's hands; run again, it would do the same again.
    if (cursor < existing_) suspects_.push_back(cursor);
  }
  const Range held = empty_word(slot.own);
  Range rest = held;
  if (held.begin <= cursor && cursor < held.end) {
    // It is in the chunk under way (I10): what is before it has ended, whether marked or not.
    for (; rest.begin != cursor; ++rest.begin) {
      if (!is_final(board_.state(rest.begin))) set_state(rest.begin, ItemState::kValue);
    }
    if (!is_final(board_.state(cursor))) report(cursor);
    ++rest.begin;
  }
  // What a worker ends without having begun it: the rest of a chunk that nobody wants.
  while (rest && is_final(board_.state(rest.begin))) ++rest.begin;
  // For the next worker in this slot, who may be given the culprit.
  slot.cursor.store(Board::kNoItem, std::memory_order_release);
  if (moves % 2 != 0) {
    // It died in a move. If its word is not empty the move was as good as done: the word was
    // empty before, and of what it then received thieves never take the first chunk. Otherwise
    // the part may have left the victim's word or may not.
    if (!held) {
      const Range part = board_.unpack(slot.intent.load(std::memory_order_acquire));
      if (part) doubts_.push_back(part);
    }
    // Even again for the next worker in this slot, and so that the old intent counts no more.
    slot.moves.store(moves + 1, std::memory_order_release);
  }
  if (rest) put_back(rest);

  RangeRecovery found;
  found.work = heal();
  found.culprits.swap(reported_);
  return found;
}

template <template <class> class Atom>
void RangeOwner<Atom>::fail(std::uint32_t item, ItemState state) {
  culprits_.erase(std::remove(culprits_.begin(), culprits_.end(), item), culprits_.end());
  set_state(item, state);
}

template <template <class> class Atom>
bool RangeOwner<Atom>::retry(std::uint32_t item) {
  culprits_.erase(std::remove(culprits_.begin(), culprits_.end(), item), culprits_.end());
  set_state(item, ItemState::kPending);
  put_back({item, item + 1});
  return heal();
}

template <template <class> class Atom>
bool RangeOwner<Atom>::reopen(std::uint32_t item) {
  for (std::uint32_t s = 0; s != board_.slot_count_; ++s) {
    // Acquire pairs with the commit. An older value that lacks the item cannot be read: the caller
    // has read the state, which was stored after the item came into the word.
    const Range held = board_.unpack(board_.slots_[s].own.load(std::memory_order_acquire));
    if (held.begin <= item && item < held.end) return false;
  }
  for (std::uint32_t s = 0; s != board_.slot_count_; ++s) {
    // SUBTLE: whoever ran it may get it again, and would be said to be in it before it begins
    // (I10). It does not write this number to its cursor before that, so the exchange meets only
    // its going on to another item.
    std::uint32_t last = item;
    board_.slots_[s].cursor.compare_exchange_strong(last, Board::kNoItem, std::memory_order_acq_rel,
                                                    std::memory_order_relaxed);
  }
  finished_to_ = std::min(finished_to_, item);
  set_state(item, ItemState::kPending);
  put_back({item, item + 1});
  return true;
}

template <template <class> class Atom>
bool RangeOwner<Atom>::withdraw(std::uint32_t item, ItemState state) {
  // Said before the state, as finish() does.
  board_.header_->mixed.store(1, std::memory_order_relaxed);
  auto pending = static_cast<std::uint8_t>(ItemState::kPending);
  // seq_cst: pairs with the worker's fence between its mark and its look at the state.
  return board_.states_[item].compare_exchange_strong(pending, static_cast<std::uint8_t>(state),
                                                      std::memory_order_seq_cst);
}

template <template <class> class Atom>
std::optional<std::uint32_t> RangeOwner<Atom>::begun(std::uint32_t slot_index) const {
  const auto& slot = board_.slots_[slot_index];
  // seq_cst: pairs with the worker's fence, see withdraw().
  const Range held = board_.unpack(slot.own.load(std::memory_order_seq_cst));
  const std::uint32_t cursor = slot.cursor.load(std::memory_order_seq_cst);
  if (cursor < held.begin || cursor >= held.end) return std::nullopt;
  return cursor;
}

template <template <class> class Atom>
bool RangeOwner<Atom>::heal() {
  if (cancelled_) take_back();
  if (!doubts_.empty()) settle_doubts();
  place_spilled();
  Atom<std::uint32_t>& attention = board_.header_->attention;
  if (!spilled_.empty() || !doubts_.empty()) {
    // SUBTLE: a worker that left just before this store did not wake us. But then it had seen all
    // shares empty, and its own move is over; so look again (seq_cst pairs with leave()).
    attention.store(1, std::memory_order_seq_cst);
    if (!doubts_.empty()) settle_doubts();
    place_spilled();
  }
  if (spilled_.empty() && doubts_.empty() && attention.load(std::memory_order_relaxed) != 0) {
    attention.store(0, std::memory_order_seq_cst);
  }
  const bool work = placed_;
  placed_ = false;
  return work;
}

template <template <class> class Atom>
void RangeOwner<Atom>::cancel() {
  cancelled_ = true;
  heal();
}

// Empties all words but for the first chunks of workers, and marks what was in them.
template <template <class> class Atom>
void RangeOwner<Atom>::take_back() {
  cancel_pending(empty_word(board_.header_->inbox));
  for (std::uint32_t s = 0; s != board_.slot_count_; ++s) {
    auto& slot = board_.slots_[s];
    cancel_pending(empty_word(slot.share));
    for (;;) {
      std::uint64_t word = slot.own.load(std::memory_order_acquire);
      const Range held = board_.unpack(word);
      const Range part = board_.loose(slot, held);
      if (!part) break;
      const Range rest{held.begin, part.begin};
      if (slot.own.compare_exchange_strong(word, Board::pack(rest), std::memory_order_seq_cst,
                                           std::memory_order_relaxed)) {
        cancel_pending(part);
        break;
      }
    }
  }
  for (const Range r : spilled_) cancel_pending(r);
  spilled_.clear();
  for (Range& r : kept_back_) cancel_pending(std::exchange(r, Range{}));
}

template <template <class> class Atom>
Range RangeOwner<Atom>::empty_word(Word& word) {
  std::uint64_t seen = word.load(std::memory_order_acquire);
  for (;;) {
    const Range held = board_.unpack(seen);
    if (!held && static_cast<std::uint32_t>(seen) == static_cast<std::uint32_t>(seen >> 32)) {
      return {};
    }
    const Range nothing{held.end, held.end};
    if (word.compare_exchange_weak(seen, Board::pack(nothing), std::memory_order_seq_cst,
                                   std::memory_order_acquire)) {
      return held;
    }
  }
}

template <template <class> class Atom>
void RangeOwner<Atom>::set_state(std::uint32_t item, ItemState state) {
  if (state == ItemState::kPending) {
    board_.states_[item].store(static_cast<std::uint8_t>(state), std::memory_order_relaxed);
  } else {
    board_.marks(0).finish(item, state);
  }
}

template <template <class> class Atom>
void RangeOwner<Atom>::cancel_pending(Range range) {
  for (std::uint32_t i = range.begin; i < range.end; ++i) {
    if (board_.state(i) == ItemState::kPending) set_state(i, ItemState::kCancelled);
  }
}

// Takes over a range of pending items that is in no word.
template <template <class> class Atom>
void RangeOwner<Atom>::put_back(Range range) {
  if (cancelled_) {
    cancel_pending(range);
  } else if (!place(range)) {
    spilled_.push_back(range);
  }
}

// Puts `range` into an empty share. Only the owner fills shares, so an empty one stays empty.
template <template <class> class Atom>
bool RangeOwner<Atom>::place(Range range) {
  const auto fill = [&](Word& share) {
    if (board_.unpack(share.load(std::memory_order_seq_cst))) return false;
    // Release pairs with the acquire in RangeBoard::move.
    share.store(Board::pack(range), std::memory_order_release);
    return true;
  };
  bool done = false;
  for (std::uint32_t s = 0; !done && s != board_.slot_count_; ++s) {
    done = fill(board_.slots_[s].share);
  }
  // The inbox of a stream belongs to append(), which relies on its end.
  if (!done && board_.order_ != TakeOrder::kFifo) done = fill(board_.header_->inbox);
  placed_ = placed_ || done;
  return done;
}

template <template <class> class Atom>
void RangeOwner<Atom>::place_spilled() {
  while (!spilled_.empty() && place(spilled_.back())) spilled_.pop_back();
}

// What one worker holds and what it is moving.
template <template <class> class Atom>
void RangeOwner<Atom>::look_at(const typename Board::Slot& slot, Look& seen) const {
  for (int attempt = 0; attempt != 8; ++attempt) {
    // Acquires pair with the releases in RangeBoard::move; they keep these loads in order.
    const std::uint64_t moves = slot.moves.load(std::memory_order_acquire);
    const Range own = board_.unpack(slot.own.load(std::memory_order_acquire));
    const Range part = board_.unpack(slot.intent.load(std::memory_order_acquire));
    if (slot.moves.load(std::memory_order_acquire) != moves) continue;
    if (own) seen.held.push_back(own);
    if (part && moves % 2 != 0) seen.moving.push_back(part);
    return;
  }
  seen.sharp = false;
}

template <template <class> class Atom>
auto RangeOwner<Atom>::look() const -> Look {
  Look seen;
  const std::uint32_t slots = board_.slot_count_;
  std::vector<std::uint64_t> moves(slots);
  // Acquires pair with the releases in RangeBoard::move, and keep the loads in order.
  for (std::uint32_t s = 0; s != slots; ++s) {
    moves[s] = board_.slots_[s].moves.load(std::memory_order_acquire);
  }
  const auto add = [&](const Word& share) {
    const Range r = board_.unpack(share.load(std::memory_order_acquire));
    if (r) seen.held.push_back(r);
  };
  add(board_.header_->inbox);
  for (std::uint32_t s = 0; s != slots; ++s) {
    add(board_.slots_[s].share);
    look_at(board_.slots_[s], seen);
  }
  for (std::uint32_t s = 0; s != slots; ++s) {
    // SUBTLE: whoever sees that a part has left a word sees the thief's odd count (the acquire of
    // the word). So with equal counts no part went from a word not yet read into one already read.
    if (board_.slots_[s].moves.load(std::memory_order_acquire) != moves[s]) seen.still = false;
  }
  seen.held.insert(seen.held.end(), spilled_.begin(), spilled_.end());
  for (const Range kept : kept_back_) {
    if (kept) seen.held.push_back(kept);
  }
  for (const std::uint32_t item : culprits_) seen.held.push_back({item, item + 1});
  return seen;
}

// Finds out which items of `doubt` are in nobody's hands, and hands those on.
//
// An item seen in a word since the death is held by somebody: no orphan. An item that is in no word
// and in no intent of a move under way, in a look during which nothing moved, is finished or an
// orphan. Where workers move all the time such a look may not come about; then we count: an item
// that is held and yet unseen must have changed hands during that look, and it cannot do so for
// ever (I8). An intent proves nothing: the move may fail. It passes, and who made it wakes us when
// it finds no more work (`attention`).
template <template <class> class Atom>
void RangeOwner<Atom>::settle(Range doubt, Ranges& undecided) {
  doubt.end = std::min(doubt.end, existing_);
  Ranges unseen;
  if (doubt) unseen.push_back(doubt);
  int blank = 0;
  for (int looks = 0; looks != kMostLooks && !unseen.empty(); ++looks) {
    const Look seen = look();
    subtract(unseen, seen.held);
    if (!seen.sharp || overlap(unseen, seen.moving)) continue;
    if (seen.still || ++blank > kMostEvents) {
      for (const Range r : unseen) hand_on_orphans(r);
      return;
    }
  }
  undecided.insert(undecided.end(), unseen.begin(), unseen.end());
}

template <template <class> class Atom>
void RangeOwner<Atom>::settle_doubts() {
  Ranges undecided;
  // One after the other: what the first hands on the next sees as held.
  for (const Range doubt : doubts_) settle(doubt, undecided);
  doubts_.swap(undecided);
}

// No worker has a word or a move with `range` in it: what is not final there is nobody's.
template <template <class> class Atom>
void RangeOwner<Atom>::hand_on_orphans(Range range) {
  for (std::uint32_t i = range.begin; i < range.end;) {
    std::uint32_t end = i + 1;
    if (is_suspect(i)) {
      if (!is_final(board_.state(i))) report(i);
    } else if (!is_final(board_.state(i))) {
      while (end < range.end && !is_final(board_.state(end)) && !is_suspect(end)) ++end;
      put_back({i, end});
    }
    i = end;
  }
}

template <template <class> class Atom>
void RangeOwner<Atom>::subtract(Ranges& from, const Ranges& what) {
  Ranges left;
  for (const Range cut : what) {
    left.clear();
    for (const Range r : from) {
      const Range below{r.begin, std::min(r.end, cut.begin)};
      const Range above{std::max(r.begin, cut.end), r.end};
      if (below) left.push_back(below);
      if (above) left.push_back(above);
    }
    from.swap(left);
  }
}

template <template <class> class Atom>
bool RangeOwner<Atom>::overlap(const Ranges& a, const Ranges& b) {
  for (const Range x : a) {
    for (const Range y : b) {
      if (std::max(x.begin, y.begin) < std::min(x.end, y.end)) return true;
    }
  }
  return false;
}

// Every item is final or in some word, in somebody's hands, or in ours (I1). So if nothing is in
// any of them, at a moment when nothing moves, all are final.
template <template <class> class Atom>
bool RangeOwner<Atom>::at_rest() const {
  if (!spilled_.empty() || !doubts_.empty() || !culprits_.empty()) return false;
  const Look seen = look();
  return seen.held.empty() && seen.moving.empty() && seen.still && seen.sharp;
}

template <template <class> class Atom>
std::uint32_t RangeOwner<Atom>::count_ended() const {
  // What is behind a cursor has ended; where a worker goes on meanwhile, its states say more.
  Ranges ended;
  for (std::uint32_t s = 0; s != board_.slot_count_; ++s) {
    const auto& slot = board_.slots_[s];
    const Range held = board_.unpack(slot.own.load(std::memory_order_acquire));
    const std::uint32_t cursor = slot.cursor.load(std::memory_order_acquire);
    const Range chunk = Board::front(held, board_.grain_of(slot));
    if (chunk.begin < cursor && cursor < chunk.end) ended.push_back({chunk.begin, cursor});
  }
  ended.push_back({existing_, existing_});
  std::sort(ended.begin(), ended.end(), [](Range a, Range b) { return a.begin < b.begin; });
  std::uint32_t count = 0;
  std::uint32_t i = 0;
  for (const Range known : ended) {
    for (; i < known.begin; ++i) count += is_final(board_.state(i)) ? 1 : 0;
    if (known.end > i) count += known.end - std::exchange(i, known.end);
  }
  return count;
}

template <template <class> class Atom>
template <class Accept>
std::uint32_t RangeOwner<Atom>::skip(std::uint32_t from, ItemState usual,
                                     const Accept& accept) const {
  std::uint32_t i = from;
  const auto one_by_one = [&](std::uint32_t end) {
    while (i < end && accept(board_.state(i))) ++i;
    return i == end;
  };
  if constexpr (ItemMarks<Atom>::kByEight) {
    const std::uint64_t usual_eight = static_cast<std::uint64_t>(usual) * 0x0101'0101'0101'0101;
    const std::uint32_t aligned = static_cast<std::uint32_t>(
        std::min<std::uint64_t>((std::uint64_t{i} + 7) & ~std::uint64_t{7}, existing_));
    if (!one_by_one(aligned)) return i;
    while (existing_ - i >= 8) {
      // The states begin on a line of their own, so eight from a multiple of eight are aligned.
      // Acquire pairs with the releases in ItemMarks.
      const auto* eight = reinterpret_cast<const std::uint64_t*>(board_.states_ + i);
      if (__atomic_load_n(eight, __ATOMIC_ACQUIRE) == usual_eight) {
        i += 8;
      } else if (!one_by_one(i + 8)) {
        return i;
      }
    }
  }
  one_by_one(existing_);
  return i;
}

}  // namespace brood::detail
