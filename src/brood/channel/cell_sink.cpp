#include <brood/channel/cell_sink.hpp>

#include <algorithm>
#include <new>

#include <brood/memory/member.hpp>

namespace brood::detail {

void CellSink::grow(std::size_t at_least) {
  const std::size_t used = written();
  const Block larger = heap_->allocate(sizeof(CellHead) + used + std::max(at_least, used));
  if (used > 0) std::memcpy(larger.data + sizeof(CellHead), begin(), used);
  if (!block_.empty()) heap_->free(block_);
  block_ = larger;
  set_buffer(block_.data + sizeof(CellHead), used, block_.bytes - sizeof(CellHead));
}

// The objects that are named get a link each, behind the bytes.
void CellSink::seal(Part& part) {
  const std::size_t bytes = written();
  std::vector<ObjectRef> refs;
  if (keeps()) {
    refs.reserve(kept().size());
    for (const Handle& handle : kept()) refs.push_back(handle.ref());
    std::ranges::sort(refs);
    refs.erase(std::ranges::unique(refs).begin(), refs.end());
    const std::size_t more =
        CellHead::links_at(bytes) + refs.size() * sizeof(ObjectLink<>) - sizeof(CellHead) - bytes;
    if (block_.empty() || room() < more) grow(more);
    std::byte* at = block_.data + CellHead::links_at(bytes);
    for (const ObjectRef ref : refs) {
      new (at) ObjectLink<>{.ref = ref, .held = 0, .reserved = 0};
      at += sizeof(ObjectLink<>);
    }
  }
  if (block_.empty()) {
    std::ranges::copy(Cell::in_place({begin(), bytes}), part.words.begin());
    return;
  }
  new (block_.data) CellHead{.links = refs.size(), .bytes = bytes};
  Segment& segment = Member::current()->segment();
  std::ranges::copy(Cell::in_block(segment.offset_of(block_.data), bytes), part.words.begin());
  part.block = block_;
}

void KeySink::grow(std::size_t at_least) {
  const std::size_t used = written();
  std::vector<std::byte> larger(std::max(used + at_least, 2 * used));
  std::memcpy(larger.data(), begin(), used);
  large_ = std::move(larger);
  set_buffer(large_.data(), used, large_.size());
}

}  // namespace brood::detail
