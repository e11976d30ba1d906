#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include <brood/memory/objects.hpp>

namespace brood::detail {

class Member;

/// What all handles of a process to one object have in common: private memory, which keeps the
/// segment mapped.
struct HandleBlock {
  std::shared_ptr<Member> member;
  ObjectRef ref;
  std::byte* payload = nullptr;
  std::size_t bytes = 0;
  std::atomic<std::size_t> count{1};  // handles; falls to 0 under the mutex of HandleTable only
};

/// A handle to a shared object: what every public class in shared memory has inside.
///
/// A value of 8 bytes; a copy costs one increment of a private counter. The first handle of a
/// process to an object makes the process one of its holders, the last one ends that. Any thread
/// may use its own handles; one handle object belongs to one thread at a time, as std::shared_ptr.
/// An object is gone when the last process that holds it ends or lets go. As bytes it is its
/// ObjectRef, and whoever sends the bytes keeps a handle until they have been decoded: see
/// ByteSink::keep.
///
/// A child by StartMethod::fork has its parent's handles too. In a copy of a process that is no
/// member of the family (fork(2) by the program itself) handles must not be used, but may be
/// destroyed. After the Runtime's end they may be used by this process, which is the last.
///
/// Empty when it was moved from. Example, in a public class: see docs/design/objects.md.
class Handle {
 public:
  Handle() = default;
  Handle(const Handle& other) noexcept : block_(other.block_) {
    // relaxed: whoever copies a handle holds one.
    if (block_ != nullptr) block_->count.fetch_add(1, std::memory_order_relaxed);
  }
  Handle(Handle&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Handle& operator=(Handle other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Handle() {
    if (block_ != nullptr) release(std::exchange(block_, nullptr));
  }

  /// A new object, whose payload is zero and may grow to `capacity` bytes. Throws StateError when
  /// this process is in no family and cannot found one; SharedMemoryFull.
  static Handle create(ObjectType type, std::size_t bytes, std::size_t capacity = 0);
  /// To an object that another process named. Throws DecodeError when there cannot be one, or it
  /// is of another type or smaller than `least`; ObjectGone; StateError.
  static Handle adopt(ObjectRef ref, ObjectType type, std::size_t least);

  explicit operator bool() const noexcept { return block_ != nullptr; }
  /// Throw StateError when it was moved from.
  [[nodiscard]] ObjectRef ref() const { return block().ref; }
  [[nodiscard]] std::span<std::byte> payload() const {
    const HandleBlock& found = block();
    return {found.payload, found.bytes};
  }
  [[nodiscard]] Member& member() const { return *block().member; }
  [[nodiscard]] std::size_t capacity() const;

  /// Whether both name the same object.
  friend bool operator==(const Handle& a, const Handle& b) noexcept { return a.block_ == b.block_; }
  [[nodiscard]] std::size_t hash() const noexcept { return std::hash<const void*>()(block_); }

  /// Lives on as long as the process.
  static void keep_for_life(Handle handle) noexcept { handle.block_ = nullptr; }

 private:
  friend class HandleTable;
  explicit Handle(HandleBlock* block) noexcept : block_(block) {}

  [[nodiscard]] const HandleBlock& block() const {
    if (block_ == nullptr) [[unlikely]]
      throw_empty();
    return *block_;
  }
  [[noreturn]] static void throw_empty();
  static void release(HandleBlock* block) noexcept;

  HandleBlock* block_ = nullptr;
};

/// The objects that this process holds: one per Member.
class HandleTable {
 public:
  explicit HandleTable(Member& member) : member_(&member) {}
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

  /// Of an object that was just created.
  Handle add(const std::shared_ptr<Member>& member, ObjectRef ref);
  /// Of an object that may be held already. Empty when it is gone.
  Handle find_or_adopt(const std::shared_ptr<Member>& member, ObjectRef ref);
  /// All that `dead` held, a process that has ended and whose record this process holds.
  std::vector<Handle> inherit(const std::shared_ptr<Member>& member, Tag dead);

  /// This process is about to be copied by fork, and the copy to be `child`: it will hold what this
  /// one holds. No other thread runs. Afterwards in this process: forked(); if there is no child,
  /// the record's end takes back what it held.
  void prepare_fork(Tag child);
  void forked() noexcept { prepared_for_ = Tag(); }
  /// In the copy, which is now `self`: keeps what was prepared for it, or else holds nothing: the
  /// handles that were copied are another process's.
  void begin_as(Tag self) noexcept;

  /// The number of objects that this process holds.
  [[nodiscard]] std::size_t size() const;

 private:
  friend class Handle;
  Handle insert(const std::shared_ptr<Member>& member, ObjectRef ref);
  void release(HandleBlock* block) noexcept;

  Member* member_;
  mutable std::mutex mutex_;
  std::unordered_map<std::uint32_t, HandleBlock*> blocks_;  // by index; guarded by mutex_
  Tag prepared_for_;
};

}  // namespace brood::detail
