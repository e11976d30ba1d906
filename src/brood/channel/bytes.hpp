// Layer: channel
// Where encoded values are written to and read from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <brood/memory/handle.hpp>

namespace brood::detail {

class DescriptorOutbox;
class DescriptorInbox;

/// Takes bytes one after the other. The subclass says where they go, so a value is encoded straight
/// into its place (a block of shared memory, a page of results) and not copied afterwards.
///
/// Used by one thread at a time. When writing throws, what was written so far is of no use.
class ByteSink {
 public:
  ByteSink(const ByteSink&) = delete;
  ByteSink& operator=(const ByteSink&) = delete;
  virtual ~ByteSink() = default;

  /// Copies `size` bytes from `from`, which may be null if `size` is 0. Throws what grow() throws.
  void write(const void* from, std::size_t size) {
    if (size > room()) [[unlikely]]
      grow(size);
    if (size != 0) std::memcpy(cursor_, from, size);
    cursor_ += size;
  }

  /// A handle went into the bytes, which only name its object: whoever has the bytes keeps it until
  /// they have been decoded for the last time.
  void keep(Handle handle) { kept_.push_back(std::move(handle)); }
  /// What is to be kept for the bytes that were written.
  [[nodiscard]] std::vector<Handle> take_kept() { return std::exchange(kept_, {}); }
  [[nodiscard]] const std::vector<Handle>& kept() const { return kept_; }
  [[nodiscard]] bool keeps() const { return !kept_.empty(); }

  /// Bytes written since the buffer was set.
  [[nodiscard]] std::size_t written() const { return static_cast<std::size_t>(cursor_ - begin_); }

  /// Where descriptors go that belong to what is written; null where they cannot travel.
  [[nodiscard]] DescriptorOutbox* outbox() const { return outbox_; }
  void set_outbox(DescriptorOutbox* outbox) { outbox_ = outbox; }

 protected:
  ByteSink() = default;

  /// Makes room for at least `at_least` more bytes behind those written, by set_buffer(); throws if
  /// it cannot. What was written must be in the new buffer too: values are contiguous.
  virtual void grow(std::size_t at_least) = 0;

  /// From now on the bytes lie at [begin, begin + capacity), of which `used` are written.
  void set_buffer(std::byte* begin, std::size_t used, std::size_t capacity) {
    begin_ = begin;
    cursor_ = begin + used;
    limit_ = begin + capacity;
  }
  [[nodiscard]] std::size_t room() const { return static_cast<std::size_t>(limit_ - cursor_); }
  [[nodiscard]] std::byte* begin() const { return begin_; }

 private:
  std::byte* begin_ = nullptr;
  std::byte* cursor_ = nullptr;
  std::byte* limit_ = nullptr;
  std::vector<Handle> kept_;
  DescriptorOutbox* outbox_ = nullptr;
};

/// Writes to private memory that grows as needed.
class VectorSink final : public ByteSink {
 public:
  VectorSink() = default;
  explicit VectorSink(std::size_t capacity) { reserve(capacity); }

  /// What was written, until more is.
  [[nodiscard]] std::span<const std::byte> bytes() const { return {begin(), written()}; }
  /// What was written; the sink is empty afterwards.
  [[nodiscard]] std::vector<std::byte> take() {
    buffer_.resize(written());
    set_buffer(nullptr, 0, 0);
    return std::exchange(buffer_, {});
  }
  /// Forgets what was written and keeps the memory.
  void clear() { set_buffer(buffer_.data(), 0, buffer_.size()); }

 private:
  void grow(std::size_t at_least) override;
  void reserve(std::size_t capacity);

  std::vector<std::byte> buffer_;
};

/// Reads bytes that another process wrote, and trusts none of them: whatever they say, it never
/// reads beyond its span. The span must not change or go away while it is read.
class ByteSource {
 public:
  /// `inbox`: the descriptors that came with the bytes, if any could.
  explicit ByteSource(std::span<const std::byte> bytes, DescriptorInbox* inbox = nullptr)
      : begin_(bytes.data()), cursor_(begin_), end_(begin_ + bytes.size()), inbox_(inbox) {}

  [[nodiscard]] DescriptorInbox* inbox() const { return inbox_; }

  /// Copies the next `size` bytes to `to`. Throws DecodeError if there are fewer.
  void read(void* to, std::size_t size) {
    const std::byte* from = take(size);
    if (size != 0) std::memcpy(to, from, size);
  }

  /// The next `size` bytes where they are, unaligned. Throws DecodeError if there are fewer.
  const std::byte* take(std::size_t size) {
    if (size > remaining()) [[unlikely]]
      throw_truncated(size);
    return std::exchange(cursor_, cursor_ + size);
  }

  [[nodiscard]] std::size_t remaining() const { return static_cast<std::size_t>(end_ - cursor_); }
  [[nodiscard]] std::size_t position() const { return static_cast<std::size_t>(cursor_ - begin_); }
  /// Whether the next byte is at a multiple of `alignment` in memory.
  [[nodiscard]] bool is_aligned(std::size_t alignment) const {
    return reinterpret_cast<std::uintptr_t>(cursor_) % alignment == 0;
  }

  /// Throws DecodeError: the bytes at the present position are not what they should be, as in
  /// "a bool" or "the index of a variant".
  [[noreturn]] void throw_corrupt(const char* what) const;

 private:
  [[noreturn]] void throw_truncated(std::size_t wanted) const;

  const std::byte* begin_;
  const std::byte* cursor_;
  const std::byte* end_;
  DescriptorInbox* inbox_;
};

}  // namespace brood::detail
