// Layer: channel
// What all queues are made of, whatever is in them: messages of bytes in a Ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <brood/channel/bytes.hpp>
#include <brood/channel/queue_side.hpp>
#include <brood/channel/ring_steps.hpp>
#include <brood/channel/watch.hpp>
#include <brood/memory/handle.hpp>
#include <brood/memory/heap.hpp>
#include <brood/memory/member.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// The bytes of one message, encoded before it has a place: in private memory as long as they fit
/// into a slot, in a block of the heap when they do not.
class QueueMessageSink final : public ByteSink {
 public:
  explicit QueueMessageSink(Heap& heap) : heap_(&heap) { set_buffer(small_, 0, sizeof(small_)); }
  QueueMessageSink(const QueueMessageSink&) = delete;
  QueueMessageSink& operator=(const QueueMessageSink&) = delete;
  ~QueueMessageSink() override { heap_->free(block_); }

  /// What was written, if it fits into a slot.
  [[nodiscard]] std::span<const std::byte> small() const { return {small_, written()}; }
  [[nodiscard]] const Block& block() const { return block_; }
  /// Nothing more will be written. What the bytes name needs links, which lie behind them in a
  /// block. Throws SharedMemoryFull.
  void seal();
  /// The block is somebody else's now.
  void forget_block() { block_ = {}; }

  /// What stands in front of the message in its block.
  struct Head {
    std::uint64_t position;  // in the queue
    std::uint64_t links;     // how many ObjectLinks there are, from links_at() on
  };
  static constexpr std::size_t kHead = 64;
  /// Where they are in a block with a message of `bytes`.
  static constexpr std::size_t links_at(std::size_t bytes) {
    return kHead + (bytes + sizeof(ObjectLink<>) - 1) / sizeof(ObjectLink<>) * sizeof(ObjectLink<>);
  }

 private:
  void grow(std::size_t at_least) override {
    const std::size_t used = written();
    const std::size_t more = at_least > used ? at_least : used;
    const Block larger = heap_->allocate(kHead + used + more);
    if (used > 0) std::memcpy(larger.data + kHead, begin(), used);
    heap_->free(block_);
    block_ = larger;
    set_buffer(block_.data + kHead, used, block_.bytes - kHead);
    new (block_.data) Head{};
  }

  Heap* heap_;
  Block block_;
  std::byte small_[Ring<>::kPayload];
};

/// A queue of bytes in the family's shared memory; what is in `Queue<T>` and its kin.
///
/// As Ring, whose view it is; waits as Member sleeps. Messages that do not fit into a slot are
/// blocks of the heap that belong to the queue (Heap::give) from just before their slot is
/// committed until just after it is taken, whoever dies. So are what holds the objects that the
/// message names: they live as long as it does. Throws SharedMemoryFull, QueueClosed where
/// it says so.
class QueueCore {
 public:
  using Held = Ring<>::Held;

  struct Shape {
    std::size_t maxsize = 0;       ///< 0: as many as there is memory for
    bool wait_for_memory = false;  ///< when the shared memory is full; else SharedMemoryFull
  };

  /// Where the Ring begins in the payload of a queue.
  static constexpr std::size_t kRingAt = 64;

  QueueCore(ObjectType type, Shape shape);
  /// That another process made. Throws DecodeError.
  explicit QueueCore(Handle handle);

  [[nodiscard]] const Handle& handle() const { return handle_; }
  [[nodiscard]] Heap& heap() const { return handle_.member().heap(); }
  [[nodiscard]] const Ring<>& ring() const { return ring_; }
  [[nodiscard]] std::size_t maxsize() const;
  [[nodiscard]] bool waits_for_memory() const { return header().wait_for_memory != 0; }

  /// Claims a slot; nothing when there is none until the deadline. Throws QueueClosed; and
  /// SharedMemoryFull.
  [[nodiscard]] std::optional<Held> claim(Deadline deadline) const {
    Held held;
    if (ring_.claim_one(handle_.member().self(), held, putting_.hint)) [[likely]]
      return held;
    return claim_slowly(deadline);
  }
  /// Puts what was encoded into a claimed slot. Does not throw.
  void put(const Held& held, QueueMessageSink& message) const;
  /// The same for a value whose bytes are the message, which fit.
  void put_image(const Held& held, const void* from, std::size_t size) const {
    write_image(held, from, size);
    ring_.commit(held);
  }

  /// Puts `count` values of `size` bytes, one behind the other at `from`, waiting for room. Throws
  /// QueueClosed, SharedMemoryFull: then the first ones are put.
  void put_images(const void* from, std::size_t count, std::size_t size) const;
  /// How many of them at once.
  static constexpr std::size_t kBatch = 64;

  enum class Taken : std::uint8_t { message, nothing, end };
  /// Takes a message, waiting for it until the deadline.
  Taken take(Held& held, bool lease, Deadline deadline) const {
    if (!ring_.must_recover(epoch()) &&
        ring_.take_one(handle_.member().self(), held, lease, taking_.hint)) [[likely]] {
      return Taken::message;
    }
    return take_slowly(held, lease, deadline);
  }
  /// Takes up to `out.size()` at once; at least one if there is a message until the deadline.
  Taken take(std::span<Held> out, std::size_t& got, bool lease, Deadline deadline) const;
  /// The bytes of a message that is held. Throws DecodeError.
  [[nodiscard]] ByteSource bytes(const Held& held) const {
    const Ring<>::Slot& slot = *held.slot;
    if (slot.kind == kInline && slot.size <= Ring<>::kPayload) [[likely]]
      return ByteSource({slot.payload, slot.size});
    return bytes_of_block(held);
  }
  /// It is taken for good: frees what it had.
  void release(const Held& held) const {
    if (held.slot->kind == kInline) [[likely]]
      return ring_.release(held);
    release_block(held);
  }
  void give_back(const Held& held) const { ring_.give_back(held); }

  /// A moment, longer from round to round, in which others may free memory.
  void wait_for_memory(unsigned round, Deadline deadline) const;
  void close() const;
  /// Ready when take() would not wait. Throws std::bad_alloc.
  [[nodiscard]] std::shared_ptr<Watch> watch() const;
  /// Until nothing is in it and nobody holds anything of it; false at the deadline.
  [[nodiscard]] bool join(Deadline deadline) const;

  /// As the Ring's, after a look for what the dead held: who has joined the dead need not wait for
  /// somebody to put or take before he learns what is left.
  [[nodiscard]] std::uint64_t size() const {
    look_for_dead();
    return ring_.size();
  }
  [[nodiscard]] bool full() const {
    look_for_dead();
    return ring_.full();
  }

 private:
  class World;
  class Watching;
  struct Header {  // in front of the ring's
    std::uint64_t maxsize;
    std::uint32_t wait_for_memory;
    std::uint32_t padding[13];
  };
  static_assert(sizeof(Header) == kRingAt);
  struct BlockRef {  // the payload of a message in a block
    std::uint64_t at;
    std::uint64_t bytes;
  };
  static constexpr RingKind kInline = 1;
  static constexpr RingKind kBlock = 2;

  [[nodiscard]] const Header& header() const {
    return *reinterpret_cast<const Header*>(handle_.payload().data());
  }
  [[nodiscard]] std::uint32_t epoch() const {
    return handle_.member().segment().header().death_epoch.load();
  }
  static void write_image(const Held& held, const void* from, std::size_t size) {
    std::memcpy(held.slot->payload, from, size);
    held.slot->size = static_cast<std::uint16_t>(size);
    held.slot->kind = kInline;
  }
  static Handle create(ObjectType type, const Shape& shape);
  static void free_block(Member& member, SharedOwner owner, const Held& held) noexcept;
  static void at_end(ObjectRef ref, std::span<std::byte> payload) noexcept;
  static const bool kEndKnown;
  static Ring<> ring_in(const Handle& handle);
  [[nodiscard]] std::optional<Held> claim_slowly(Deadline deadline) const;
  [[nodiscard]] std::size_t claim_slowly(std::span<Held> out, Deadline deadline) const;
  Taken take_slowly(Held& held, bool lease, Deadline deadline) const;
  void look_for_dead() const;
  [[nodiscard]] ByteSource bytes_of_block(const Held& held) const;
  void release_block(const Held& held) const;

  Handle handle_;
  Ring<> ring_;
  mutable QueueSide putting_;
  mutable QueueSide taking_;
};

}  // namespace brood::detail
