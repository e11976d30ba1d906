#pragma once

#include <cstdint>

#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

/// A lock on one byte of a file, or of what lies beyond its end, which the kernel lets go of when
/// its holder dies, whoever that is: also for processes that know nothing of each other.
///
/// Held through a description of its own (F_OFD_SETLK), so it excludes other threads as well, and
/// is no fork's unless that happens while it is held.
class FileLock {
 public:
  /// Waits for it. Throws TimeoutError at the deadline, SystemError without descriptors or /proc.
  FileLock(const Fd& file, std::uint64_t byte, Deadline deadline);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock() = default;  // closing the description lets go

 private:
  Fd own_;
};

}  // namespace brood::detail
