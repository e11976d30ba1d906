#pragma once

#include <cstddef>
#include <cstdint>

#include <brood/platform/fd.hpp>

namespace brood::detail {

/// Anonymous shared memory (memfd) of a fixed size: sparse, without a name, sealed against
/// shrinking and growing. Gone when the last descriptor and mapping go, whoever died.
/// Throws SystemError.
Fd create_memory_file(const char* label, std::size_t bytes);

/// The size of a file in bytes. Throws SystemError.
std::size_t file_size(const Fd& file);

/// The size of a huge page.
inline constexpr std::size_t kHugePage = std::size_t{2} << 20U;

/// One mapping of a memory file, readable and, unless it says otherwise, writable, shared. Unmapped
/// by the destructor. One that may be written to begins at a multiple of kHugePage, where there is
/// room and it is that large.
class Mapping {
 public:
  Mapping() = default;
  /// Maps `bytes` of `file`. Throws SystemError.
  Mapping(const Fd& file, std::size_t bytes);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  /// As the constructor, but invalid instead of throwing when there is no room for it (ENOMEM).
  static Mapping try_map(const Fd& file, std::size_t bytes);
  /// Whoever writes to it is ended by SIGSEGV. Throws SystemError.
  static Mapping read_only(const Fd& file, std::size_t bytes);

  [[nodiscard]] bool valid() const noexcept { return data_ != nullptr; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Takes pages for [data, data + bytes) now, in one call: later writes cannot meet a lack of memory
/// (SIGBUS), and it costs less than touching them one by one; a tenth of that for what is a whole
/// kHugePage at a multiple of it, in memory and in the file, has no pages yet, and where the kernel
/// (6.1) finds a huge page. Others then map it by one fault, not 512. Contents are kept. False,
/// with errno, when there is not enough memory. `data` is aligned to the page.
[[nodiscard]] bool populate_pages(std::byte* data, std::size_t bytes) noexcept;

/// Asks that fresh private memory in [data, data + bytes), which is about to be filled, comes in
/// huge pages: filling 64 MiB of it takes a third of the time then. A wish: nothing happens where
/// it cannot be, where it is short, or where there are pages already.
void want_huge_pages(void* data, std::size_t bytes) noexcept;

/// Gives pages back to the system, from all processes; they read as zero afterwards.
void discard_pages(std::byte* data, std::size_t bytes) noexcept;

/// The size of a page in bytes.
std::size_t page_size() noexcept;

/// What this process may still map: RLIMIT_AS, or the largest size_t when unlimited.
std::size_t address_space_limit() noexcept;

/// The largest file that this process may make, memory files too: RLIMIT_FSIZE, or the largest
/// size_t when unlimited.
std::size_t file_size_limit() noexcept;

}  // namespace brood::detail
