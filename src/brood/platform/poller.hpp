#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

/// Waits until one of several descriptors is readable or has ended (epoll). One thread at a time.
class Poller {
 public:
  /// Throws SystemError.
  Poller();
  /// `key` comes back from wait() while `fd` is readable. Throws SystemError.
  void add(int fd, std::uint64_t key);
  void remove(int fd) noexcept;
  /// The keys of those that are ready; empty at the deadline. Throws SystemError.
  std::vector<std::uint64_t> wait(Deadline deadline);
  /// Readable while wait() would return something.
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
  /// In a fork that does not need it.
  void close() { fd_.reset(); }

 private:
  Fd fd_;
};

/// Waits until one descriptor is readable, or writable; false at the deadline. One that has ended
/// counts as either. Throws SystemError.
bool wait_readable(int fd, Deadline deadline);
bool wait_writable(int fd, Deadline deadline);

/// Waits until one of `fds` is readable or has ended; says for each whether it is. All false at
/// the deadline; with none, it waits for the deadline. Throws SystemError, also for a number that
/// is no descriptor.
std::vector<bool> wait_readable(std::span<const int> fds, Deadline deadline);

}  // namespace brood::detail
