#pragma once

#include <cstddef>
#include <span>

#include <brood/platform/fd.hpp>

namespace brood::detail {

/// Bytes in a memory file that nobody can change any more: whoever gets its descriptor may read it
/// in place, without a copy and without trust. Gone with its last descriptor and mapping.

/// Makes one. Throws SystemError, also when there is no memory.
Fd make_sealed_file(std::span<const std::byte> bytes);

/// One that is being written. Used by one thread.
class FileInMaking {
 public:
  FileInMaking() = default;
  FileInMaking(const FileInMaking&) = delete;
  FileInMaking& operator=(const FileInMaking&) = delete;
  ~FileInMaking();

  [[nodiscard]] bool begun() const noexcept { return file_.valid(); }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// Makes it `bytes` large, more than before; what was written stays, at data(), which may be
  /// another address. All its memory is there: writing cannot fail. Throws SystemError.
  void grow(std::size_t bytes);
  /// Its first `bytes`, sealed. Throws SystemError.
  Fd seal(std::size_t bytes);

 private:
  void unmap() noexcept;

  Fd file_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A sealed file that came from elsewhere, mapped for reading. Unmapped by the destructor.
class SealedMapping {
 public:
  SealedMapping() = default;
  /// Throws DecodeError unless it is a memory file of exactly `bytes` that can neither shrink nor
  /// be written; SystemError.
  SealedMapping(const Fd& file, std::size_t bytes);
  SealedMapping(SealedMapping&& other) noexcept;
  SealedMapping& operator=(SealedMapping&& other) noexcept;
  SealedMapping(const SealedMapping&) = delete;
  SealedMapping& operator=(const SealedMapping&) = delete;
  ~SealedMapping();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Reads the first bytes of a file to `to`; what is sealed or not does not matter. Throws
/// DecodeError when it has fewer, SystemError.
void read_file_to(const Fd& file, std::span<std::byte> to);

}  // namespace brood::detail
