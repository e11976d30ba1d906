// A ring in memory of the test, and what it needs of a family.
#pragma once

#include <brood/channel/ring.hpp>
#include <brood/channel/ring_wait.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace brood::detail {

/// Tests look inside through it.
struct RingPeek {
  template <class Machine>
  static std::uint32_t state(const typename Ring<Machine>::Held& held) {
    return Ring<Machine>::state_of(held.slot->word.load());
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
