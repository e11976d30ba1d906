#include <brood/memory/segment.hpp>

#include <algorithm>
#include <new>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20U;
constexpr std::size_t kLargestReserve = std::size_t{64} << 30U;
constexpr std::size_t kSmallestReserve = 8 * kMiB;
constexpr std::size_t kMostGranules = 65536;
constexpr std::size_t kSmallestGranule = std::size_t{64} << 10U;

constexpr std::size_t round_up(std::size_t value, std::size_t to) {
  return (value + to - 1) / to * to;
}

struct Reserved {
  Fd file;
  Mapping mapping;
};

/// As much address space as there is, but never so much that the program itself runs out of it.
Reserved reserve() {
  const std::size_t allowed = address_space_limit() / 4;
  for (std::size_t bytes = kLargestReserve; bytes >= kSmallestReserve; bytes /= 4) {
    if (bytes > allowed && bytes > kSmallestReserve) continue;
    Fd file = create_memory_file("brood", bytes);
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

Segment::Segment(Fd file, Mapping mapping)
    : file_(std::move(file)),
      mapping_(std::move(mapping)),
      registry_(reinterpret_cast<Life*>(mapping_.data() + header().lives_at),
                reinterpret_cast<Record*>(mapping_.data() + header().records_at)),
      extents_(mapping_.data() + header().data_at,
               reinterpret_cast<std::atomic<std::uint64_t>*>(mapping_.data() +
                                                             header().directory_at),
               (header().bytes - header().data_at) / header().granule_bytes,
               header().granule_bytes, header().high_water) {}

Segment Segment::create() {
  Reserved reserved = reserve();
  const std::size_t bytes = reserved.mapping.size();
  const std::size_t page = page_size();
  const std::size_t granule = std::max(kSmallestGranule, bytes / kMostGranules);

  auto& header = *new (reserved.mapping.data()) SegmentHeader{};
  header.magic = SegmentHeader::kMagic;
  header.layout_version = SegmentHeader::kLayoutVersion;
  header.root_pid = static_cast<std::uint32_t>(current_pid());
  header.bytes = bytes;
  header.lives_at = page;  // a page of their own: see LifeMutex
  header.records_at = round_up(header.lives_at + Registry::kSlots * sizeof(Life), page);
  header.directory_at = round_up(header.records_at + Registry::kSlots * sizeof(Record), page);
  header.data_at =
      round_up(header.directory_at + bytes / granule * sizeof(std::uint64_t), granule);
  header.granule_bytes = granule;
  // The tables are sparse too: a page comes with the first record or extent that needs it. The
  // first of each is taken now, so that a machine without memory says so here.
  for (const std::uint64_t part : {std::uint64_t{0}, header.lives_at, header.records_at,
                                   header.directory_at}) {
    if (!populate_pages(reserved.mapping.data() + part, page)) {
      throw SystemError("madvise(MADV_POPULATE_WRITE)", "the family's shared memory", ENOMEM);
    }
  }
  return {std::move(reserved.file), std::move(reserved.mapping)};
}

Segment Segment::attach(Fd file) {
  const std::size_t page = page_size();
  SegmentHeader header{};
  {
    const Mapping first(file, page);
    const auto& shared = *reinterpret_cast<const SegmentHeader*>(first.data());
    header.magic = shared.magic;
    header.layout_version = shared.layout_version;
    header.bytes = shared.bytes;
    header.lives_at = shared.lives_at;
    header.records_at = shared.records_at;
    header.directory_at = shared.directory_at;
    header.data_at = shared.data_at;
    header.granule_bytes = shared.granule_bytes;
  }
  if (header.magic != SegmentHeader::kMagic) refuse("wrong magic number");
  if (header.layout_version != SegmentHeader::kLayoutVersion) refuse("another layout");
  const bool ordered = page <= header.lives_at && header.lives_at < header.records_at &&
                       header.records_at < header.directory_at &&
                       header.directory_at < header.data_at && header.data_at < header.bytes;
  if (!ordered || header.granule_bytes < kSmallestGranule) refuse("its parts overlap");
  Mapping mapping(file, header.bytes);
  return {std::move(file), std::move(mapping)};
}

std::byte* Segment::checked(std::uint64_t offset, std::uint64_t bytes) const {
  const std::uint64_t first = header().data_at;
  if (offset < first || offset > mapping_.size() || bytes > mapping_.size() - offset) {
    throw DecodeError(
        fmt::format("[{}, +{}) is not in the family's shared memory", offset, bytes));
  }
  return mapping_.data() + offset;
}

void announce(SegmentHeader& header) noexcept {
  header.death_epoch.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(header.death_epoch);
}

}  // namespace brood::detail
