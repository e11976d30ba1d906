#include <brood/sync/records.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/objects.hpp>

namespace brood::detail {

Cell::Words Cell::in_place(std::span<const std::byte> bytes) {
  Words words{};
  auto* const to = reinterpret_cast<unsigned char*>(words.data());
  *to = static_cast<unsigned char>(bytes.size());
  if (!bytes.empty()) std::memcpy(to + 1, bytes.data(), bytes.size());
  return words;
}

// --- made, held, let go --------------------------------------------------------------------------

Handle HeldRecords::create(ObjectType type, RecordLayout layout) {
  Handle handle = Handle::create(type, sizeof(RecordsHeader));
  auto* const header = new (handle.payload().data()) RecordsHeader{};
  header->layout = layout.pack();
  return handle;
}

void HeldRecords::require_layout(const Handle& handle, RecordLayout layout) {
  const auto* const header = reinterpret_cast<const RecordsHeader*>(handle.payload().data());
  if (header->layout != layout.pack()) {
    throw DecodeError("there is no container of this type where one is expected in shared memory");
  }
}

void HeldRecords::throw_own() {
  throw StateError(
      "this thread uses a container that it is changing: what is given to update(), and functions "
      "that compare, save and load its values, must leave the container alone");
}

void HeldRecords::open_or_unlock(std::uint64_t at) {
  try {
    open_at(at);
  } catch (...) {
    unlock();
    throw;
  }
}

void HeldRecords::unlock() noexcept {
  try {
    header_->lock.unlock();
  } catch (const Error&) {
    return;  // somebody wrote over it
  }
}

void HeldRecords::open_at(std::uint64_t at) {
  Segment& segment = member_->segment();
  auto* const body = reinterpret_cast<RecordsBody*>(segment.checked(at, sizeof(RecordsBody)));
  const std::uint64_t capacity = body->capacity;
  const std::uint64_t bits = body->index_bits;
  // Bytes of others: bounded before they are multiplied.
  if (at % alignof(RecordsHeader) != 0 || capacity > RecordsBody::kMost || bits > 40) {
    throw DecodeError("the records of a container in shared memory are damaged");
  }
  static_cast<void>(segment.checked(at, bytes_of(capacity, bits, layout_)));
  const std::uint64_t counts = load(body->counts);
  if (low(counts) + high(counts) > capacity) {
    throw DecodeError("a container in shared memory says that it has more than it has room for");
  }
  body_ = body;
  records_ = reinterpret_cast<Word*>(body + 1);
  if (layout_.hashed) index_ = index_of(body, layout_);
}

// --- values --------------------------------------------------------------------------------------

std::span<const std::byte> HeldRecords::bytes_of(const Word* cell, Cell::Words& place) const {
  for (std::size_t i = 0; i != Cell::kWords; ++i) place[i] = load(cell[i]);
  if (!Cell::is_in_block(place[0])) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(place.data());
    const auto size = std::to_integer<std::size_t>(bytes[0]);
    if (size > Cell::kInPlace) throw DecodeError("a value in a container is of no known kind");
    return {bytes + 1, size};
  }
  // Bytes of others: no sum of them may overflow.
  Segment& segment = member_->segment();
  const std::uint64_t size = std::min<std::uint64_t>(place[2], segment.size());
  return {segment.checked(place[1], sizeof(CellHead) + size) + sizeof(CellHead),
          static_cast<std::size_t>(place[2] == size ? size : 0)};
}

// SUBTLE: `new_block` counts while `change` says nothing, the rest once it does. So it is cleared
// before `change` is, and stored before the block is given.
void HeldRecords::assign(Word* at, std::size_t words, bool in_cell, const Part& part) {
  if (words == 1) return store(*at, part.words[0]);  // the commit
  if (words == 0) return;
  std::uint64_t old = 0;
  if (in_cell) {
    const std::uint64_t first = load(at[0]);
    if (Cell::is_in_block(first)) old = load(at[1]);
  }
  for (std::size_t i = 0; i != words; ++i) store(body_->words[i], part.words[i]);
  store(body_->target, static_cast<std::uint64_t>(at - records_));
  store(body_->old_block, old);
  if (!part.block.empty()) {
    store(body_->new_block, part.words[1]);
    give(part);
  }
  store(body_->change, words);  // the commit
  for (std::size_t i = 0; i != words; ++i) store(at[i], part.words[i]);
  if (old != 0) free_block(old);
  store(body_->new_block, 0);
  store(body_->change, 0);
}

void HeldRecords::give(const Part& part) {
  if (part.block.empty()) return;
  member_->heap().give(part.block, owner());
  const auto* const head = reinterpret_cast<const CellHead*>(part.block.data);
  if (head->links == 0) return;
  const std::uint64_t first = part.words[1] + CellHead::links_at(head->bytes);
  for (std::uint64_t i = 0; i != head->links; ++i) {
    member_->objects().link(first + i * sizeof(ObjectLink<>), member_->self());
  }
}

// Whose it is: somebody may have been killed after he had freed it, or before he gave it.
void HeldRecords::free_block(std::uint64_t at) noexcept {
  if (!member_->heap().is_shared(at, owner())) return;
  try {
    Segment& segment = member_->segment();
    const auto* const head =
        reinterpret_cast<const CellHead*>(segment.checked(at, sizeof(CellHead)));
    if (const std::uint64_t links = head->links; links != 0) {
      const std::uint64_t size = segment.size();
      const std::uint64_t first =
          at + CellHead::links_at(std::min<std::uint64_t>(head->bytes, size));
      static_cast<void>(segment.checked(
          first, std::min(links, size / sizeof(ObjectLink<>)) * sizeof(ObjectLink<>)));
      for (std::uint64_t i = 0; i != links; ++i) {
        member_->objects().unlink(first + i * sizeof(ObjectLink<>), member_->self());
      }
    }
    member_->heap().free_shared(at, owner());
  } catch (const DecodeError&) {
    return;  // somebody wrote over it
  }
}

void HeldRecords::free_cells(std::uint64_t i) noexcept {
  const auto free_cell = [this](const Word* cell) {
    const std::uint64_t first = load(cell[0]);
    if (Cell::is_in_block(first)) free_block(load(cell[1]));
  };
  if (layout_.key_in_cell) free_cell(record(i) + layout_.key_at());
  if (layout_.value_in_cell) free_cell(record(i) + layout_.value_at());
}

// --- bodies --------------------------------------------------------------------------------------

Block HeldRecords::make_body(std::uint64_t capacity, std::uint64_t index_bits) const {
  if (capacity > RecordsBody::kMost) {
    throw SharedMemoryFull(
        fmt::format("a container of {} values: {} are the most", capacity, RecordsBody::kMost));
  }
  const Block block = member_->heap().allocate(bytes_of(capacity, index_bits, layout_));
  auto* const body = new (block.data) RecordsBody{};
  body->capacity = capacity;
  body->index_bits = index_bits;
  if (layout_.hashed) {
    std::memset(static_cast<void*>(index_of(body, layout_)), 0, sizeof(Place) << index_bits);
  }
  return block;
}

// SUBTLE: the two are garbage unless they are the body: so they are said before the commit, and
// cleared when neither is needed.
void HeldRecords::install(Block block) {
  const std::uint64_t old = load(header_->body);
  const std::uint64_t at = block.empty() ? 0 : member_->segment().offset_of(block.data);
  if (!block.empty()) {
    store(header_->fresh, at);
    member_->heap().give(block, owner());
  }
  store(header_->stale, old);
  store(header_->body, at);  // the commit
  member_->heap().free_shared(old, owner());
  store(header_->fresh, 0);
  store(header_->stale, 0);
  body_ = nullptr;
  if (at != 0) open_at(at);
}

// --- after a death -------------------------------------------------------------------------------

void HeldRecords::settle_bodies() noexcept {
  const std::uint64_t body = load(header_->body);
  for (Word* const word : {&header_->fresh, &header_->stale}) {
    const std::uint64_t at = load(*word);
    if (at == 0) continue;
    if (at != body) member_->heap().free_shared(at, owner());
    store(*word, 0);
  }
}

void HeldRecords::settle_change() noexcept {
  const std::uint64_t words = load(body_->change);
  const std::uint64_t target = load(body_->target);
  if (words == 0) {
    free_block(load(body_->new_block));
  } else if (words <= Part::kMostWords && target < body_->capacity * layout_.stride() &&
             words <= body_->capacity * layout_.stride() - target) {
    for (std::uint64_t i = 0; i != words; ++i) store(records_[target + i], load(body_->words[i]));
    if (const std::uint64_t old = load(body_->old_block); old != 0) free_block(old);
  }
  store(body_->new_block, 0);
  store(body_->change, 0);
}

void HeldRecords::clear_tail() noexcept {
  const std::uint64_t count = low(counts());
  const std::uint64_t tail = high(counts());
  if (tail == 0) return;
  if (layout_.has_cells()) {
    // What is dead already had its blocks freed.
    for (std::uint64_t i = count; i != count + tail; ++i) {
      if (is_live(i)) free_cells(i);
    }
  }
  set_counts(count, 0);
}

void HeldRecords::derive() noexcept {
  if (!layout_.hashed) return;
  const std::uint64_t mask = (std::uint64_t{1} << body_->index_bits) - 1;
  for (std::uint64_t i = 0; i <= mask; ++i) set_place(i, 0);
  std::uint64_t live = 0;
  std::uint64_t top = 0;
  const std::uint64_t end = low(counts());
  for (std::uint64_t i = 0; i != end; ++i) {
    const std::uint64_t word = load(*record(i));
    if ((word & kLive) == 0) continue;
    ++live;
    top = i + 1;
    // Half of the places are free at least.
    std::uint64_t at = word & mask;
    while (place(at) != 0) at = (at + 1) & mask;
    set_place(at, i + 1);
  }
  store(body_->live, live);
  store(body_->top, top);
}

void HeldRecords::settle() noexcept {
  settle_bodies();
  if (body_ == nullptr) return;
  settle_change();
  clear_tail();
  if (const std::uint64_t doomed = load(body_->doomed); doomed != 0) {
    if (doomed <= low(counts()) && !is_live(doomed - 1)) free_cells(doomed - 1);
    store(body_->doomed, 0);
  }
  if (load(body_->stirred) != 0) {
    derive();
    store(body_->stirred, 0);
  }
}

// By whoever let go of it last, or cleans up after who did: nobody else uses it.
void HeldRecords::at_end(ObjectRef ref, std::span<std::byte> payload) noexcept {
  const auto member = Member::current();
  if (member == nullptr || payload.size() < sizeof(RecordsHeader)) return;
  auto& header = *reinterpret_cast<RecordsHeader*>(payload.data());
  if (header.layout == 0) return;
  HeldRecords records(*member, ref, header);
  try {
    const std::uint64_t at = load(header.body);
    const bool there = at != 0 && member->heap().is_shared(at, records.owner());
    if (there) records.open_at(at);
    records.settle();
    if (!there) return;
    if (records.layout_.has_cells()) {
      const std::uint64_t end = records.count();
      for (std::uint64_t i = 0; i != end; ++i) {
        if (records.is_live(i)) records.free_cells(i);
      }
    }
    member->heap().free_shared(at, records.owner());
  } catch (const Error&) {
    return;  // somebody wrote over it
  }
}

// Before main: the fork server, which cleans up after the dead, is forked at its beginning.
const bool RecordsKinds::kKnown = [] {
  for (const ObjectKind kind :
       {ObjectKind::dict, ObjectKind::list, ObjectKind::set, ObjectKind::name_space}) {
    Objects::at_end(static_cast<std::uint32_t>(kind), &HeldRecords::at_end);
  }
  return true;
}();

}  // namespace brood::detail
