// Layer: platform
#pragma once

#include <cstdint>
#include <optional>

namespace brood::detail {

/// Bytes of memory that this process alone uses and that are resident: its heap, its stacks, what
/// it has written of its data. 0 without /proc. Takes some microseconds.
std::uint64_t private_memory() noexcept;

/// Bytes of memory that this process has asked for, touched or not: its heap, its stacks, private
/// mappings that it may write to. 0 without /proc. Takes some microseconds.
std::uint64_t data_memory() noexcept;

/// The two above still work when this process can open no more files. Not in what it forks.
void keep_memory_use_readable() noexcept;

/// While it is there, this process gets at most so many bytes of such memory (RLIMIT_DATA, of which
/// stacks are no part; children inherit it): beyond, malloc and mmap fail. Nothing where the limit
/// of the system is lower, or cannot be read.
class DataLimit {
 public:
  explicit DataLimit(std::uint64_t bytes) noexcept;
  DataLimit(const DataLimit&) = delete;
  DataLimit& operator=(const DataLimit&) = delete;
  ~DataLimit();

 private:
  std::optional<std::uint64_t> before_;
};

}  // namespace brood::detail
