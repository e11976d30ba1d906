#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#include <brood/channel/bytes.hpp>
#include <brood/memory/heap.hpp>

namespace brood::detail {

/// Encodes straight into shared memory: a block of the heap that grows.
class HeapSink final : public ByteSink {
 public:
  explicit HeapSink(Heap& heap) : heap_(&heap) {}
  HeapSink(const HeapSink&) = delete;
  HeapSink& operator=(const HeapSink&) = delete;
  ~HeapSink() override { heap_->free(block_); }

  /// The block with what was written; the caller frees it, and takes what is kept for it
  /// (take_kept). Empty when nothing was.
  [[nodiscard]] Block release() { return std::exchange(block_, {}); }

 private:
  void grow(std::size_t at_least) override {
    const std::size_t used = written();
    Block larger = heap_->allocate(used + (at_least > used ? at_least : used) + kFirst);
    if (used > 0) std::memcpy(larger.data, block_.data, used);
    heap_->free(block_);
    block_ = larger;
    set_buffer(block_.data, used, block_.bytes);
  }

  static constexpr std::size_t kFirst = 192;
  Heap* heap_;
  Block block_;
};

}  // namespace brood::detail
