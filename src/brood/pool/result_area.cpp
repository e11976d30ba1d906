#include <brood/pool/result_area.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/round_up.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kPopulateStep = std::size_t{64} << 10U;
constexpr std::size_t kKeptPages = 8;
constexpr std::size_t kAlignment = 16;

}  // namespace

bool ResultArea::Page::consumed() const {
  const ResultPage& page = header();
  // acquire: pairs with the release in consume(): the owner has read what is about to be
  // overwritten.
  return page.consumed.load(std::memory_order_acquire) ==
         page.produced.load(std::memory_order_relaxed);
}

void ResultArea::populate(Page& page, std::size_t bytes) {
  const std::size_t wanted = std::min(page.extent.bytes, round_up(bytes, kPopulateStep));
  if (wanted <= page.populated) return;
  if (!populate_pages(page.extent.data + page.populated, wanted - page.populated)) {
    throw SharedMemoryFull(
        fmt::format("the machine has no memory left for a result of {} bytes", bytes));
  }
  page.populated = wanted;
}

void ResultArea::open_page(std::size_t bytes) {
  const std::size_t needed = sizeof(ResultPage) + bytes;
  for (auto page = pages_.begin(); page != pages_.end(); ++page) {
    if (page->extent.bytes < needed || !page->consumed()) continue;
    Page again = *page;
    let_go_of_page(*page);
    again.used = sizeof(ResultPage);
    pages_.erase(page);
    pages_.push_back(again);
    return;
  }
  Page page{.extent = segment_->extents().allocate(needed, owner_, group_)};
  try {
    populate(page, needed);  // at once, and so in huge pages
    pages_.push_back(page);
  } catch (...) {
    segment_->extents().release(page.extent, owner_, group_, true);
    throw;
  }
  new (page.extent.data) ResultPage{};
  pages_.back().used = sizeof(ResultPage);
}

ResultArea::~ResultArea() {
  for (Kept& kept : kept_) {
    for (Handle& handle : kept.handles) Handle::keep_for_life(std::move(handle));
  }
}

void ResultArea::let_go_of_consumed() noexcept {
  if (kept_.size() < next_look_ && kept_.size() > kAlwaysLook) return;
  std::erase_if(kept_, [](const Kept& kept) {
    return kept.consumed->load(std::memory_order_acquire) != 0;  // pairs with consume()
  });
  next_look_ = std::max(kAlwaysLook, 2 * kept_.size());
}

void ResultArea::let_go_of_page(const Page& page) noexcept {
  std::erase_if(kept_, [&](const Kept& kept) { return kept.page == page.extent.data; });
}

void ResultArea::trim(std::size_t most_bytes) noexcept {
  let_go();
  std::size_t kept = 0;
  std::size_t bytes = 0;
  std::erase_if(pages_, [&](const Page& page) {
    if (!page.consumed()) return false;
    let_go_of_page(page);
    if (kept < kKeptPages && page.extent.bytes <= most_bytes - bytes) {
      ++kept;
      bytes += page.extent.bytes;
      return false;
    }
    segment_->extents().release(page.extent, owner_, group_, true);
    return true;
  });
}

ResultArea::Writer::Writer(ResultArea& area) : area_(&area) {
  // A result begins in the first granule of its page: consume() looks for the page's header there.
  const std::size_t first_part = area_->segment_->extents().granule_bytes();
  if (area_->pages_.empty() || area_->pages_.back().used >= first_part) {
    area_->open_page(kPopulateStep / 2);
  }
  Page& page = area_->pages_.back();
  const std::size_t room = page.populated - std::min(page.populated, page.used);
  set_buffer(page.extent.data + page.used, 0, room);
}

void ResultArea::Writer::grow(std::size_t at_least) {
  const std::size_t used = written();
  const std::size_t wanted = used + std::max(at_least, used);
  Page* page = &area_->pages_.back();
  const std::byte* data = page->extent.data + page->used;
  if (page->extent.bytes - page->used < wanted) {
    // SUBTLE: this may be the same page again, from its front, when all that was in it before is
    // consumed: what is being written is not counted. Nobody else writes into it meanwhile.
    area_->open_page(wanted);
    page = &area_->pages_.back();
    area_->populate(*page, page->used + wanted);
    if (used > 0) std::memmove(page->extent.data + page->used, data, used);
  } else {
    area_->populate(*page, page->used + wanted);
  }
  set_buffer(page->extent.data + page->used, used, page->populated - page->used);
}

Encoded ResultArea::Writer::commit() {
  const std::size_t size = written();
  if (keeps()) {
    constexpr std::array<std::byte, 2 * sizeof(std::uint64_t)> kZero{};
    write(kZero.data(), round_up(size, sizeof(std::uint64_t)) - size + sizeof(std::uint64_t));
  }
  Page& page = area_->pages_.back();
  Encoded place{.at = area_->segment_->offset_of(page.extent.data + page.used), .bytes = size};
  if (keeps()) {
    const auto* mark =
        reinterpret_cast<const std::atomic<std::uint64_t>*>(area_->segment_->at(place.mark_at()));
    area_->let_go();
    area_->kept_.push_back({page.extent.data, mark, take_kept()});
    place.bytes |= Encoded::kNamesObjects;
  }
  page.used = std::min(page.extent.bytes, round_up(page.used + written(), kAlignment));
  // Counted before it is published: a worker that dies in between has produced one that nobody
  // consumes, and the page is freed with its group.
  page.header().produced.fetch_add(1, std::memory_order_relaxed);
  return place;
}

void consume(Segment& segment, Encoded result) noexcept {
  const SegmentHeader& header = segment.header();
  if (result.names_objects()) {
    auto* mark = reinterpret_cast<std::atomic<std::uint64_t>*>(segment.at(result.mark_at()));
    mark->store(1, std::memory_order_release);  // pairs with the acquire in let_go_of_consumed()
  }
  const std::uint64_t page =
      header.data_at + (result.at - header.data_at) / header.granule_bytes * header.granule_bytes;
  // release: pairs with the acquire in Page::consumed().
  reinterpret_cast<ResultPage*>(segment.at(page))->consumed.fetch_add(1, std::memory_order_release);
}

}  // namespace brood::detail
