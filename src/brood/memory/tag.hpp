#pragma once

#include <compare>
#include <cstdint>

namespace brood::detail {

/// Who holds something: a participant of the registry and the generation in which it came, in 28
/// bits, so that a word can say both what is held and by whom. Participants are threads: slots
/// below kProcessSlots mean a process and the thread that joined the family for it, those above any
/// other thread. A stale tag is recognised by its generation; 2^16 registrations of the same slot
/// pass before one repeats, and slots are reused in turn.
class Tag {
 public:
  static constexpr std::uint32_t kSlotBits = 12;
  static constexpr std::uint32_t kGenerationBits = 16;
  static constexpr std::uint32_t kSlots = 1U << kSlotBits;
  static constexpr std::uint32_t kProcessSlots = 1024;
  static constexpr std::uint32_t kThreadSlots = kSlots - kProcessSlots;
  static constexpr std::uint32_t kBits = kSlotBits + kGenerationBits;
  static constexpr std::uint32_t kMaxGeneration = (1U << kGenerationBits) - 1;

  constexpr Tag() = default;
  constexpr Tag(std::uint32_t slot, std::uint32_t generation)
      : bits_(generation << kSlotBits | slot) {}
  static constexpr Tag from_bits(std::uint64_t bits) {
    Tag tag;
    tag.bits_ = static_cast<std::uint32_t>(bits & ((1U << kBits) - 1));
    return tag;
  }

  /// Nobody. Generations start at 1, so no record ever has this tag.
  [[nodiscard]] constexpr bool none() const { return bits_ == 0; }
  [[nodiscard]] constexpr std::uint32_t bits() const { return bits_; }
  [[nodiscard]] constexpr std::uint32_t slot() const { return bits_ & ((1U << kSlotBits) - 1); }
  [[nodiscard]] constexpr bool is_process() const { return slot() < kProcessSlots; }
  [[nodiscard]] constexpr std::uint32_t generation() const { return bits_ >> kSlotBits; }
  friend constexpr auto operator<=>(Tag, Tag) = default;

 private:
  std::uint32_t bits_ = 0;
};

}  // namespace brood::detail
