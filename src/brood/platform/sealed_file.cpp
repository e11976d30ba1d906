#include <brood/platform/sealed_file.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/memory_file.hpp>
#include <brood/platform/round_up.hpp>

namespace brood::detail {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

Fd make_file(std::size_t bytes) {
  // NOTE: the kernel would not only refuse, but send SIGXFSZ.
  if (bytes > file_size_limit()) {
    throw SystemError(
        "ftruncate",
        fmt::format("a message of {} bytes: raise the limit on file sizes (ulimit -f)", bytes),
        EFBIG);
  }
  Fd file(::memfd_create("brood-message", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) throw SystemError("memfd_create", "brood-message", errno);
  return file;
}

void resize(const Fd& file, std::size_t bytes) {
  if (bytes > file_size_limit() || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    throw SystemError("ftruncate", fmt::format("a message of {} bytes", bytes), errno);
  }
}

void add_seals(const Fd& file) {
  if (::fcntl(file.get(), F_ADD_SEALS, kSeals) != 0) {
    throw SystemError("fcntl(F_ADD_SEALS)", "a message", errno);
  }
}

}  // namespace

Fd make_sealed_file(std::span<const std::byte> bytes) {
  Fd file = make_file(bytes.size());
  // Written, not mapped: the kernel need not zero the pages first.
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      throw SystemError("write", fmt::format("a message of {} bytes", bytes.size()), errno);
    }
    done += static_cast<std::size_t>(wrote);
  }
  add_seals(file);
  return file;
}

FileInMaking::~FileInMaking() { unmap(); }

void FileInMaking::unmap() noexcept {
  if (data_ != nullptr) ::munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

void FileInMaking::grow(std::size_t bytes) {
  const std::size_t rounded = round_up(bytes, page_size());
  if (!file_.valid()) file_ = make_file(rounded);
  resize(file_, rounded);
  void* const data = data_ == nullptr ? ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_SHARED,
                                               file_.get(), 0)
                                      : ::mremap(data_, size_, rounded, MREMAP_MAYMOVE);
  if (data == MAP_FAILED) throw SystemError("mmap", fmt::format("{} bytes", rounded), errno);
  data_ = static_cast<std::byte*>(data);
  const std::size_t before = std::exchange(size_, rounded);
  if (!populate_pages(data_ + before, size_ - before)) {
    throw SystemError("madvise(MADV_POPULATE_WRITE)", fmt::format("a message of {} bytes", bytes),
                      errno);
  }
}

Fd FileInMaking::seal(std::size_t bytes) {
  unmap();  // or it could not be sealed against writing
  resize(file_, bytes);
  add_seals(file_);
  return std::move(file_);
}

SealedMapping::SealedMapping(const Fd& file, std::size_t bytes) {
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  constexpr int kNeeded = F_SEAL_SHRINK | F_SEAL_WRITE;
  struct stat status {};
  if (seals < 0 || (seals & kNeeded) != kNeeded || ::fstat(file.get(), &status) != 0 ||
      std::cmp_not_equal(status.st_size, bytes)) {
    throw DecodeError(fmt::format(
        "a message of {} bytes should come in a memory file, but what came is none", bytes));
  }
  if (bytes == 0) return;
  // NOTE: private, as older kernels refuse shared mappings of a file that is sealed against
  // writing.
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file.get(), 0);
  if (data == MAP_FAILED) throw SystemError("mmap", fmt::format("{} bytes", bytes), errno);
  data_ = static_cast<std::byte*>(data);
  size_ = bytes;
}

SealedMapping::SealedMapping(SealedMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SealedMapping& SealedMapping::operator=(SealedMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SealedMapping::~SealedMapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void read_file_to(const Fd& file, std::span<std::byte> to) {
  for (std::size_t done = 0; done < to.size();) {
    const ssize_t got =
        ::pread(file.get(), to.data() + done, to.size() - done, static_cast<off_t>(done));
    if (got < 0) {
      if (errno == EINTR) continue;
      throw SystemError("pread", "a message", errno);
    }
    if (got == 0) {
      throw DecodeError(
          fmt::format("a message of {} bytes came with {} bytes only", to.size(), done));
    }
    done += static_cast<std::size_t>(got);
  }
}

}  // namespace brood::detail
