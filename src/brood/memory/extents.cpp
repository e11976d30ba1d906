#include <brood/memory/extents.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/memory_file.hpp>

namespace brood::detail {

Extent Extents::allocate(std::size_t bytes, Tag owner, std::uint32_t group) {
  const std::size_t wanted =
      std::max<std::size_t>(1, bytes / granule_bytes_ + (bytes % granule_bytes_ != 0 ? 1 : 0));
  // Two searches can spoil each other's run; that both fail again and again is not to be expected.
  constexpr int kAttempts = 4;
  for (int i = 0; i < kAttempts && wanted <= granules_; ++i) {
    const RunStart start = i == 0 ? huge_page_start(data_, granule_bytes_, wanted) : RunStart{};
    const std::size_t first =
        take_run(directory_, granules_, *high_water_, wanted, granule_word(owner, group), 0, start);
    if (first != kNoRun) return {data_ + first * granule_bytes_, wanted * granule_bytes_};
  }
  refuse(bytes);
}

void Extents::refuse(std::size_t bytes) const {
  throw SharedMemoryFull(
      fmt::format("no {} bytes in one piece are left of the family's {} MiB of shared memory ({} "
                  "MiB are in use): fetch results sooner, or pass less at once",
                  bytes, total_bytes() >> 20U, used_bytes() >> 20U));
}

void Extents::release(Extent extent, Tag owner, std::uint32_t group, bool discard) noexcept {
  const auto first = static_cast<std::size_t>(extent.data - data_) / granule_bytes_;
  const std::size_t count = extent.bytes / granule_bytes_;
  // Discard before the words are freed: afterwards the pages may be somebody else's.
  if (discard) discard_pages(extent.data, extent.bytes);
  for (std::size_t i = first; i < first + count; ++i) {
    std::uint64_t expected = granule_word(owner, group);
    directory_[i].compare_exchange_strong(expected, 0, std::memory_order_release);
  }
}

std::size_t Extents::taken_below() const noexcept {
  // Bounded, so that a mark which somebody overwrote cannot lead outside.
  return std::min<std::size_t>(high_water_->load(std::memory_order_seq_cst), granules_);
}

// SUBTLE: several may recover from one death. A granule is first made the caller's own, then its
// pages are discarded, then it is freed. Who discarded pages of what is still the dead's could be
// overtaken: by another who frees it, and by a third who takes it and writes to it.
std::size_t Extents::release_all(Tag dead, Tag by) noexcept {
  const auto claim = [&](std::size_t i) {
    std::uint64_t word = directory_[i].load(std::memory_order_relaxed);
    if (Tag::from_bits(word) != dead || group_of(word) >= kHeapGroups) return false;
    // acquire: as in take_run().
    return directory_[i].compare_exchange_strong(word, granule_word(by, kRecovering),
                                                 std::memory_order_acquire);
  };
  return free_those(claim);
}

std::size_t Extents::release_group(Tag owner, std::uint32_t group) noexcept {
  return free_those([&](std::size_t i) {
    return directory_[i].load(std::memory_order_relaxed) == granule_word(owner, group);
  });
}

// Row by row: a huge page of which only a part is discarded is first made small ones.
template <class Claim>
std::size_t Extents::free_those(Claim claim) noexcept {
  std::size_t freed = 0;
  for (std::size_t i = 0, end = taken_below(); i < end; ++i) {
    const std::size_t first = i;
    while (i < end && claim(i)) ++i;
    if (i == first) continue;
    discard_pages(data_ + first * granule_bytes_, (i - first) * granule_bytes_);
    // release: pairs with the acquire in take_run().
    for (std::size_t k = first; k < i; ++k) directory_[k].store(0, std::memory_order_release);
    freed += (i - first) * granule_bytes_;
  }
  return freed;
}

std::size_t Extents::used_bytes() const noexcept {
  std::size_t used = 0;
  for (std::size_t i = 0, end = taken_below(); i < end; ++i) {
    if (directory_[i].load(std::memory_order_relaxed) != 0) used += granule_bytes_;
  }
  return used;
}

std::size_t Extents::used_bytes(Tag owner) const noexcept {
  std::size_t used = 0;
  for (std::size_t i = 0, end = taken_below(); i < end; ++i) {
    const std::uint64_t word = directory_[i].load(std::memory_order_relaxed);
    if (word != 0 && Tag::from_bits(word) == owner) used += granule_bytes_;
  }
  return used;
}

}  // namespace brood::detail
