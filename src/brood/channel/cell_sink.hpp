#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include <brood/channel/bytes.hpp>
#include <brood/memory/heap.hpp>
#include <brood/sync/records.hpp>

namespace brood::detail {

/// The bytes of a value that becomes a cell of a record: in private memory as long as they fit into
/// its words, straight into a block of the heap when they do not, or when they name objects.
class CellSink final : public ByteSink {
 public:
  explicit CellSink(Heap& heap) : heap_(&heap) { set_buffer(small_.data(), 0, small_.size()); }
  CellSink(const CellSink&) = delete;
  CellSink& operator=(const CellSink&) = delete;
  ~CellSink() override {
    if (!block_.empty()) heap_->free(block_);
  }

  /// Writes what another sink has, and keeps what that keeps.
  template <class Sink>
  void take(const Sink& other) {
    const std::span<const std::byte> bytes = other.bytes();
    write(bytes.data(), bytes.size());
    for (const Handle& handle : other.kept()) keep(handle);
  }
  /// Nothing more will be written: the cell. Throws SharedMemoryFull.
  void seal(Part& part);
  /// The block is the container's now.
  void given() { block_ = {}; }

 private:
  void grow(std::size_t at_least) override;

  Heap* heap_;
  Block block_;
  std::array<std::byte, Cell::kInPlace> small_;  // NOLINT: written before it is read
};

/// The bytes of a key that is looked for, in private memory.
class KeySink final : public ByteSink {
 public:
  KeySink() { set_buffer(small_.data(), 0, small_.size()); }

  [[nodiscard]] std::span<const std::byte> bytes() const { return {begin(), written()}; }

 private:
  void grow(std::size_t at_least) override;

  std::vector<std::byte> large_;
  std::array<std::byte, 64> small_;  // NOLINT: written before it is read
};

}  // namespace brood::detail
