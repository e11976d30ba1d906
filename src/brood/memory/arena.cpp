#include <brood/memory/arena.hpp>

#include <algorithm>
#include <bit>
#include <cassert>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kPopulateStep = std::size_t{64} << 10U;
/// Freed large memory is kept up to this much, to be used again without new pages.
constexpr std::size_t kKeep = std::size_t{256} << 20U;

}  // namespace

Arena::Arena(Segment& segment, Tag owner, std::uint32_t group)
    : segment_(&segment),
      owner_(owner),
      group_(group),
      largest_small_(std::min(kSmallest << (kClasses - 1), segment.extents().granule_bytes() / 2)) {
}

Arena::~Arena() {
  for (const Slab& slab : slabs_) segment_->extents().release(slab.extent, owner_, group_, true);
  for (const auto& [data, large] : used_) {
    segment_->extents().release(large.extent, owner_, group_, true);
  }
  for (const auto& [bytes, large] : cached_) {
    segment_->extents().release(large.extent, owner_, group_, true);
  }
}

void Arena::abandon() noexcept {
  for (auto& list : free_) list.clear();
  slabs_.clear();
  used_.clear();
  cached_.clear();
  cached_bytes_ = 0;
}

void Arena::populate(std::byte* data, std::size_t& populated, std::size_t wanted) {
  if (wanted <= populated) return;
  if (!populate_pages(data + populated, wanted - populated)) {
    throw SharedMemoryFull(fmt::format("the machine has no memory left for {} more bytes to share",
                                       wanted - populated));
  }
  populated = wanted;
}

Block Arena::allocate(std::size_t bytes) {
  const std::scoped_lock guard(mutex_);
  if (bytes > largest_small_) return allocate_large(bytes);
  const std::size_t rounded = std::bit_ceil(std::max(bytes, kSmallest));
  return allocate_small(static_cast<std::size_t>(std::countr_zero(rounded / kSmallest)));
}

Block Arena::allocate_small(std::size_t size_class) {
  const std::size_t bytes = kSmallest << size_class;
  auto& list = free_[size_class];
  if (!list.empty()) {
    std::byte* data = list.back();
    list.pop_back();
    return {data, bytes};
  }
  // A block stands at a multiple of its size, so that it suits whatever type fits into it.
  const auto rounded_up = [bytes](std::size_t used) { return (used + bytes - 1) / bytes * bytes; };
  if (slabs_.empty() || rounded_up(slabs_.back().used) + bytes > slabs_.back().extent.bytes) {
    slabs_.push_back({.extent = allocate_extent(1)});
  }
  Slab& slab = slabs_.back();
  const std::size_t begin = rounded_up(slab.used);
  const std::size_t end = begin + bytes;
  const std::size_t step =
      std::min(slab.extent.bytes, (end + kPopulateStep - 1) / kPopulateStep * kPopulateStep);
  populate(slab.extent.data, slab.populated, step);
  // What is skipped becomes smaller blocks.
  while (slab.used != begin) {
    const auto bits = static_cast<std::size_t>(std::countr_zero(slab.used / kSmallest));
    free_[bits].push_back(slab.extent.data + slab.used);
    slab.used += kSmallest << bits;
  }
  slab.used = end;
  return {slab.extent.data + begin, bytes};
}

Extent Arena::allocate_extent(std::size_t bytes) {
  try {
    return segment_->extents().allocate(bytes, owner_, group_);
  } catch (const SharedMemoryFull&) {
    if (cached_.empty()) throw;
  }
  // What is kept for later stands in the way now.
  for (const auto& [size, large] : cached_) {
    segment_->extents().release(large.extent, owner_, group_, true);
  }
  cached_.clear();
  cached_bytes_ = 0;
  return segment_->extents().allocate(bytes, owner_, group_);
}

Block Arena::allocate_large(std::size_t bytes) {
  const std::size_t page = page_size();
  if (bytes > segment_->size())
    segment_->extents().allocate(bytes, owner_, group_);  // says why not
  const std::size_t wanted = (bytes + page - 1) / page * page;
  Large large;
  // The best fit that does not waste more than as much again.
  const auto found = cached_.lower_bound(wanted);
  if (found != cached_.end() && found->first / 2 <= std::max(wanted, largest_small_ * 2)) {
    large = found->second;
    cached_bytes_ -= found->first;
    cached_.erase(found);
  } else {
    large.extent = allocate_extent(wanted);
  }
  try {
    populate(large.extent.data, large.populated, wanted);
    used_.emplace(large.extent.data, large);
  } catch (...) {
    segment_->extents().release(large.extent, owner_, group_, true);
    throw;
  }
  return {large.extent.data, large.populated};
}

void Arena::free(Block block) noexcept {
  if (block.empty()) return;
  const std::scoped_lock guard(mutex_);
  const auto found = used_.find(block.data);
  if (found == used_.end()) {
    assert(std::has_single_bit(block.bytes) && block.bytes >= kSmallest);
    free_[static_cast<std::size_t>(std::countr_zero(block.bytes / kSmallest))].push_back(
        block.data);
    return;
  }
  const Large large = found->second;
  used_.erase(found);
  if (cached_bytes_ + large.extent.bytes > kKeep) {
    segment_->extents().release(large.extent, owner_, group_, true);
    return;
  }
  cached_bytes_ += large.extent.bytes;
  cached_.emplace(large.extent.bytes, large);
}

}  // namespace brood::detail
