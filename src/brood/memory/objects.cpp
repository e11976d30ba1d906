#include <brood/memory/objects.hpp>

#include <array>
#include <chrono>
#include <thread>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/object_kind.hpp>
#include <brood/platform/futex.hpp>
#include <brood/platform/memory_file.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kPageSlack = 4096;  // the smallest page that there is

/// Who holds the extents of objects. No process has this tag: generations start at 1. The group is
/// the object's index, so what an unfinished object took is found.
constexpr Tag kObjectOwner = Tag::from_bits(1);
static_assert(kObjectOwner.generation() == 0 && !kObjectOwner.none());

enum PlaceOfBytes : std::uint32_t { kInline = 0, kExtent = 1 };

constexpr std::size_t kKinds = 64;
std::array<std::atomic<Objects::AtEnd>, kKinds> end_of_kind{};

}  // namespace

// --- where payloads come from ----------------------------------------------------------------

void ObjectWorld::take_payload(Entry& entry, std::uint32_t index, std::size_t bytes,
                               std::size_t capacity) const {
  // Said before it is taken, so that it is found whenever this process is killed. A compiler that
  // stored it later would spoil that, hence the fence.
  entry.storage.store(kExtent, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const Extent extent = segment_->extents().allocate(capacity, kObjectOwner, index);
  // NOTE: extents are given back with their pages, so these are fresh, and read as zero.
  const std::size_t page = page_size();
  if (bytes > 0 && !populate_pages(extent.data, (bytes + page - 1) / page * page)) {
    throw SharedMemoryFull(
        fmt::format("the machine has no memory left for a shared object of {} bytes", bytes));
  }
  entry.payload_at = segment_->offset_of(extent.data);
  entry.payload_capacity = extent.bytes;
}

void ObjectWorld::free_payload(Entry& entry, std::uint32_t index) const noexcept {
  const std::uint32_t kind = entry.type.kind;
  const Objects::AtEnd at_end = kind < kKinds ? end_of_kind[kind].load() : nullptr;
  const ObjectRef ref{.index = index, .generation = 0};
  if (entry.storage.load(std::memory_order_relaxed) == kInline) {
    // All zero when it was never finished, or this is done again.
    const std::span<std::byte> payload(entry.inline_payload);
    if (at_end != nullptr) at_end(ref, payload.first(std::min(entry.bytes, payload.size())));
    std::atomic_signal_fence(std::memory_order_seq_cst);
    entry.inline_payload = {};
    return;
  }
  // Without an address it was never finished, or this is done again.
  if (at_end != nullptr && entry.payload_at != 0) {
    at_end(ref, {segment_->at(entry.payload_at), entry.bytes});
    std::atomic_signal_fence(std::memory_order_seq_cst);
    entry.payload_at = 0;
  }
  segment_->extents().release_group(kObjectOwner, index);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // all of it is free first
  entry.storage.store(kInline, std::memory_order_relaxed);
}

// Others' numbers: what they name is looked at before it is followed.
ObjectLink<>* ObjectWorld::link(std::uint64_t at) const noexcept {
  if (at == 0 || at % alignof(ObjectLink<>) != 0) return nullptr;
  try {
    return reinterpret_cast<ObjectLink<>*>(segment_->checked(at, sizeof(ObjectLink<>)));
  } catch (const DecodeError&) {
    return nullptr;
  }
}

// --- the rest of the world -------------------------------------------------------------------

bool ObjectWorld::dead(Tag tag) const { return segment_->registry().over(tag); }

void ObjectWorld::grow(std::uint32_t from, std::uint32_t to) const {
  static_assert(ObjectTable<ObjectWorld>::kStep * sizeof(Entry) == kPageSlack);
  const std::size_t page = page_size();
  const std::uint64_t table = segment_->header().objects_at;
  const std::uint64_t begin = table + from * sizeof(Entry) / page * page;
  const std::uint64_t end = table + (to * sizeof(Entry) + page - 1) / page * page;
  if (!populate_pages(segment_->at(begin), end - begin)) {
    throw SharedMemoryFull("the machine has no memory left for one more shared object");
  }
}

// After the descriptor is free: who is killed in between leaves it to the news of its death.
void ObjectWorld::ended(std::uint32_t kind) const noexcept {
  if (!end_is_announced(kind)) return;
  std::atomic<std::uint32_t>& count = segment_->header().objects_ended;
  count.fetch_add(1);
  futex_wake_all(count);
}

void ObjectWorld::pause(unsigned turn) {
  constexpr unsigned kSpins = 64;
  constexpr unsigned kYields = 1024;
  if (turn < kSpins) {
    cpu_relax();
  } else if (turn < kYields) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(100));  // it is stopped
  }
}

// --- Objects -----------------------------------------------------------------------------------

Objects::Objects(Segment& segment)
    : segment_(&segment),
      world_(segment),
      table_(world_, segment.objects(), segment.most_objects(), segment.header().objects) {}

ObjectRef Objects::create(ObjectType type, std::size_t bytes, std::size_t capacity, Tag me) {
  if (const auto ref = table_.create(type, bytes, capacity, me)) return *ref;
  throw SharedMemoryFull(fmt::format(
      "the family has {} shared objects (locks, values, arrays ...), which is the most: let go of "
      "some",
      table_.capacity()));
}

std::span<std::byte> Objects::payload(ObjectRef ref) const {
  ObjectEntry<>& entry = table_.entry(ref.index);
  if (entry.payload_at == 0)
    return std::span(entry.inline_payload)
        .first(std::min<std::size_t>(entry.bytes, entry.inline_payload.size()));
  return {segment_->checked(entry.payload_at, entry.bytes), entry.bytes};
}

std::size_t Objects::count() const {
  std::size_t count = 0;
  table_.for_each([&](ObjectRef, const ObjectEntry<>&) { ++count; });
  return count;
}

Extent Objects::add_extent(ObjectRef ref, std::size_t bytes) {
  const Extent extent = segment_->extents().allocate(bytes, kObjectOwner, ref.index);
  if (populate_pages(extent.data, (bytes + page_size() - 1) / page_size() * page_size())) {
    return extent;
  }
  return_extent(ref, extent);
  throw SharedMemoryFull(
      fmt::format("the machine has no memory left for {} more bytes of a shared object", bytes));
}

void Objects::return_extent(ObjectRef ref, Extent extent) noexcept {
  segment_->extents().release(extent, kObjectOwner, ref.index, true);
}

void Objects::at_end(std::uint32_t kind, AtEnd action) noexcept {
  if (kind < kKinds) end_of_kind[kind].store(action);
}

}  // namespace brood::detail
