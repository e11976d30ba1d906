// Layer: channel
// Waiting on a Ring: for room, for messages, for the dead to be found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <brood/channel/ring_steps.hpp>

namespace brood::detail {

/// What waiting needs of the family. `Member` is behind the real one, see QueueWorld; a scheduler
/// behind that of the tests.
///
///     Tag self();
///     std::uint32_t epoch();                  the death epoch
///     bool dead(Tag);
///     bool settled();                         dead() may say the same next time
///     void clean(Held);                       frees what a message names
///     bool grow(ring);                        installs a larger ring; false: there is no memory
///     auto look();                            before looking at the ring; then
///     void sleep(look, word, expected);       until the word or the epoch changes, or the deadline
///     void nap(round);                        for a moment, longer from round to round
///     bool spin();                            true: look once more before going to sleep
///     bool passed();                          the deadline

/// Looks for what the dead hold, if anybody was born or died since the last time. True: it did.
template <class Machine, class World>
bool heal(const Ring<Machine>& ring, World& world) {
  const std::uint32_t epoch = world.epoch();
  if (!ring.must_recover(epoch)) return false;
  ring.recover(
      world.self(), epoch, [&world](Tag tag) { return world.dead(tag); },
      [&world](const auto& held) { world.clean(held); }, [&world] { return world.settled(); });
  return true;
}

/// Repeats `step(thorough)` until it is done, or closed, or the deadline has passed: then the last
/// is returned. `event` is what to sleep on.
template <class Machine, class World, class Step>
RingStep wait_for(const Ring<Machine>& ring, World& world,
                  typename Ring<Machine>::template Atom<std::uint32_t>& event, const Step& step) {
  const auto over = [](RingStep now) { return now == RingStep::done || now == RingStep::closed; };
  constexpr unsigned kBrief = 3;  // looks for what comes in a stream
  for (unsigned looks = 0, naps = 0;; ++looks) {
    const auto look = world.look();
    heal(ring, world);
    RingStep now = step(looks >= kBrief);
    if (now == RingStep::wait) {
      if (world.spin()) continue;
      now = step(true);
    }
    if (over(now)) return now;
    if (now == RingStep::grow && world.grow(ring)) continue;
    if (world.passed()) return now;
    if (now != RingStep::wait) {
      world.nap(naps++);
      continue;
    }
    const std::uint32_t expected = Ring<Machine>::announce_sleep(event);
    now = step(true);
    if (over(now)) return now;
    if (now == RingStep::wait) world.sleep(look, event, expected);
  }
}

/// Ring::claim, as long as there is no room.
template <class Machine, class World>
RingStep wait_to_claim(const Ring<Machine>& ring, World& world, std::span<RingSlot<Machine>> out,
                       std::size_t& got, typename Ring<Machine>::Hint& hint) {
  return wait_for(ring, world, ring.room(), [&](bool thorough) {
    return ring.claim(world.self(), out, got, hint, thorough);
  });
}

/// Ring::take, as long as there is nothing.
template <class Machine, class World>
RingStep wait_to_take(const Ring<Machine>& ring, World& world, std::span<RingSlot<Machine>> out,
                      std::size_t& got, bool lease, typename Ring<Machine>::Hint& hint) {
  return wait_for(ring, world, ring.items(),
                  [&](bool) { return ring.take(world.self(), out, got, lease, hint); });
}

/// One look by somebody who takes nothing: `done` or `closed` if a take would not wait; otherwise
/// he sleeps on items() as long as they hold `expected`, and tells Ring::pass_on after every sleep
/// what he found then.
template <class Machine, class World>
RingStep look_for_message(const Ring<Machine>& ring, World& world, std::uint32_t& expected) {
  heal(ring, world);
  RingStep now = ring.peek(world.self());
  if (now == RingStep::done || now == RingStep::closed) return now;
  expected = Ring<Machine>::announce_sleep(ring.items());
  return ring.peek(world.self());
}

/// Ends the queue, and tells all.
template <class Machine, class World>
void close(const Ring<Machine>& ring, World& world) {
  for (unsigned naps = 0; !ring.close(); ++naps) {
    heal(ring, world);
    world.nap(naps);
  }
}

/// What World::grow does when it has memory for the next ring: false if that is not used.
template <class Machine>
bool install_and_stop(const Ring<Machine>& ring, typename Ring<Machine>::Growth growth,
                      std::uint64_t slots_at) {
  const bool used = ring.install(growth, slots_at);
  ring.stop();  // busy: the next producer does it
  return used;
}

}  // namespace brood::detail
