#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include <brood/memory/tag.hpp>

namespace brood::detail {

/// What a thread sleeps on, for people who look at the family from outside: nothing depends on it,
/// and who is killed leaves it as it is. Written by the thread whose tag has the place.
struct alignas(64) WaitNote {
  std::atomic<std::uint64_t> at;     // offset of the first word that it sleeps on; 0: it does not
  std::atomic<std::uint64_t> since;  // steady clock, nanoseconds
};

/// One for each slot of the registry.
struct WaitNotes {
  std::array<WaitNote, Tag::kSlots> of;
};

}  // namespace brood::detail
