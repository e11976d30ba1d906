#pragma once

#include <cstdint>
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
  /// In a fork that does not need it.
  void close() { fd_.reset(); }

 private:
  Fd fd_;
};

/// Waits until one descriptor is readable; false at the deadline. Throws SystemError.
bool wait_readable(int fd, Deadline deadline);

}  // namespace brood::detail
