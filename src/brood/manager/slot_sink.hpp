#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include <brood/channel/bytes.hpp>
#include <brood/memory/heap.hpp>

namespace brood::detail {

/// Encodes into a slot, or, what does not fit there, into a block of the heap.
class SlotSink final : public ByteSink {
 public:
  SlotSink(std::span<std::byte> room, Heap& heap) : room_(room), heap_(&heap) {
    set_buffer(room.data(), 0, room.size());
  }
  SlotSink(const SlotSink&) = delete;
  SlotSink& operator=(const SlotSink&) = delete;
  ~SlotSink() override { heap_->free(block_); }

  /// Forgets what was written.
  void restart() {
    static_cast<void>(take_kept());
    heap_->free(release());
    set_buffer(room_.data(), 0, room_.size());
  }

  /// The block, if it did not fit; the caller frees it.
  [[nodiscard]] Block release() { return std::exchange(block_, {}); }
  [[nodiscard]] const Block& block() const { return block_; }

 private:
  void grow(std::size_t at_least) override {
    const std::size_t used = written();
    Block larger = heap_->allocate(used + (at_least > used ? at_least : used));
    if (used > 0) std::memcpy(larger.data, begin(), used);
    heap_->free(block_);
    block_ = larger;
    set_buffer(block_.data, used, block_.bytes);
  }

  std::span<std::byte> room_;
  Heap* heap_;
  Block block_;
};

}  // namespace brood::detail
