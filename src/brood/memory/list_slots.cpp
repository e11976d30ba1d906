#include <brood/memory/list_slots.hpp>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kUnit = sizeof(std::uint64_t);
constexpr std::uint8_t kBool = 1;
constexpr std::uint8_t kInteger = 2;
constexpr std::uint8_t kNumber = 3;
constexpr std::uint8_t kString = 4;
constexpr std::uint8_t kBytes = 5;
static_assert(std::variant_size_v<ListValue> == kBytes + 1);

/// How often a slot is looked at that changes all the time.
constexpr int kLooks = 1000;

std::size_t room_for(const ListValue& value, std::size_t least_room) {
  std::size_t room = std::max(least_room, kUnit);
  if (ListSlots::is_text(value)) room = std::max(room, ListSlots::text_of(value).size());
  if (room > ListSlots::kMostRoom) {
    throw ArgumentError(
        fmt::format("a slot of {} bytes: {} are the most", room, ListSlots::kMostRoom));
  }
  return (room + kUnit - 1) / kUnit * kUnit;
}

[[noreturn]] void refuse(std::string_view what) {
  throw DecodeError(fmt::format("this is no list of this version: {}", what));
}

// release: pairs with the acquire in load_text().
void store_text(std::atomic<std::uint64_t>* to, std::span<const std::byte> text) {
  for (std::size_t at = 0; at < text.size(); at += kUnit) {
    std::uint64_t unit = 0;
    std::memcpy(&unit, text.data() + at, std::min(kUnit, text.size() - at));
    to[at / kUnit].store(unit, std::memory_order_release);
  }
}

// SUBTLE: who reads here what a later set_text() wrote sees, by acquire, all that its writer saw,
// and that is a word other than the one by which this buffer was read.
void load_text(const std::atomic<std::uint64_t>* from, std::span<std::byte> text) {
  for (std::size_t at = 0; at < text.size(); at += kUnit) {
    const std::uint64_t unit = from[at / kUnit].load(std::memory_order_acquire);
    std::memcpy(text.data() + at, &unit, std::min(kUnit, text.size() - at));
  }
}

}  // namespace

std::span<const std::byte> ListSlots::text_of(const ListValue& value) {
  if (const auto* string = std::get_if<std::string>(&value)) {
    return std::as_bytes(std::span(*string));
  }
  return std::get<std::vector<std::byte>>(value);
}

std::size_t ListSlots::bytes_needed(std::span<const ListValue> values, std::size_t least_room) {
  std::size_t bytes = sizeof(ListHeader);
  for (const ListValue& value : values) {
    bytes += sizeof(ListSlot) + 2 * room_for(value, least_room);
  }
  return bytes;
}

void ListSlots::format(std::span<std::byte> memory, std::span<const ListValue> values,
                       std::size_t least_room) {
  auto& header = *new (memory.data()) ListHeader{};
  auto* slots = reinterpret_cast<ListSlot*>(memory.data() + sizeof(ListHeader));
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto& slot = *new (slots + i) ListSlot{};
    slot.room.store(room_for(values[i], least_room));
  }
  header.version.store(ListHeader::kVersion);
  header.count.store(values.size());
  header.bytes.store(bytes_needed(values, least_room));
  header.magic.store(ListHeader::kMagic);
  const ListSlots list(memory);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (is_text(values[i])) {
      static_cast<void>(
          list.set_text(i, static_cast<std::uint8_t>(values[i].index()), text_of(values[i])));
    } else {
      list.set_small(i, values[i]);
    }
  }
}

ListSlots::ListSlots(std::span<std::byte> memory) : memory_(memory) {
  if (memory.size() < sizeof(ListHeader)) refuse("it is too small");
  const auto& header = *reinterpret_cast<const ListHeader*>(memory.data());
  if (header.magic.load() != ListHeader::kMagic) refuse("wrong magic number");
  if (header.version.load() != ListHeader::kVersion) refuse("another layout");
  const std::uint64_t count = header.count.load();
  if (count > (memory.size() - sizeof(ListHeader)) / (sizeof(ListSlot) + 2 * kUnit)) {
    refuse("more slots than it has bytes for");
  }
  places_.reserve(count);
  std::size_t at = sizeof(ListHeader) + count * sizeof(ListSlot);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t room = slot(i).room.load(std::memory_order_relaxed);  // constant
    if (room < kUnit || room % kUnit != 0 || room > kMostRoom) refuse("the room of a slot");
    if (2 * room > memory.size() - at) refuse("the room of a slot is beyond its end");
    places_.push_back({.room = room, .at = at});
    at += 2 * room;
  }
  if (header.bytes.load() != at) refuse("its size");
}

std::optional<ListValue> ListSlots::get(std::size_t index) const {
  const ListSlot& at = slot(index);
  for (int look = 0; look < kLooks; ++look) {
    const std::uint64_t before = at.word.load();
    const ListWord word = ListWord::unpack(before);
    ListValue value;
    switch (word.kind) {
      case 0:
        return value;
      case kBool:
        return ListValue(word.truth);
      case kInteger:
        // acquire here and below: as in load_text().
        value = std::bit_cast<std::int64_t>(at.integer.load(std::memory_order_acquire));
        break;
      case kNumber:
        value = std::bit_cast<double>(at.number.load(std::memory_order_acquire));
        break;
      case kString:
      case kBytes: {
        if (word.length > places_[index].room) {
          throw DecodeError(
              fmt::format("slot {} of a list says that it holds {} bytes and has room "
                          "for {}",
                          index, word.length, places_[index].room));
        }
        if (word.kind == kString) {
          std::string text(word.length, '\0');
          load_text(buffer(index, word.second), std::as_writable_bytes(std::span(text)));
          value = std::move(text);
        } else {
          std::vector<std::byte> text(word.length);
          load_text(buffer(index, word.second), text);
          value = std::move(text);
        }
        break;
      }
      default:
        throw DecodeError(fmt::format("slot {} of a list holds something unknown", index));
    }
    if (at.word.load() == before) return value;
  }
  return std::nullopt;
}

// SUBTLE: the cell is written before the word says that it counts. If the word says so already, the
// store is the commit. Two who set the same cell at once may each see the other's value behind
// their own; either is a value that was set at that time. See docs/design/shareable_list.md.
void ListSlots::set_small(std::size_t index, const ListValue& value) const {
  ListSlot& at = slot(index);
  const auto kind = static_cast<std::uint8_t>(value.index());
  assert(!is_text(value));
  for (;;) {
    std::uint64_t before = at.word.load();
    // release: pairs with the acquire in get().
    if (kind == kInteger) {
      at.integer.store(std::bit_cast<std::uint64_t>(std::get<std::int64_t>(value)),
                       std::memory_order_release);
    } else if (kind == kNumber) {
      at.number.store(std::bit_cast<std::uint64_t>(std::get<double>(value)),
                      std::memory_order_release);
    }
    if ((kind == kInteger || kind == kNumber) && ListWord::unpack(before).kind == kind) return;
    ListWord word = ListWord::unpack(before).next(kind);
    word.truth = kind == kBool && std::get<bool>(value);
    if (at.word.compare_exchange_strong(before, word.pack())) return;
  }
}

bool ListSlots::set_text(std::size_t index, std::uint8_t kind,
                         std::span<const std::byte> text) const {
  ListSlot& at = slot(index);
  assert(text.size() <= places_[index].room);
  std::uint64_t before = at.word.load();
  const bool other = !ListWord::unpack(before).second;
  store_text(buffer(index, other), text);
  // Small values may come and go meanwhile; they leave the buffers alone.
  do {
    if (ListWord::unpack(before).second == other) return false;
    ListWord word = ListWord::unpack(before).next(kind);
    word.second = other;
    word.length = static_cast<std::uint32_t>(text.size());
    if (at.word.compare_exchange_strong(before, word.pack())) return true;
  } while (true);
}

}  // namespace brood::detail
