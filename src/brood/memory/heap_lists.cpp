#include <brood/memory/heap_lists.hpp>

#include <algorithm>
#include <bit>
#include <ranges>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/round_up.hpp>

namespace brood::detail {
namespace {

/// New blocks are cut, and their pages taken, in steps that grow with the page up to this.
constexpr std::size_t kLargestStep = std::size_t{64} << 10U;
/// Freed large memory is kept up to this much, to be used again without new pages.
constexpr std::size_t kKeep = std::size_t{256} << 20U;

}  // namespace

Heap::Lists::Lists(Segment& segment, Tag owner)
    : segment_(segment),
      owner_(owner),
      board_(segment.heap()),
      data_(segment.heap_tables().data),
      granule_bytes_(segment.extents().granule_bytes()),
      largest_small_(std::min(bytes_of(kClasses - 1), granule_bytes_ / 2)) {}

void Heap::Lists::close() noexcept {
  closed_ = true;
  for (auto& list : free_) list.clear();
  for (auto& pages : pages_) pages.clear();
  cached_.clear();
  cached_bytes_ = 0;
}

std::size_t Heap::Lists::granule_of(const std::byte* data) const {
  return static_cast<std::size_t>(data - data_) / granule_bytes_;
}

std::byte* Heap::Lists::data_of(std::size_t granule, std::uint32_t block,
                                std::uint32_t size_class) const {
  return data_ + granule * granule_bytes_ + block * bytes_of(size_class);
}

// Of whole pages, as the system takes them: what it touches beside them has pages or may have.
void Heap::Lists::populate(std::byte* data, std::size_t bytes) const {
  const std::size_t page = page_size();
  const auto skipped = static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(data) % page);
  const std::size_t whole = round_up(skipped + bytes, page);
  if (populate_pages(data - skipped, whole)) return;
  throw SharedMemoryFull(
      fmt::format("the machine has no memory left for {} more bytes to share", bytes));
}

std::size_t Heap::Lists::take(std::uint32_t size_class, std::byte** out, std::size_t most) {
  auto& list = free_[size_class];
  if (list.empty()) refill(size_class);
  const std::size_t count = std::min(most, list.size());
  std::copy(list.end() - static_cast<std::ptrdiff_t>(count), list.end(), out);
  list.resize(list.size() - count);
  return count;
}

void Heap::Lists::put(std::uint32_t size_class, std::byte* const* blocks,
                      std::size_t count) noexcept {
  free_[size_class].insert(free_[size_class].end(), blocks, blocks + count);
}

// What came back first, then what is there and not cut yet, then what a dead process left, then a
// fresh page.
void Heap::Lists::refill(std::uint32_t size_class) {
  if (sweep(size_class, false)) return;
  const auto take_page = [&] {
    if (adopt(size_class)) return true;
    auto& pages = pages_[size_class];
    pages.reserve(pages.size() + 1);  // so that the page is not lost when that fails
    const std::size_t granule = board_.take_page(size_class, owner_);
    if (granule == kNoRun) return false;
    add_page(size_class, granule, 0);
    return true;
  };
  try {
    for (;;) {
      if (cut_more(size_class)) return;
      if (take_page()) {
        if (!free_[size_class].empty()) return;
        continue;
      }
      if (!free_[size_class].empty()) return;
      if (!make_room()) break;
    }
  } catch (const SharedMemoryFull&) {
    if (free_[size_class].empty() && !sweep(size_class, true)) throw;
    return;
  }
  // Perhaps a note of something returned is missing, or on its way.
  if (sweep(size_class, true)) return;
  segment_.extents().refuse(bytes_of(size_class));
}

/// Collects what came back. False when that is so little for the search that the next had better be
/// rarer: then more is to be cut.
bool Heap::Lists::sweep(std::uint32_t size_class, bool all) noexcept {
  constexpr std::size_t kShort = 4096;
  constexpr std::size_t kWorth = 32;
  auto& list = free_[size_class];
  const std::size_t before = list.size();
  std::size_t seen = 0;
  for (const Page& page : pages_[size_class]) {
    if (!board_.take_note(page.granule) && !all) continue;
    seen += page.cut;
    board_.sweep(page.granule, size_class, false, [&](std::uint32_t block) {
      list.push_back(data_of(page.granule, block, size_class));
    });
  }
  const std::size_t found = list.size() - before;
  return all ? found != 0 : found != 0 && (seen < kShort || found * kWorth >= seen);
}

bool Heap::Lists::cut_more(std::uint32_t size_class) {
  auto& pages = pages_[size_class];
  // The last are those with room.
  for (auto& page : pages | std::views::reverse) {
    if (page.cut == board_.blocks_per_page(size_class)) continue;
    cut(page, size_class);
    return true;
  }
  return false;
}

void Heap::Lists::cut(Page& page, std::uint32_t size_class) {
  const std::size_t bytes = bytes_of(size_class);
  const std::size_t step = std::clamp(page.cut * bytes, page_size(), kLargestStep);
  const auto count = static_cast<std::uint32_t>(std::min<std::size_t>(
      std::max<std::size_t>(1, step / bytes), board_.blocks_per_page(size_class) - page.cut));
  std::byte* const first = data_of(page.granule, page.cut, size_class);
  auto* const states = reinterpret_cast<std::byte*>(
      segment_.heap_tables().states + static_cast<std::size_t>(first - data_) / HeapBoard<>::kUnit);
  populate(states, (count * bytes / HeapBoard<>::kUnit) * sizeof(std::uint32_t));
  populate(first, count * bytes);
  auto& list = free_[size_class];
  std::size_t ever = count;
  for (const Page& other : pages_[size_class]) ever += other.cut;
  if (list.capacity() < ever) list.reserve(std::max(ever, list.capacity() * 2));
  board_.publish_cut(page.granule, page.cut + count);
  // The first is to be handed out first.
  for (std::uint32_t i = count; i-- > 0;) list.push_back(first + i * bytes);
  page.cut += count;
}

bool Heap::Lists::adopt(std::uint32_t size_class) {
  auto& pages = pages_[size_class];
  auto& list = free_[size_class];
  // Before it is ours, so that it is not lost when there is no private memory.
  std::size_t ever = board_.blocks_per_page(size_class);
  for (const Page& other : pages) ever += other.cut;
  list.reserve(ever);
  pages.reserve(pages.size() + 1);
  const std::size_t granule = board_.adopt_page(size_class, owner_);
  if (granule == kNoRun) return false;
  add_page(size_class, granule, board_.cut(granule, size_class));
  board_.sweep(granule, size_class, true,
               [&](std::uint32_t block) { list.push_back(data_of(granule, block, size_class)); });
  return true;
}

void Heap::Lists::add_page(std::uint32_t size_class, std::size_t granule, std::uint32_t cut) {
  // Those with room to the end.
  auto& pages = pages_[size_class];
  const bool full = cut == board_.blocks_per_page(size_class);
  pages.insert(full ? pages.begin() : pages.end(), {granule, cut});
  // The words of the page's note must not be missing later.
  populate(reinterpret_cast<std::byte*>(&segment_.heap_tables().notes[granule]),
           sizeof(PageNote<std::atomic>));
}

Block Heap::Lists::take_large(std::size_t bytes) {
  const std::size_t page = page_size();
  if (bytes > segment_.size()) segment_.extents().refuse(bytes);
  const std::size_t wanted = (bytes + page - 1) / page * page;
  // The best fit that does not waste more than as much again.
  const auto found = cached_.lower_bound(wanted);
  if (found != cached_.end() && found->first / 2 <= std::max(wanted, largest_small_ * 2)) {
    const Large large = found->second;
    if (wanted > large.populated) {
      populate(large.data + large.populated, wanted - large.populated);
    }
    cached_bytes_ -= found->first;
    cached_.erase(found);
    board_.own(static_cast<std::size_t>(large.data - data_) / HeapBoard<>::kUnit, owner_);
    return {large.data, std::max(wanted, large.populated)};
  }
  const std::size_t granules = (wanted + granule_bytes_ - 1) / granule_bytes_;
  std::size_t first = board_.take_large(granules, owner_, true);
  if (first == kNoRun) first = board_.take_large(granules, owner_);
  // Two searches can spoil each other's run; that both fail again and again is not to be expected.
  constexpr int kAttempts = 4;
  for (int i = 0; i < kAttempts && first == kNoRun; ++i) {
    make_room();
    first = board_.take_large(granules, owner_);
  }
  if (first == kNoRun) segment_.extents().refuse(bytes);
  const std::size_t unit = first * segment_.heap_tables().units;
  std::byte* const data = data_ + first * granule_bytes_;
  try {
    populate(reinterpret_cast<std::byte*>(segment_.heap_tables().states + unit),
             sizeof(std::uint32_t));
    populate(data, wanted);
  } catch (...) {
    board_.release_large(first);
    throw;
  }
  board_.own(unit, owner_);
  return {data, wanted};
}

void Heap::Lists::put_large(std::byte* data, std::size_t populated) noexcept {
  const std::size_t first = granule_of(data);
  const std::size_t bytes = board_.run_length(first) * granule_bytes_;
  populated = std::min(populated, bytes) / page_size() * page_size();
  if (keeps_ && cached_bytes_ + bytes <= kKeep) {
    try {
      cached_.emplace(bytes, Large{data, populated});
      cached_bytes_ += bytes;
      return;
    } catch (const std::bad_alloc&) {
      // Then it is not kept.
    }
  }
  board_.release_large(first);
}

std::size_t Heap::Lists::release_cached() noexcept {
  const std::size_t freed = cached_.size();
  for (const auto& [bytes, large] : cached_) board_.release_large(granule_of(large.data));
  cached_.clear();
  cached_bytes_ = 0;
  return freed;
}

bool Heap::Lists::make_room() noexcept {
  std::size_t freed = release_cached();
  freed += board_.reclaim_orphans(owner_);
  for (std::uint32_t c = 0; c < kClasses; ++c) freed += release_free_pages(c);
  return freed != 0;
}

/// Pages all of whose blocks are in the list.
std::size_t Heap::Lists::release_free_pages(std::uint32_t size_class) noexcept {
  auto& list = free_[size_class];
  auto& pages = pages_[size_class];
  sweep(size_class, true);
  // Sorted, the blocks of a page stand together; no private memory is needed.
  std::sort(list.begin(), list.end());
  std::size_t freed = 0;
  std::erase_if(pages, [&](const Page& page) {
    std::byte* const first = data_of(page.granule, 0, size_class);
    const auto from = std::lower_bound(list.begin(), list.end(), first);
    const auto to = std::lower_bound(from, list.end(), first + granule_bytes_);
    if (static_cast<std::size_t>(to - from) != page.cut) return false;
    list.erase(from, to);
    board_.release_page(page.granule);
    ++freed;
    return true;
  });
  return freed;
}

}  // namespace brood::detail
