#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <brood/sync/records.hpp>

namespace brood::detail {

/// The records of a List, held: values in an order. As HeldRecords.
class HeldList : public HeldRecords {
 public:
  using HeldRecords::HeldRecords;

  [[nodiscard]] std::uint64_t size() const { return count(); }
  [[nodiscard]] Word* at(std::uint64_t i) const { return record(i); }
  void set(std::uint64_t i, const Part& value) {
    assign(record(i), layout_.value_words, layout_.value_in_cell, value);
  }

  /// Adds values behind the end in three steps: room for them, then each, then all of them at once
  /// belong to the list. Whatever comes in between, an exception too, is undone by unstage().
  void reserve(std::uint64_t more);
  void stage(const Part& value);
  void commit_staged();
  void unstage() noexcept { settle(); }

  /// Shortens it to `size`.
  void truncate(std::uint64_t size);
  /// Puts records in another order, as one step: the one at `order[i]` comes to i. `order` has each
  /// record once, staged ones too; of them the first `keep` stay. Throws SharedMemoryFull.
  void arrange(std::span<const std::uint32_t> order, std::uint64_t keep);

 private:
  void rebuild(std::uint64_t capacity, std::span<const std::uint32_t> order, std::uint64_t keep);
};

}  // namespace brood::detail
