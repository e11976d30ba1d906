#pragma once

#include <compare>
#include <cstdint>

namespace brood::detail {

/// Who holds something: a record of the registry and the generation in which it was taken, in 28
/// bits, so that a word can say both what is held and by whom. A stale tag is recognised by its
/// generation; 2^18 registrations of the same record pass before one repeats.
class Tag {
 public:
  static constexpr std::uint32_t kSlotBits = 10;
  static constexpr std::uint32_t kGenerationBits = 18;
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
  [[nodiscard]] constexpr std::uint32_t generation() const { return bits_ >> kSlotBits; }
  friend constexpr auto operator<=>(Tag, Tag) = default;

 private:
  std::uint32_t bits_ = 0;
};

}  // namespace brood::detail
