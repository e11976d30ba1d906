// Layer: channel
// The steps of Ring. See docs/design/ring.md for names and reasons.
// Length: one algorithm, whose steps are argued against each other.
#pragma once

#include <brood/channel/ring.hpp>

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
  const std::uint32_t bits = bits_of(k);
  const std::uint64_t offset = position - base;
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  Slot* const slots = slots_of(k);
  return {.ring = k,
          .lap = static_cast<std::uint32_t>(offset >> bits),
          .slot = slots + (offset & mask),
          .next = slots + ((offset + kPrefetch) & mask)};
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

// Whether `position` is within the limit. Helps `head` before it says no.
template <class Machine>
bool Ring<Machine>::has_room(std::uint64_t position) const {
  if (header_->limit == kUnlimited) return true;
  // Relaxed: any older value of `head` is a safe one (R1).
  if (position < header_->head_seen.load(std::memory_order_relaxed) + header_->limit) return true;
  for (;;) {
    const std::uint64_t head = header_->head.load();
    header_->head_seen.store(head, std::memory_order_relaxed);
    if (position < head + header_->limit) return true;
    const Place place = place_of(head);
    if (!skip_or_help(head, place, place.slot->word.load())) return false;
  }
}

template <class Machine>
RingStep Ring<Machine>::claim(Tag me, std::span<Held> out, std::size_t& got) const {
  got = 0;
  for (;;) {
    const std::uint64_t position = header_->tail.load();
    const Place first = place_of(position);
    __builtin_prefetch(first.next, 1);
    std::uint64_t word = first.slot->word.load();
    const auto ahead = static_cast<std::int32_t>(lap_of(word) - first.lap);
    if (stops(word, first.lap)) {
      if (go_beyond(first.ring, position)) continue;
      return RingStep::closed;
    }
    if (ahead > 0 || (ahead == 0 && state_of(word) != kFree)) {
      // Somebody claimed it and has not advanced the tail: perhaps he is dead. He may even have
      // gone on and the message been taken.
      advance(header_->tail, position, position + 1);
      continue;
    }
    if (ahead == -1) {
      if (!has_room(position)) return RingStep::wait;
      const State state = state_of(word);
      const bool moment = state == kTaking || state == kClaimed || state == kDone;
      return moment ? RingStep::busy : RingStep::grow;
    }
    if (ahead < 0) refuse();
    if (!has_room(position)) return RingStep::wait;
    // From here on each success is one more position claimed, in order (R2).
    Place place = first;
    do {
      const std::uint64_t mine = make(place.lap, kClaimed, me.bits(), 0);
      word = make(place.lap, kFree, 0, 0);
      if (!place.slot->word.compare_exchange_strong(word, mine)) break;
      out[got] = {place.slot, position + got, mine};
      place.slot->deliveries = 0;
      if (++got == out.size() || !has_room(position + got)) break;
      place = place_of(position + got);
    } while (place.ring == first.ring);
    if (got == 0) continue;
    advance(header_->tail, position, position + got);
    // A wake-up for this producer may have stood for more room than it takes.
    if ((header_->room.load() & kWaiting) != 0 && has_room(position + got)) wake(header_->room, 1);
    return RingStep::done;
  }
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

// The first position that is not taken may be passed over: true if it has been. Otherwise it is
// READY, being written, not put yet, or a STOP.
template <class Machine>
bool Ring<Machine>::skip_or_help(std::uint64_t position, Place place, std::uint64_t word) const {
  const auto ahead = static_cast<std::int32_t>(lap_of(word) - place.lap);
  if (ahead == 0) {
    const State state = state_of(word);
    if (state == kTomb) {
      if (!place.slot->word.compare_exchange_strong(word, freed(word))) return true;  // look again
    } else if (state != kTaking && state != kLeased && state != kDone) {
      return false;
    }
  } else if (ahead == -1) {
    return false;  // not put yet, while the slot's message of the lap before is held or came back
  } else if (ahead < 0) {
    refuse();
  }
  if (advance(header_->head, position, position + 1)) wake(header_->room, 1);
  return true;
}

template <class Machine>
RingStep Ring<Machine>::take(Tag me, std::span<Held> out, std::size_t& got, bool lease) const {
  got = 0;
  for (;;) {
    if (header_->late.load() != header_->late_done.load()) {
      got = take_late(me, out, lease);
      if (got != 0) return RingStep::done;
    }
    const std::uint64_t position = header_->head.load();
    const Place first = place_of(position);
    __builtin_prefetch(first.next, 1);
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
      if (advance(header_->head, position, position + got)) {
        wake(header_->room, static_cast<int>(std::min<std::size_t>(got, INT_MAX)));
      }
      for (const Held& held : out.first(got)) {
        if (held.slot->deliveries != UINT8_MAX) ++held.slot->deliveries;
      }
      // The wake-up for the next message may have been this one's, who waited for an earlier.
      if ((header_->items.load() & kWaiting) != 0) {
        place = place_of(position + got);
        word = place.slot->word.load();
        const bool ready = lap_of(word) == place.lap && state_of(word) == kReady;
        if (ready || stops(word, place.lap)) wake(header_->items, 1);
      }
      return RingStep::done;
    }
    if (lap_of(word) == first.lap && state_of(word) == kReady) continue;  // lost to another
    if (skip_or_help(position, first, word)) continue;
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
        if (slots[i].deliveries != UINT8_MAX) ++slots[i].deliveries;
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
  for (;;) {
    if (has_late()) return RingStep::done;
    const std::uint64_t position = header_->head.load();
    const Place first = place_of(position);
    const std::uint64_t word = first.slot->word.load();
    if (lap_of(word) == first.lap && state_of(word) == kReady) return RingStep::done;
    if (skip_or_help(position, first, word)) continue;
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
void Ring<Machine>::release(const Held& held) const {
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
  std::uint64_t head = header_->head.load();
  for (;;) {
    const bool plain =
        header_->late.load() == header_->late_done.load() && header_->last_tomb.load() <= head;
    if (!plain) break;
    const std::uint64_t tail = header_->tail.load();
    const std::uint64_t again = header_->head.load();
    if (head == again) return tail > head ? tail - head : 0;
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
