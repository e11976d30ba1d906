#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <brood/sync/records.hpp>

namespace brood::detail {

/// A key as it is looked for: its hash and its bytes, the same for all equal keys, in all
/// processes.
struct KeyView {
  std::uint32_t hash = 0;
  /// As they lie in a record; of a cell, if its bytes are there in place.
  const std::uint64_t* words = nullptr;
  std::span<const std::byte> bytes{};  // of a cell
};

/// A hash of bytes, as good in each of its bits.
[[nodiscard]] std::uint32_t hash_bytes(std::span<const std::byte> bytes) noexcept;
[[nodiscard]] inline std::uint32_t hash_words(const std::uint64_t* words,
                                              std::size_t count) noexcept {
  std::uint64_t hash = 0x9e3779b97f4a7c15;
  for (std::size_t i = 0; i != count; ++i) {
    hash = (hash ^ words[i]) * 0xff51afd7ed558ccd;
    hash ^= hash >> 32U;
  }
  hash *= 0xc4ceb9fe1a85ec53;
  return static_cast<std::uint32_t>(hash >> 32U);
}

/// The records of a Dict, a Set or a Namespace, held: found by their keys, in the order in which
/// these came. As HeldRecords.
class HeldTable : public HeldRecords {
 public:
  using HeldRecords::HeldRecords;

  [[nodiscard]] std::uint64_t size() const { return body_ == nullptr ? 0 : load(body_->live); }
  /// The record with that key, or null.
  [[nodiscard]] Word* find(const KeyView& key) const {
    if (body_ == nullptr) return nullptr;
    const std::uint64_t mask = (std::uint64_t{1} << body_->index_bits) - 1;
    const std::uint64_t wanted = kLive | key.hash;
    const std::uint64_t end = count();
    std::uint64_t at = key.hash & mask;
    for (std::uint64_t tries = 0; tries <= mask; ++tries, at = (at + 1) & mask) {
      const std::uint32_t found = place(at);
      if (found == 0) return nullptr;
      if (found > end) continue;  // of one who was killed; or damaged
      Word* const it = record(found - 1);
      if (load(*it) == wanted && same_key(it, key)) return it;
    }
    return nullptr;
  }

  [[nodiscard]] const Word* key_of(const Word* record) const { return record + layout_.key_at(); }
  [[nodiscard]] Word* value_of(Word* record) const { return record + layout_.value_at(); }

  /// Adds a record with a key that is not there. Throws SharedMemoryFull.
  Word* insert(const KeyView& view, const Part& key, const Part& value);
  void set(Word* record, const Part& value) {
    assign(value_of(record), layout_.value_words, layout_.value_in_cell, value);
  }
  void erase(Word* record);
  void clear();
  /// The one whose key came last, or null.
  [[nodiscard]] Word* last();
  /// Calls `visit(record)` for each, in the order in which the keys came.
  template <class Visit>
  void for_each(Visit visit) const {
    const std::uint64_t end = count();
    for (std::uint64_t i = 0; i != end; ++i) {
      if (is_live(i)) visit(record(i));
    }
  }
  /// Room for as many records, so that none of them needs more memory.
  void reserve(std::uint64_t records);

 private:
  [[nodiscard]] bool same_key(const Word* record, const KeyView& key) const {
    const Word* const words = record + layout_.key_at();
    if (layout_.key_in_cell) return same_cell(words, key);
    for (std::size_t i = 0; i != layout_.key_words; ++i) {
      if (load(words[i]) != key.words[i]) return false;
    }
    return true;
  }
  [[nodiscard]] bool same_cell(const Word* cell, const KeyView& key) const;
  void rebuild(std::uint64_t capacity);
};

}  // namespace brood::detail
