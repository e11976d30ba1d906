#include <brood/memory/segment.hpp>

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/program.hpp>
#include <brood/platform/random.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20U;
constexpr std::size_t kLargestReserve = std::size_t{64} << 30U;
constexpr std::size_t kSmallestReserve = 16 * kMiB;  // the largest, divided by four 6 times
constexpr std::size_t kMostGranules = 65536;
constexpr std::size_t kMostNames = 8192;
constexpr std::size_t kBytesPerName = 16384;  // of the segment: two percent of it for their entries
constexpr std::size_t kSmallestGranule = std::size_t{64} << 10U;
constexpr std::size_t kAuthKeyBytes = 32;
constexpr std::size_t kObjectsShare = 64;  // one part in so many is for descriptors

constexpr std::size_t round_up(std::size_t value, std::size_t to) {
  return (value + to - 1) / to * to;
}

/// Where the parts of a segment of `bytes` begin.
struct Layout {
  explicit Layout(std::size_t bytes)
      : granule_bytes(std::max(kSmallestGranule, bytes / kMostGranules)) {
    const std::size_t page = page_size();
    lives_at = page;  // pages of their own: see LifeMutex
    records_at = round_up(lives_at + Tag::kSlots * sizeof(Life), page);
    threads_at = round_up(records_at + Registry::kSlots * sizeof(Record), page);
    waits_at = round_up(threads_at + sizeof(ThreadTable), page);
    names_at = round_up(waits_at + sizeof(WaitNotes), page);
    names = std::min(kMostNames, bytes / kBytesPerName);
    directory_at = round_up(names_at + names * sizeof(NameEntry), page);
    const std::size_t granules = bytes / granule_bytes;  // fewer, as the tables take some
    notes_at = round_up(directory_at + granules * sizeof(std::uint64_t), page);
    states_at = round_up(notes_at + granules * sizeof(PageNote<std::atomic>), page);
    objects_at = round_up(states_at + bytes / HeapBoard<>::kUnit * sizeof(std::uint32_t), page);
    data_at = round_up(objects_at + bytes / kObjectsShare, granule_bytes);
    most_objects = static_cast<std::uint32_t>((data_at - objects_at) / sizeof(ObjectEntry<>));
  }
  std::uint64_t granule_bytes;
  std::uint64_t lives_at;
  std::uint64_t records_at;
  std::uint64_t names_at;
  std::size_t names;
  std::uint64_t threads_at;
  std::uint64_t waits_at;
  std::uint64_t directory_at;
  std::uint64_t notes_at;
  std::uint64_t states_at;
  std::uint64_t objects_at;
  std::uint64_t data_at;
  std::uint32_t most_objects;
};

struct Reserved {
  Fd file;
  Mapping mapping;
};

/// As much address space as there is, but never so much that the program itself runs out of it.
Reserved reserve() {
  const std::size_t allowed = std::min(address_space_limit() / 4, file_size_limit());
  for (std::size_t bytes = kLargestReserve; bytes >= kSmallestReserve; bytes /= 4) {
    if (bytes > allowed && bytes > kSmallestReserve) continue;
    // Out of the way of standard streams: a program that runs with them closed may write to them.
    Fd file = move_high(create_memory_file("brood", bytes));
    Mapping mapping = Mapping::try_map(file, bytes);
    if (mapping.valid()) return {std::move(file), std::move(mapping)};
  }
  throw SystemError("mmap",
                    fmt::format("{} MiB of shared memory for the family: raise the limit on "
                                "address space (ulimit -v)",
                                kSmallestReserve / kMiB),
                    ENOMEM);
}

[[noreturn]] void refuse(const char* what) {
  throw DecodeError(fmt::format("this is not the memory of a family of this version: {}", what));
}

}  // namespace

// From the size alone, not from the header, which others may write to.
Segment::Segment(Fd file, Mapping mapping)
    : file_(std::move(file)),
      mapping_(std::move(mapping)),
      data_at_(Layout(mapping_.size()).data_at),
      registry_(reinterpret_cast<Life*>(at(Layout(mapping_.size()).lives_at)),
                reinterpret_cast<Record*>(at(Layout(mapping_.size()).records_at)),
                reinterpret_cast<ThreadTable*>(at(Layout(mapping_.size()).threads_at))),
      extents_(
          at(data_at_),
          reinterpret_cast<std::atomic<std::uint64_t>*>(at(Layout(mapping_.size()).directory_at)),
          (mapping_.size() - data_at_) / Layout(mapping_.size()).granule_bytes,
          Layout(mapping_.size()).granule_bytes, header().high_water),
      heap_tables_{
          .directory = reinterpret_cast<std::atomic<std::uint64_t>*>(
              at(Layout(mapping_.size()).directory_at)),
          .high_water = &header().high_water,
          .states =
              reinterpret_cast<std::atomic<std::uint32_t>*>(at(Layout(mapping_.size()).states_at)),
          .notes = reinterpret_cast<PageNote<std::atomic>*>(at(Layout(mapping_.size()).notes_at)),
          .granules = extents_.total_bytes() / extents_.granule_bytes(),
          .units = extents_.granule_bytes() / HeapBoard<>::kUnit,
          .data = at(data_at_)},
      heap_(heap_tables_),
      names_(reinterpret_cast<NameEntry*>(at(Layout(mapping_.size()).names_at)),
             Layout(mapping_.size()).names) {}

Segment Segment::create() {
  Reserved reserved = reserve();
  const std::size_t bytes = reserved.mapping.size();
  const std::size_t page = page_size();
  const Layout layout(bytes);

  auto& header = *new (reserved.mapping.data()) SegmentHeader{};
  header.magic = SegmentHeader::kMagic;
  header.layout_version = SegmentHeader::kLayoutVersion;
  header.root_pid = static_cast<std::uint32_t>(current_pid());
  header.bytes = bytes;
  header.lives_at = layout.lives_at;
  header.records_at = layout.records_at;
  header.directory_at = layout.directory_at;
  header.objects_at = layout.objects_at;
  header.data_at = layout.data_at;
  header.granule_bytes = layout.granule_bytes;
  std::array<std::byte, kAuthKeyBytes> key{};
  fill_random(key);
  header.authkey.begin(key);
  header.log.level.store(LogCell::kOff);
  // The tables are sparse too: a page comes with the first record or extent that needs it. The
  // first of each is taken now, so that a machine without memory says so here.
  for (const std::uint64_t part : {std::uint64_t{0}, header.lives_at, header.records_at,
                                   layout.names_at, header.directory_at, header.objects_at}) {
    if (!populate_pages(reserved.mapping.data() + part, page)) {
      throw SystemError("madvise(MADV_POPULATE_WRITE)", "the family's shared memory", ENOMEM);
    }
  }
  return {std::move(reserved.file), std::move(reserved.mapping)};
}

Segment Segment::attach(Fd file) { return checked(std::move(file), true); }
Segment Segment::look_at(Fd file) { return checked(std::move(file), false); }

Segment Segment::checked(Fd file, bool writable) {
  // What the header says is compared with what it must say for a file of this size, which nobody
  // can change any more. So no number in it is ever used.
  const std::size_t bytes = file_size(file);
  if (bytes < kSmallestReserve || bytes > kLargestReserve || bytes % page_size() != 0) {
    refuse("wrong size");
  }
  const Layout layout(bytes);
  Mapping mapping = writable ? Mapping(file, bytes) : Mapping::read_only(file, bytes);
  const auto& header = *reinterpret_cast<const SegmentHeader*>(mapping.data());
  if (header.magic != SegmentHeader::kMagic) refuse("wrong magic number");
  if (header.layout_version != SegmentHeader::kLayoutVersion) refuse("another layout");
  if (header.bytes != bytes || header.lives_at != layout.lives_at ||
      header.records_at != layout.records_at || header.directory_at != layout.directory_at ||
      header.objects_at != layout.objects_at || header.data_at != layout.data_at ||
      header.granule_bytes != layout.granule_bytes) {
    refuse("its parts are elsewhere");
  }
  return {std::move(file), std::move(mapping)};
}

ObjectEntry<>* Segment::objects() const {
  return reinterpret_cast<ObjectEntry<>*>(at(Layout(mapping_.size()).objects_at));
}

std::uint32_t Segment::most_objects() const { return Layout(mapping_.size()).most_objects; }

WaitNote& Segment::wait_note(Tag tag) const {
  return reinterpret_cast<WaitNotes*>(at(Layout(mapping_.size()).waits_at))->of[tag.slot()];
}

std::byte* Segment::checked(std::uint64_t offset, std::uint64_t bytes) const {
  if (offset < data_at_ || offset > mapping_.size() || bytes > mapping_.size() - offset) {
    throw DecodeError(fmt::format("[{}, +{}) is not in the family's shared memory", offset, bytes));
  }
  return mapping_.data() + offset;
}

void announce(SegmentHeader& header) noexcept {
  header.death_epoch.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(header.death_epoch);
}

}  // namespace brood::detail
