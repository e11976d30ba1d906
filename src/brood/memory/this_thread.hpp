#pragma once

#include <atomic>
#include <cstdint>

#include <brood/memory/tag.hpp>

namespace brood::detail {

/// The calling thread as a participant of the family.
///
/// The thread that joined the family for its process has the process's tag; any other takes a slot
/// of the registry with its first operation that needs a tag, and gives it back when it ends, after
/// its thread_local objects are gone. A thread that ends while it holds something is dead to the
/// others, like one that was killed.
///
/// Across fork: a child that Brood starts has the tag that it was given. In a fork() that Brood did
/// not make, asking for a tag throws StateError: such a process is nobody in the family.
/// When the family ends, its threads have no tags; in the next one they take new ones.
class ThisThread {
 public:
  /// Its tag: one thread_local load. The first time throws StateError where there is no family and
  /// none can be founded, SharedMemoryFull when there are too many threads, SystemError.
  static Tag tag() {
    // Relaxed: only forget_all() writes it from elsewhere, and orders nothing.
    const std::uint32_t bits = tag_bits_.load(std::memory_order_relaxed);
    if (bits != 0) [[likely]]
      return Tag::from_bits(bits);
    return take();
  }

  /// The same; none when it has not needed one yet.
  static Tag tag_if_any() noexcept {
    return Tag::from_bits(tag_bits_.load(std::memory_order_relaxed));
  }

  /// For Member: the calling thread is now the process `tag`; the tags of the process are void.
  static void joined(Tag tag);
  static void forget_all() noexcept;

 private:
  static Tag take();

  static inline constinit thread_local std::atomic<std::uint32_t> tag_bits_{0};
};

}  // namespace brood::detail
