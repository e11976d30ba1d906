#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <brood/memory/granule_run.hpp>
#include <brood/memory/tag.hpp>

namespace brood::detail {

/// A run of granules of the segment.
struct Extent {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

/// The segment's data, handed out in runs of granules (64 KiB to 1 MiB each).
///
/// One word per granule says who holds it: {group 32 | tag 28}, 0 when it is free. It changes hands
/// by one compare-and-swap, so at any instant every granule is free or somebody's, and what a dead
/// process held is found by reading the directory. Any process may allocate and release at once.
/// Granules in the groups of the heap are in the same directory, and HeapBoard's business.
///
/// Killed while allocating: the granules taken so far carry the tag of the dead. Killed while
/// releasing: those not yet released do. Either way release_all() of the dead's tag frees them, and
/// may itself be killed and run again.
class Extents {
 public:
  /// `high_water`: shared; no granule at or above it was ever taken, so that nobody reads (and so
  /// materialises) the directory of a large reserve to its end.
  Extents(std::byte* data, std::atomic<std::uint64_t>* directory, std::size_t granules,
          std::size_t granule_bytes, std::atomic<std::uint64_t>& high_water)
      : data_(data),
        directory_(directory),
        granules_(granules),
        granule_bytes_(granule_bytes),
        high_water_(&high_water) {}

  [[nodiscard]] std::size_t granule_bytes() const { return granule_bytes_; }
  [[nodiscard]] std::size_t total_bytes() const { return granules_ * granule_bytes_; }

  /// At least `bytes` in one piece, held by `owner` in its `group` (owner's own numbering below
  /// kRecovering, one for its whole process, to release several at once). Pages come on first touch
  /// or by populate_pages; what has room for huge pages begins where one can, as long as there is
  /// such a place. Contents: whatever was there. Throws SharedMemoryFull.
  Extent allocate(std::size_t bytes, Tag owner, std::uint32_t group);

  /// Gives it back; its pages go back to the system if `discard`. Only by who holds it.
  void release(Extent extent, Tag owner, std::uint32_t group, bool discard) noexcept;

  /// Frees what the dead left, but for the heap's; `by` is the caller. Any number may run it at
  /// once, be killed, and run it again: what a caller was at then carries its own tag. Returns
  /// bytes.
  std::size_t release_all(Tag dead, Tag by) noexcept;
  /// Frees all that the caller holds in `group`. Returns bytes.
  std::size_t release_group(Tag owner, std::uint32_t group) noexcept;

  /// Says that `bytes` are not to be had, and how full it is.
  [[noreturn]] void refuse(std::size_t bytes) const;

  /// Bytes held by anybody, or by `owner`, the heap's included.
  [[nodiscard]] std::size_t used_bytes() const noexcept;
  [[nodiscard]] std::size_t used_bytes(Tag owner) const noexcept;

 private:
  /// Granules that are being recovered from the dead.
  static constexpr std::uint32_t kRecovering = kHeapGroups - 1;

  [[nodiscard]] std::size_t taken_below() const noexcept;
  /// Those that claim(index) makes or finds the caller's own. Returns bytes.
  template <class Claim>
  std::size_t free_those(Claim claim) noexcept;

  std::byte* data_;
  std::atomic<std::uint64_t>* directory_;
  std::size_t granules_;
  std::size_t granule_bytes_;
  std::atomic<std::uint64_t>* high_water_;
};

}  // namespace brood::detail
