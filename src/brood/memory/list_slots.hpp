#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace brood::detail {

using ListValue =
    std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<std::byte>>;

/// What stands at the start of a list; see docs/design/shareable_list.md.
struct ListHeader {
  static constexpr std::uint64_t kMagic = 0x31305453'494C5242;  // "BRLIST01"
  static constexpr std::uint64_t kVersion = 1;

  std::atomic<std::uint64_t> magic;
  std::atomic<std::uint64_t> version;
  std::atomic<std::uint64_t> count;
  std::atomic<std::uint64_t> bytes;  // of all that follows from the counts and rooms
  std::array<std::uint64_t, 4> reserved;
};
static_assert(sizeof(ListHeader) == 64);

/// One place of a list. An integer and a number have a cell each; text lies in one of two buffers
/// of `room` bytes elsewhere.
struct ListSlot {
  std::atomic<std::uint64_t> word;  // ListWord: what it holds now
  std::atomic<std::uint64_t> integer;
  std::atomic<std::uint64_t> number;
  std::atomic<std::uint64_t> room;  // constant
};
static_assert(sizeof(ListSlot) == 32);

/// What a slot holds, in one word: every change of it is one compare-and-swap.
struct ListWord {
  std::uint8_t kind = 0;  // index of ListValue
  bool truth = false;     // the value of a bool
  bool second = false;    // which buffer is the current one, whatever the kind is
  std::uint32_t length = 0;
  std::uint32_t sequence = 0;

  static constexpr unsigned kSequenceBits = 27;
  [[nodiscard]] constexpr std::uint64_t pack() const {
    return std::uint64_t{kind} | std::uint64_t{truth} << 3U | std::uint64_t{second} << 4U |
           std::uint64_t{length} << 5U | std::uint64_t{sequence} << 37U;
  }
  static constexpr ListWord unpack(std::uint64_t word) {
    return {.kind = static_cast<std::uint8_t>(word & 7U),
            .truth = (word >> 3U & 1U) != 0,
            .second = (word >> 4U & 1U) != 0,
            .length = static_cast<std::uint32_t>(word >> 5U),
            .sequence = static_cast<std::uint32_t>(word >> 37U)};
  }
  [[nodiscard]] constexpr ListWord next(std::uint8_t with_kind) const {
    ListWord word{.kind = with_kind, .second = second};
    word.sequence = (sequence + 1) & ((1U << kSequenceBits) - 1);
    return word;
  }
};

/// The slots of a list in memory that anybody may write to.
///
/// Any number of processes may call get() and set_small() at once; set_text() of one slot one at a
/// time, whoever sees to that. Whoever is killed in the middle leaves the old value. What the
/// memory says is checked: the counts and rooms once, by the constructor, which remembers them, all
/// else whenever it is read. The memory is aligned to 8 bytes.
class ListSlots {
 public:
  static constexpr std::size_t kMostRoom = 0xffff'fff8;

  /// Throws ArgumentError for a value that is too long.
  static std::size_t bytes_needed(std::span<const ListValue> values, std::size_t least_room);
  /// Writes a list to zeros that nobody else sees yet.
  static void format(std::span<std::byte> memory, std::span<const ListValue> values,
                     std::size_t least_room);

  /// Throws DecodeError if the memory is no list.
  explicit ListSlots(std::span<std::byte> memory);

  [[nodiscard]] std::size_t size() const { return places_.size(); }
  [[nodiscard]] std::size_t room(std::size_t index) const { return places_[index].room; }

  /// Nullopt when it changed whenever it was looked at. Throws DecodeError.
  [[nodiscard]] std::optional<ListValue> get(std::size_t index) const;
  /// Of a value that is no text.
  void set_small(std::size_t index, const ListValue& value) const;
  /// Of text that the slot has room for. False: somebody else sets it too, who may not.
  [[nodiscard]] bool set_text(std::size_t index, std::uint8_t kind,
                              std::span<const std::byte> text) const;

  static bool is_text(const ListValue& value) { return value.index() >= 4; }
  static std::span<const std::byte> text_of(const ListValue& value);

 private:
  using Cell = std::atomic<std::uint64_t>;
  struct Place {
    std::size_t room;
    std::size_t at;  // of its first buffer
  };
  [[nodiscard]] ListSlot& slot(std::size_t index) const {
    return reinterpret_cast<ListSlot*>(memory_.data() + sizeof(ListHeader))[index];
  }
  [[nodiscard]] Cell* buffer(std::size_t index, bool second) const {
    const Place& place = places_[index];
    return reinterpret_cast<Cell*>(memory_.data() + place.at + (second ? place.room : 0));
  }

  std::span<std::byte> memory_;
  std::vector<Place> places_;
};

}  // namespace brood::detail
