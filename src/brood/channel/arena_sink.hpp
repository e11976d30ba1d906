#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#include <brood/channel/bytes.hpp>
#include <brood/memory/arena.hpp>

namespace brood::detail {

/// Encodes straight into shared memory: a block of the arena that grows.
class ArenaSink final : public ByteSink {
 public:
  explicit ArenaSink(Arena& arena) : arena_(&arena) {}
  ArenaSink(const ArenaSink&) = delete;
  ArenaSink& operator=(const ArenaSink&) = delete;
  ~ArenaSink() override { arena_->free(block_); }

  /// The block with what was written; the caller frees it, and takes what is kept for it
  /// (take_kept). Empty when nothing was.
  [[nodiscard]] Block release() { return std::exchange(block_, {}); }

 private:
  void grow(std::size_t at_least) override {
    const std::size_t used = written();
    Block larger = arena_->allocate(used + (at_least > used ? at_least : used) + kFirst);
    if (used > 0) std::memcpy(larger.data, block_.data, used);
    arena_->free(block_);
    block_ = larger;
    set_buffer(block_.data, used, block_.bytes);
  }

  static constexpr std::size_t kFirst = 192;
  Arena* arena_;
  Block block_;
};

}  // namespace brood::detail
