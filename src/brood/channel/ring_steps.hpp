// Layer: channel
// The steps of Ring. See docs/design/ring.md for names and reasons.
// Length: one algorithm, whose steps are argued against each other.
#pragma once

#include <brood/channel/ring.hpp>
#include <brood/platform/prefetch.hpp>

namespace brood::detail {

// Where things are ---------------------------------------------------------------------------

template <class Machine>
auto Ring<Machine>::place_of(std::uint64_t position) const -> Place {
  // Relaxed: a hint. The bases decide, and those that matter are visible (R3).
  std::uint32_t k = std::min(header_->newest.load(std::memory_order_relaxed), kRings - 1);
  std::uint64_t base = header_->rings[k].base.load();
  while (base > position && k > 0) base = header_->rings[--k].base.load();
  for (std::uint64_t next = 0; k + 1 < kRings; base = next, ++k) {
    next = header_->rings[k + 1].base.load();
    if (next > position) break;
  }
  return place_in(k, base, position);
}

template <class Machine>
inline auto Ring<Machine>::place_in(std::uint32_t ring, std::uint64_t base,
                                    std::uint64_t position) const -> Place {
  const std::uint32_t bits = bits_of(ring);
  const std::uint64_t offset = position - base;
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  Slot* const slots = slots_of(ring);
  return {.ring = ring,
          .lap = static_cast<std::uint32_t>(offset >> bits),
          .slot = slots + (offset & mask),
          .next = slots + ((offset + kPrefetch) & mask)};
}

// The same for the ring that most positions are in, in a form that costs little; false: place_of().
template <class Machine>
inline bool Ring<Machine>::is_in_newest(std::uint64_t position, Place& place) const {
  // Relaxed: a hint. The bases decide.
  const std::uint32_t k = std::min(header_->newest.load(std::memory_order_relaxed), kRings - 1);
  const Entry* const ring = &header_->rings[k];
  const std::uint64_t base = ring[0].base.load();
  if (position < base || position >= ring[1].base.load()) return false;
  place = place_in(k, base, position);
  return true;
}

template <class Machine>
std::uint64_t Ring<Machine>::position_of(std::uint32_t ring, std::size_t index,
                                         std::uint32_t lap) const {
  const std::uint32_t bits = bits_of(ring);
  const std::uint64_t base = header_->rings[ring].base.load();
  // The word has 32 bits of the lap; the others are those of a position nearby.
  const std::uint64_t now = (header_->tail.load() - base) >> bits;
  const auto away = static_cast<std::int32_t>(lap - static_cast<std::uint32_t>(now));
  return base + ((now + static_cast<std::uint64_t>(std::int64_t{away})) << bits) + index;
}

template <class Machine>
std::uint32_t Ring<Machine>::last_ring() const {
  std::uint32_t k = 0;
  while (k + 1 < kRings && header_->rings[k + 1].at.load() > kClosedHere) ++k;
  return k;
}

template <class Machine>
bool Ring<Machine>::advance(Atom<std::uint64_t>& cursor, std::uint64_t from, std::uint64_t to) {
  std::uint64_t now = from;
  while (now < to) {
    if (cursor.compare_exchange_strong(now, to)) return true;
  }
  return false;
}

template <class Machine>
void Ring<Machine>::raise(Atom<std::uint64_t>& mark, std::uint64_t to) {
  advance(mark, mark.load(), to);
}

// Waking -------------------------------------------------------------------------------------

template <class Machine>
std::uint32_t Ring<Machine>::announce_sleep(Atom<std::uint32_t>& event) {
  std::uint32_t now = event.load();
  while ((now & kWaiting) == 0) {
    if (event.compare_exchange_strong(now, now | kWaiting)) return now | kWaiting;
  }
  return now;
}

// SUBTLE: whoever sleeps has set the flag and looked again; whoever comes here has changed what he
// looked for. Both in sequential consistency: one of the two sees the other.
template <class Machine>
void Ring<Machine>::wake(Atom<std::uint32_t>& event, int count) {
  std::uint32_t now = event.load();
  do {
    if ((now & kWaiting) == 0) return;
    // The bump: who is about to sleep does not.
  } while (!event.compare_exchange_strong(now, now + kChange));
  if (Machine::wake(event, count) > 0) return;
  now += kChange;
  // Nobody sleeps, it seems. Somebody may go to sleep before the flag is cleared, trusting in it:
  // so all are woken after that.
  if (event.compare_exchange_strong(now, (now + kChange) & ~kWaiting)) {
    Machine::wake(event, INT_MAX);
  }
}

template <class Machine>
void Ring<Machine>::wake_all(Atom<std::uint32_t>& event) {
  std::uint32_t now = event.load();
  while (!event.compare_exchange_strong(now, (now + kChange) & ~kWaiting)) {
  }
  Machine::wake(event, INT_MAX);
}

// Putting ------------------------------------------------------------------------------------

// The first position from `position` on that nobody has claimed. All below `position` are claimed.
template <class Machine>
std::uint64_t Ring<Machine>::first_unclaimed(std::uint64_t position) const {
  for (;; ++position) {
    const Place place = place_of(position);
    const std::uint64_t word = place.slot->word.load();
    const auto ahead = static_cast<std::int32_t>(lap_of(word) - place.lap);
    if (ahead < 0 || (ahead == 0 && state_of(word) == kFree)) return position;
  }
}

// The first position from `position` on that is neither taken nor passed over; tombstones are not
// passed over here. All below `position` are.
template <class Machine>
std::uint64_t Ring<Machine>::first_untaken(std::uint64_t position) const {
  for (;; ++position) {
    const Place place = place_of(position);
    const std::uint64_t word = place.slot->word.load();
    const auto ahead = static_cast<std::int32_t>(lap_of(word) - place.lap);
    if (ahead < 0 || (ahead == 0 && !is_taken(state_of(word)))) return position;
  }
}

// Whether `position` is within the limit. Before it says no it looks how far consumers have come,
// which `head` need not say, and passes over tombstones.
template <class Machine>
bool Ring<Machine>::has_room(std::uint64_t position, bool thorough) const {
  if (header_->limit == kUnlimited) return true;
  // Any older value of `head` is a safe one (R1). acquire, release: of the rings' bases (R3).
  std::uint64_t head = header_->head_seen.load(std::memory_order_acquire);
  if (position < head + header_->limit) return true;
  // A stride beyond what is needed, so that not every message comes here.
  const std::uint64_t enough = position + Machine::kStride - header_->limit;
  for (head = std::max(head, header_->head.load()); thorough && head < enough;) {
    const Place place = place_of(head);
    const Passing passing = pass(place, place.slot->word.load());
    if (passing == Passing::no) break;
    if (passing == Passing::over) ++head;
  }
  header_->head_seen.store(head, std::memory_order_release);
  return position < head + header_->limit;
}

// The one step of claim() that is usual, without those that help others.
template <class Machine>
inline bool Ring<Machine>::claim_one(Tag me, Held& out, Hint& hint) const {
  const std::uint64_t remembered = hint.next();
  const std::uint64_t tail = header_->tail.load();
  const std::uint64_t position = std::max(tail, remembered);
  Place place;
  if (!is_in_newest(position, place)) [[unlikely]]
    return false;
  prefetch_to_write(place.next);
  if (header_->limit != kUnlimited &&
      position >= header_->head_seen.load(std::memory_order_acquire) + header_->limit &&
      !has_room(position, false)) [[unlikely]] {
    return false;
  }
  std::uint64_t word = make(place.lap, kFree, 0, 0);
  const std::uint64_t mine = make(place.lap, kClaimed, me.bits(), 0);
  if (!place.slot->word.compare_exchange_strong(word, mine)) [[unlikely]]
    return false;
  place.slot->deliveries = 0;
  out = {place.slot, position, mine};
  const std::uint64_t next = position + 1;
  hint.set(next);
  // Others begin there: they need not go over what this one has claimed.
  if (tail > remembered || next - tail >= Machine::kStride) advance(header_->tail, tail, next);
  if (is_awaited(header_->room)) [[unlikely]]
    pass_on_room(next);
  return true;
}

// A wake-up for a producer may have stood for more room than it took.
template <class Machine>
void Ring<Machine>::pass_on_room(std::uint64_t next) const {
  if (has_room(next)) wake(header_->room, 1);
}

template <class Machine>
RingStep Ring<Machine>::claim(Tag me, std::span<Held> out, std::size_t& got, Hint& hint,
                              bool thorough) const {
  if (out.size() == 1 && claim_one(me, out[0], hint)) {
    got = 1;
    return RingStep::done;
  }
  got = 0;
  const std::uint64_t remembered = hint.next();
  std::uint64_t tail = header_->tail.load();
  bool alone = tail <= remembered;
  std::uint64_t position = std::max(tail, remembered);
  for (;;) {
    const Place first = place_of(position);
    prefetch_to_write(first.next);
    std::uint64_t word = first.slot->word.load();
    const auto ahead = static_cast<std::int32_t>(lap_of(word) - first.lap);
    if (stops(word, first.lap)) {
      if (go_beyond(first.ring, position)) continue;
      return RingStep::closed;
    }
    if (ahead > 0 || (ahead == 0 && state_of(word) != kFree)) {
      // Claimed by somebody who has not said so in the tail, and perhaps never will. He may even
      // have gone on and the message been taken.
      alone = false;
      tail = header_->tail.load();
      position = std::max(position + 1, tail);
      continue;
    }
    if (ahead == -1) {
      if (!has_room(position, thorough)) return RingStep::wait;
      advance(header_->tail, tail, position);  // for growth()
      const State state = state_of(word);
      const bool moment = state == kTaking || state == kClaimed || state == kDone;
      return moment ? RingStep::busy : RingStep::grow;
    }
    if (ahead < 0) refuse();
    if (!has_room(position, thorough)) return RingStep::wait;
    // From here on each success is one more position claimed, in order (R2).
    Place place = first;
    do {
      const std::uint64_t mine = make(place.lap, kClaimed, me.bits(), 0);
      word = make(place.lap, kFree, 0, 0);
      if (!place.slot->word.compare_exchange_strong(word, mine)) break;
      out[got] = {place.slot, position + got, mine};
      place.slot->deliveries = 0;
      if (++got == out.size() || !has_room(position + got, false)) break;
      place = place_of(position + got);
    } while (place.ring == first.ring);
    if (got == 0) continue;
    const std::uint64_t next = position + got;
    hint.set(next);
    // Others begin there: they need not go over what this one has claimed.
    if (!alone || next - tail >= Machine::kStride) advance(header_->tail, tail, next);
    if (is_awaited(header_->room)) pass_on_room(next);
    return RingStep::done;
  }
}

template <class Machine>
inline void Ring<Machine>::commit(const Held& held) const {
  // An exchange, see below.
  held.slot->word.exchange(with(held.word, kReady, 0));
  if (is_awaited(header_->items)) [[unlikely]]
    wake(header_->items, 1);
}

template <class Machine>
void Ring<Machine>::commit(std::span<const Held> slots) const {
  // SUBTLE: consumers ask for these in order, so they appear in order: who is killed here has put
  // the first ones. An exchange, not a store, for the last: the processor must not look whether
  // somebody sleeps before the messages are visible.
  for (const Held& held : slots) {
    if (&held == &slots.back()) {
      held.slot->word.exchange(with(held.word, kReady, 0));
    } else {
      // Release pairs with the load in take(); for sleepers see above.
      held.slot->word.store(with(held.word, kReady, 0), std::memory_order_release);
    }
  }
  wake(header_->items, static_cast<int>(std::min<std::size_t>(slots.size(), INT_MAX)));
}

template <class Machine>
void Ring<Machine>::abandon(const Held& held) const {
  held.slot->kind = kNoMessage;
  raise(header_->last_tomb, held.position + 1);
  held.slot->word.exchange(with(held.word, kTomb, 0));
  wake(header_->items, 1);  // whoever waits for it must look behind it
}

// Taking -------------------------------------------------------------------------------------

// Whether who comes to `place` goes on to the next position: `no` if there is something READY,
// being written, or not put yet, or a STOP. A tombstone is removed.
template <class Machine>
auto Ring<Machine>::pass(Place place, std::uint64_t word) const -> Passing {
  const auto ahead = static_cast<std::int32_t>(lap_of(word) - place.lap);
  // Not put yet, while the slot's message of the lap before is held or came back.
  if (ahead == -1) return Passing::no;
  if (ahead < 0) refuse();
  if (ahead > 0) return Passing::over;
  const State state = state_of(word);
  if (state == kTomb) {
    const bool removed = place.slot->word.compare_exchange_strong(word, freed(word));
    return removed ? Passing::over : Passing::again;
  }
  return is_taken(state) ? Passing::over : Passing::no;
}

// `taken` positions up to `head` are taken or passed over: producers who wait for that must know.
template <class Machine>
void Ring<Machine>::tell_of_room(std::uint64_t head, std::uint64_t taken) const {
  advance(header_->head, header_->head.load(), head);
  wake(header_->room, static_cast<int>(std::min<std::uint64_t>(taken, INT_MAX)));
}

// The wake-up for the next message may have been that of one who took an earlier, for which he
// waited.
template <class Machine>
void Ring<Machine>::pass_on_item(std::uint64_t next) const {
  const Place place = place_of(next);
  const std::uint64_t word = place.slot->word.load();
  const bool ready = lap_of(word) == place.lap && state_of(word) == kReady;
  if (ready || stops(word, place.lap)) wake(header_->items, 1);
}

// The one step of take() that is usual, without those that help others.
template <class Machine>
inline bool Ring<Machine>::take_one(Tag me, Held& out, bool lease, Hint& hint) const {
  if (header_->late.load() != header_->late_done.load()) [[unlikely]]
    return false;
  const std::uint64_t remembered = hint.next();
  const std::uint64_t head = header_->head.load();
  const std::uint64_t position = std::max(head, remembered);
  Place place;
  if (!is_in_newest(position, place)) [[unlikely]]
    return false;
  std::uint64_t word = place.slot->word.load();
  if (word != make(place.lap, kReady, 0, 0)) return false;
  prefetch_to_write(place.next);
  const std::uint64_t mine = make(place.lap, lease ? kLeased : kTaking, me.bits(), 0);
  if (!place.slot->word.compare_exchange_strong(word, mine)) [[unlikely]]
    return false;
  out = {place.slot, position, mine};
  const std::uint64_t next = position + 1;
  hint.set(next);
  if (head > remembered || next - head >= head_stride() || is_awaited(header_->room)) {
    tell_of_room(next, 1);
  }
  count_delivery(*place.slot);
  if (is_awaited(header_->items)) [[unlikely]]
    pass_on_item(next);
  return true;
}

// SUBTLE: who wants room sets the flag of `room`, and looks at the slots from `head` on; who takes
// changes a slot, and looks at the flag. Both in sequential consistency: one of the two sees the
// other, whether `head` says so or not.
template <class Machine>
RingStep Ring<Machine>::take(Tag me, std::span<Held> out, std::size_t& got, bool lease,
                             Hint& hint) const {
  if (out.size() == 1 && take_one(me, out[0], lease, hint)) {
    got = 1;
    return RingStep::done;
  }
  got = 0;
  const std::uint64_t remembered = hint.next();
  const std::uint64_t head = header_->head.load();
  const std::uint64_t begin = std::max(head, remembered);
  bool alone = head <= remembered;
  std::uint64_t position = begin;
  for (;;) {
    if (header_->late.load() != header_->late_done.load()) {
      got = take_late(me, out, lease);
      if (got != 0) return RingStep::done;
    }
    const Place first = place_of(position);
    prefetch_to_write(first.next);
    Place place = first;
    std::uint64_t word = place.slot->word.load();
    while (lap_of(word) == place.lap && state_of(word) == kReady && place.ring == first.ring) {
      const std::uint64_t mine = with(word, lease ? kLeased : kTaking, me.bits());
      if (!place.slot->word.compare_exchange_strong(word, mine)) break;
      out[got] = {place.slot, position + got, mine};
      if (++got == out.size()) break;
      place = place_of(position + got);
      word = place.slot->word.load();
    }
    if (got != 0) {
      const std::uint64_t next = position + got;
      hint.set(next);
      if (!alone || next - head >= head_stride() || is_awaited(header_->room)) {
        tell_of_room(next, next - begin);
      }
      for (const Held& held : out.first(got)) {
        count_delivery(*held.slot);
      }
      if (is_awaited(header_->items)) pass_on_item(next);
      return RingStep::done;
    }
    if (lap_of(word) == first.lap && state_of(word) == kReady) continue;  // lost to another
    const Passing passing = pass(first, word);
    if (passing == Passing::over) {
      alone = false;
      position = std::max(position + 1, header_->head.load());
      continue;
    }
    if (passing == Passing::again) continue;
    if (position != begin) tell_of_room(position, position - begin);
    if (!stops(word, first.lap)) return RingStep::wait;
    if (go_beyond(first.ring, position)) continue;
    const Holds held = holds(me);
    if (header_->late.load() != header_->late_done.load()) continue;
    // Nothing will be put, but what others hold may come back. SUBTLE: or has come back, and `late`
    // is about to be bumped. A message never changes its slot, so the look missed none.
    if (held.others != 0 && held.mine == 0) return RingStep::pended;
    // The wake-up that brought this one here may have been the only one.
    if ((header_->items.load() & kWaiting) != 0) wake_all(header_->items);
    return RingStep::closed;
  }
}

// Messages that came back. `late_done` may be set back by a slow one; then there is one look more.
template <class Machine>
std::size_t Ring<Machine>::take_late(Tag me, std::span<Held> out, bool lease) const {
  const std::uint32_t late = header_->late.load();
  std::size_t got = 0;
  for (std::uint32_t k = 0, end = last_ring(); k <= end; ++k) {
    Slot* const slots = slots_of(k);
    for (std::size_t i = 0; i != std::size_t{1} << bits_of(k); ++i) {
      std::uint64_t word = slots[i].word.load();
      // Again when a STOP comes in between: what is passed over here may not be looked for again.
      while (state_of(word) == kReady && Tag::from_bits(word).bits() == kMark) {
        const std::uint64_t mine = with(word, lease ? kLeased : kTaking, me.bits());
        const std::uint64_t position = position_of(k, i, lap_of(word));
        if (!slots[i].word.compare_exchange_strong(word, mine)) continue;
        out[got] = {slots + i, position, mine};
        count_delivery(slots[i]);
        if (++got == out.size()) return got;
        break;
      }
    }
  }
  if (got == 0) header_->late_done.store(late);
  return got;
}

// As take_late(), but takes none.
template <class Machine>
bool Ring<Machine>::has_late() const {
  const std::uint32_t late = header_->late.load();
  if (late == header_->late_done.load()) return false;
  for (std::uint32_t k = 0, end = last_ring(); k <= end; ++k) {
    const Slot* const slots = slots_of(k);
    for (std::size_t i = 0; i != std::size_t{1} << bits_of(k); ++i) {
      const std::uint64_t word = slots[i].word.load();
      if (state_of(word) == kReady && Tag::from_bits(word).bits() == kMark) return true;
    }
  }
  header_->late_done.store(late);
  return false;
}

template <class Machine>
RingStep Ring<Machine>::peek(Tag me) const {
  const std::uint64_t begin = header_->head.load();
  for (std::uint64_t position = begin;;) {
    if (has_late()) return RingStep::done;
    const Place first = place_of(position);
    const std::uint64_t word = first.slot->word.load();
    if (lap_of(word) == first.lap && state_of(word) == kReady) return RingStep::done;
    const Passing passing = pass(first, word);
    if (passing == Passing::over) ++position;
    if (passing != Passing::no) continue;
    if (position != begin) tell_of_room(position, position - begin);
    if (!stops(word, first.lap)) return RingStep::wait;
    if (go_beyond(first.ring, position)) continue;
    const Holds held = holds(me);
    if (header_->late.load() != header_->late_done.load()) continue;
    return held.others != 0 && held.mine == 0 ? RingStep::pended : RingStep::closed;
  }
}

template <class Machine>
void Ring<Machine>::pass_on(RingStep found) const {
  if ((header_->items.load() & kWaiting) == 0) return;
  if (found == RingStep::done) wake(header_->items, 1);
  if (found == RingStep::closed) wake_all(header_->items);
}

template <class Machine>
auto Ring<Machine>::holds(Tag me) const -> Holds {
  Holds holds;
  for (std::uint32_t k = 0, end = last_ring(); k <= end; ++k) {
    const Slot* const slots = slots_of(k);
    for (std::size_t i = 0; i != std::size_t{1} << bits_of(k); ++i) {
      const std::uint64_t word = slots[i].word.load();
      const State state = state_of(word);
      if (state != kTaking && state != kLeased && state != kReady) continue;
      ++(Tag::from_bits(word) == me ? holds.mine : holds.others);
    }
  }
  return holds;
}

// Another state for a slot that the caller holds; the new word. STOP may come in between.
template <class Machine>
std::uint64_t Ring<Machine>::change(const Held& held, State state) const {
  std::uint64_t word = held.word;
  const std::uint32_t tag = state == kReady ? kMark : Tag::from_bits(word).bits();
  while (!held.slot->word.compare_exchange_strong(word, with(word, state, tag))) {
  }
  return with(word, state, tag);
}

template <class Machine>
inline void Ring<Machine>::release(const Held& held) const {
  // NOTE: before the commit nothing of the message may change: it may be given to another.
  if (state_of(held.word) == kDone) held.slot->kind = kNoMessage;
  if (state_of(held.word) == kLeased) {
    std::uint64_t word = held.word;  // STOP may come in between
    while (!held.slot->word.compare_exchange_strong(word, freed(word))) {
    }
  } else {
    // Release pairs with the load and the compare-and-swap in claim(). A plain store: STOP is not
    // set on a slot in these states.
    held.slot->word.store(freed(held.word), std::memory_order_release);
  }
  tell_of_release();
}

template <class Machine>
void Ring<Machine>::give_back(const Held& held) const {
  change(held, kReady);
  header_->late.fetch_add(1);
  wake(header_->items, 1);
}

// Growing and closing ------------------------------------------------------------------------

// There is a STOP at `position`. True: go on in the next ring. False: it is the end.
template <class Machine>
bool Ring<Machine>::go_beyond(std::uint32_t ring, std::uint64_t position) const {
  Entry& next = header_->rings[ring + 1];
  if (next.at.load() <= kClosedHere) return false;
  std::uint64_t unknown = kUnknown;
  next.base.compare_exchange_strong(unknown, position);
  // Relaxed: a hint.
  if (header_->newest.load(std::memory_order_relaxed) == ring) {
    header_->newest.store(ring + 1, std::memory_order_relaxed);
  }
  return true;
}

template <class Machine>
auto Ring<Machine>::growth() const -> Growth {
  const std::uint32_t next = place_of(header_->tail.load()).ring + 1;
  return {.ring = next,
          .bits = bits_of(next),
          .missing = header_->rings[next].at.load() == 0,
          .possible = next < kRings && bits_of(next) <= kMostBits};
}

template <class Machine>
bool Ring<Machine>::install(Growth growth, std::uint64_t slots_at) const {
  std::uint64_t none = 0;
  return header_->rings[growth.ring].at.compare_exchange_strong(none, slots_at);
}

template <class Machine>
bool Ring<Machine>::stop() const {
  for (std::uint32_t k = 0; k < kRings && header_->rings[k + 1].at.load() != 0; ++k) {
    if (!stop_in(k)) return false;
    if (header_->rings[k + 1].at.load() == kClosedHere) break;
  }
  return true;
}

template <class Machine>
bool Ring<Machine>::close() const {
  header_->closing.store(1);
  for (std::uint32_t k = 0; k < kRings; ++k) {
    std::uint64_t next = 0;
    const bool mine = header_->rings[k + 1].at.compare_exchange_strong(next, kClosedHere);
    if (!stop_in(k)) return false;
    if (mine || next == kClosedHere) break;
  }
  wake_all(header_->items);
  wake_all(header_->room);
  return true;
}

// Sets STOP in the word of the first position of `ring` that is not claimed. The rings before it
// have theirs.
template <class Machine>
bool Ring<Machine>::stop_in(std::uint32_t ring) const {
  for (;;) {
    const std::uint64_t position = header_->tail.load();
    const Place place = place_of(position);
    if (place.ring > ring) return true;  // producers have gone on
    std::uint64_t word = place.slot->word.load();
    const auto ahead = static_cast<std::int32_t>(lap_of(word) - place.lap);
    const State state = state_of(word);
    if (stops(word, place.lap)) {
      if (place.ring == ring) return true;
      if (!go_beyond(place.ring, position)) return true;  // closed before `ring`
    } else if (ahead > 0 || (ahead == 0 && state != kFree)) {
      advance(header_->tail, position, position + 1);
    } else if (ahead < -1) {
      refuse();
    } else if (state == kTaking || state == kClaimed || state == kDone) {
      return false;  // his plain store, which frees it, would overwrite a STOP
    } else if (place.slot->word.compare_exchange_strong(word, word | kStop)) {
      return true;
    }
  }
}

// After deaths -------------------------------------------------------------------------------

// SUBTLE: all that the dead held is first made READY, or the caller's own by a compare-and-swap
// from the dead's tag. So of several who recover one cleans, and if he dies too it is his to be
// recovered. `seen_epoch` is set last: who is killed on the way has done nothing that counts.
template <class Machine>
template <class Dead, class Clean, class Settled>
void Ring<Machine>::recover(Tag me, std::uint32_t epoch, const Dead& dead, const Clean& clean,
                            const Settled& settled) const {
  std::uint32_t seen = header_->seen_epoch.load();
  bool late = false;
  for (std::uint32_t k = 0, end = last_ring(); k <= end; ++k) {
    Slot* const slots = slots_of(k);
    for (std::size_t i = 0; i != std::size_t{1} << bits_of(k); ++i) {
      Slot& slot = slots[i];
      std::uint64_t word = slot.word.load();
      const State state = state_of(word);
      const Tag owner = Tag::from_bits(word);
      if (state == kReady) late = late || owner.bits() == kMark;
      if (state == kTomb) raise(header_->last_tomb, position_of(k, i, lap_of(word)) + 1);
      if (state == kFree || state == kReady || state == kTomb) continue;
      if (owner == me || !dead(owner)) continue;
      if (state == kTaking || state == kLeased) {
        // STOP can come in between on a lease.
        while (!slot.word.compare_exchange_strong(word, with(word, kReady, kMark))) {
          if (Tag::from_bits(word) != owner) break;
        }
        late = true;
        continue;
      }
      const std::uint64_t mine = with(word, state, me.bits());
      if (!slot.word.compare_exchange_strong(word, mine)) continue;
      const Held held{&slot, position_of(k, i, lap_of(word)), mine};
      if (slot.kind != kNoMessage) clean(held);
      if (state == kClaimed) {
        abandon(held);
      } else {
        release(held);
      }
    }
  }
  if (late) {
    header_->late.fetch_add(1);
    wake_all(header_->items);
  }
  if (closing()) stop();
  if (settled()) header_->seen_epoch.compare_exchange_strong(seen, epoch);
}

template <class Machine>
std::uint64_t Ring<Machine>::size() const {
  // Whoever only looks at the memory may ask: nothing is written.
  std::uint64_t head = first_untaken(header_->head.load());
  for (;;) {
    const bool plain =
        header_->late.load() == header_->late_done.load() && header_->last_tomb.load() <= head;
    if (!plain) break;
    const std::uint64_t tail = first_unclaimed(std::max(head, header_->tail.load()));
    const std::uint64_t again = first_untaken(head);
    if (head == again) return tail - head;
    head = again;
  }
  std::uint64_t count = 0;
  for (std::uint32_t k = 0, end = last_ring(); k <= end; ++k) {
    const Slot* const slots = slots_of(k);
    for (std::size_t i = 0; i != std::size_t{1} << bits_of(k); ++i) {
      const State state = state_of(slots[i].word.load());
      if (state == kReady || state == kClaimed) ++count;
    }
  }
  return count;
}

}  // namespace brood::detail
