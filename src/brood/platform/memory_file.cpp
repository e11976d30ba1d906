#include <brood/platform/memory_file.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/round_up.hpp>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace brood::detail {
namespace {

/// MADV_COLLAPSE of Linux 6.1, which the C library's headers need not know.
constexpr int kCollapse = 25;

std::size_t limit_of(decltype(RLIMIT_AS) resource) noexcept {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<std::size_t>::max();
  }
  return limit.rlim_cur;
}

/// Address space for `bytes`, with nothing in it, that begins where a huge page can: else the pages
/// of a file at its beginning are mapped one by one. Null where it is short or there is none.
std::byte* reserve_at_huge_page(std::size_t bytes) noexcept {
  if (bytes < kHugePage || bytes > SIZE_MAX - kHugePage) return nullptr;
  const std::size_t page = page_size();
  const std::size_t size = round_up(bytes, page);
  void* const all = ::mmap(nullptr, size + kHugePage, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<std::uintptr_t>(all);
  const std::size_t before = round_up(begin, kHugePage) - begin;
  auto* const place = static_cast<std::byte*>(all) + before;
  if (before != 0) ::munmap(all, before);
  if (before != kHugePage) ::munmap(place + size, kHugePage - before);
  return place;
}

bool populate_small_pages(std::byte* data, std::size_t bytes) noexcept {
  if (bytes == 0) return true;
  while (::madvise(data, bytes, MADV_POPULATE_WRITE) != 0) {
    switch (errno) {
      case EINTR:
        continue;
      case EINVAL:  // an older kernel: pages come when they are touched
        return true;
      case EFAULT:  // would have been SIGBUS
        errno = ENOMEM;
        return false;
      default:
        return false;
    }
  }
  return true;
}

bool has_page(std::byte* at) noexcept {
  unsigned char resident = 1;
  return ::mincore(at, 1, &resident) != 0 || (resident & 1U) != 0;
}

/// Whether there may be a page where a huge one would be.
bool may_have_pages(std::byte* at) noexcept {
  return has_page(at) || has_page(at + kHugePage - page_size());
}

/// Takes huge pages for [begin, end), where there are none. Shared memory gets one only by being
/// asked for it after it has a small one, unless the administrator says that all of it does. False
/// when they cannot all be.
// NOTE: without the last of its pages a huge one would reach beyond the end of a file.
bool populate_huge_pages(std::byte* begin, const std::byte* end) noexcept {
  for (std::byte* at = begin; at != end; at += kHugePage) {
    if (!populate_small_pages(at, page_size()) ||
        !populate_small_pages(at + kHugePage - page_size(), page_size())) {
      return false;
    }
  }
  // In one call, as each waits for all processors.
  return ::madvise(begin, static_cast<std::size_t>(end - begin), kCollapse) == 0;
}

}  // namespace

Fd create_memory_file(const char* label, std::size_t bytes) {
  // NOTE: the kernel would not only refuse, but send SIGXFSZ.
  if (bytes > file_size_limit()) {
    throw SystemError(
        "ftruncate",
        fmt::format("memfd {}, {} bytes: raise the limit on file sizes (ulimit -f)", label, bytes),
        EFBIG);
  }
  Fd file(::memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) throw SystemError("memfd_create", label, errno);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    throw SystemError("ftruncate", fmt::format("memfd {}, {} bytes", label, bytes), errno);
  }
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    throw SystemError("fcntl(F_ADD_SEALS)", label, errno);
  }
  return file;
}

std::size_t file_size(const Fd& file) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw SystemError("fstat", "a memory file", errno);
  return static_cast<std::size_t>(status.st_size);
}

Mapping Mapping::try_map(const Fd& file, std::size_t bytes) {
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  constexpr int kFlags = MAP_SHARED | MAP_NORESERVE;
  void* data = MAP_FAILED;
  std::byte* const place = reserve_at_huge_page(bytes);
  if (place != nullptr) {
    data = ::mmap(place, bytes, kProtection, kFlags | MAP_FIXED, file.get(), 0);
    if (data == MAP_FAILED) ::munmap(place, bytes);
  }
  if (data == MAP_FAILED) data = ::mmap(nullptr, bytes, kProtection, kFlags, file.get(), 0);
  Mapping mapping;
  if (data == MAP_FAILED) {
    if (errno == ENOMEM) return mapping;
    throw SystemError("mmap", fmt::format("{} bytes of shared memory", bytes), errno);
  }
  // Core dumps of a family with gigabytes reserved would be useless and slow.
  ::madvise(data, bytes, MADV_DONTDUMP);
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.size_ = bytes;
  return mapping;
}

Mapping Mapping::read_only(const Fd& file, std::size_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
  if (data == MAP_FAILED) {
    throw SystemError("mmap", fmt::format("{} bytes of shared memory", bytes), errno);
  }
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.size_ = bytes;
  return mapping;
}

Mapping::Mapping(const Fd& file, std::size_t bytes) : Mapping(try_map(file, bytes)) {
  if (!valid()) throw SystemError("mmap", fmt::format("{} bytes of shared memory", bytes), ENOMEM);
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

bool populate_pages(std::byte* data, std::size_t bytes) noexcept {
  const int before = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  const std::size_t skipped = round_up(address, kHugePage) - address;
  if (skipped < bytes) {
    std::byte* at = data + skipped;
    std::byte* const end = at + (bytes - skipped) / kHugePage * kHugePage;
    while (at != end) {
      // What has pages keeps them: to make a huge one of them costs as much as to copy them.
      std::byte* const begin = at;
      while (at != end && !may_have_pages(at)) at += kHugePage;
      // Not here, or not now: nor elsewhere, most likely.
      if (at != begin && !populate_huge_pages(begin, at)) break;
      if (at != end) at += kHugePage;
    }
  }
  errno = before;
  return populate_small_pages(data, bytes);
}

void want_huge_pages(void* data, std::size_t bytes) noexcept {
  // Below this an allocator mostly hands out memory that has its pages; the advice would only cut
  // its mappings into pieces.
  constexpr std::size_t kLeast = std::size_t{8} << 20U;
  if (bytes < kLeast) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = round_up(begin, kHugePage);
  const std::uintptr_t last = (begin + bytes) / kHugePage * kHugePage;
  const int before = errno;
  auto* const inside = static_cast<std::byte*>(data) + (first - begin);
  if (!has_page(inside)) {
    ::madvise(inside, last - first, MADV_HUGEPAGE);
    // What is in front and behind are small ones, up to 1023 of them. Without memory for them the
    // caller will learn of it.
    const std::uintptr_t page = page_size();
    const std::size_t in_front = first - round_up(begin, page);
    const std::size_t behind = (begin + bytes) / page * page - last;
    static_cast<void>(populate_small_pages(inside - in_front, in_front));
    static_cast<void>(populate_small_pages(inside + (last - first), behind));
  }
  errno = before;
}

void discard_pages(std::byte* data, std::size_t bytes) noexcept {
  ::madvise(data, bytes, MADV_REMOVE);
}

std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::size_t address_space_limit() noexcept { return limit_of(RLIMIT_AS); }
std::size_t file_size_limit() noexcept { return limit_of(RLIMIT_FSIZE); }

}  // namespace brood::detail
