// A ring in memory of the test, and what it needs of a family.
#pragma once

#include <brood/channel/ring_wait.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace brood::detail {

/// Tests look inside through it.
struct RingPeek {
  template <class Machine>
  static std::uint32_t state(const typename Ring<Machine>::Held& held) {
    return Ring<Machine>::state_of(held.slot->word.load());
  }
  /// All of it, for people.
  template <class Machine>
  static std::string show(const Ring<Machine>& ring) {
    const auto& h = *ring.header_;
    std::string text = "tail " + std::to_string(h.tail.load()) + " head " +
                       std::to_string(h.head.load()) + " late " + std::to_string(h.late.load()) +
                       "/" + std::to_string(h.late_done.load()) + " items " +
                       std::to_string(h.items.load()) + " room " + std::to_string(h.room.load()) +
                       " closing " + std::to_string(h.closing.load()) + " seen epoch " +
                       std::to_string(h.seen_epoch.load());
    for (std::uint32_t k = 0; k <= ring.last_ring(); ++k) {
      text += "; ring " + std::to_string(k) + " from " + std::to_string(h.rings[k].base.load());
      for (std::size_t i = 0; i != std::size_t{1} << ring.bits_of(k); ++i) {
        const std::uint64_t word = ring.slots_of(k)[i].word.load();
        text += " " + std::to_string(ring.lap_of(word)) + ":" +
                std::to_string(ring.state_of(word)) + ((word & ring.kStop) != 0 ? "S" : "") + "(" +
                std::to_string(Tag::from_bits(word).slot()) + ")";
      }
    }
    return text;
  }
  template <class Machine>
  static Tag owner(const typename Ring<Machine>::Held& held) {
    return Tag::from_bits(held.slot->word.load());
  }
};

/// Where rings of a test lie: the header at offset 64, the first slots behind, more as it grows.
template <class Machine>
struct RingArea {
  static constexpr std::size_t kBytes = 1 << 18;
  alignas(64) std::byte bytes[kBytes];
  std::atomic<std::uint64_t> used;

  std::uint64_t allocate(std::size_t size) {
    const std::uint64_t at = used.fetch_add((size + 63) / 64 * 64);
    return at + size <= kBytes ? at : 0;
  }
  Ring<Machine> format(typename Ring<Machine>::Shape shape) {
    used.store(64);
    const std::uint64_t header = allocate(Ring<Machine>::header_bytes());
    return Ring<Machine>::format(bytes, header,
                                 allocate(Ring<Machine>::slots_bytes(shape.first_bits)), shape);
  }
  Ring<Machine> attach() { return Ring<Machine>::attach(bytes, 64); }
  bool grow(const Ring<Machine>& ring) {
    const auto growth = ring.growth();
    if (!growth.possible) return false;
    if (!growth.missing) {
      ring.stop();
      return true;
    }
    const std::uint64_t at = allocate(Ring<Machine>::slots_bytes(growth.bits));
    if (at == 0) return false;
    Ring<Machine>::clear_slots(bytes + at, growth.bits);
    install_and_stop(ring, growth, at);
    return true;
  }
};

}  // namespace brood::detail
