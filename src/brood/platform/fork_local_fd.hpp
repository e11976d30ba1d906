#pragma once

#include <span>
#include <utility>

#include <brood/platform/fd.hpp>

namespace brood::detail {

/// A descriptor that belongs to one process: a copy of that process which is to live on as a child
/// calls abandon_fork_local_fds(), and holds the file no more.
///
/// It matters for ends of connections: as long as anybody has a copy of the one end open, the other
/// does not see its end. Moves, never copies; used by one thread at a time, as Fd.
class ForkLocalFd {
 public:
  ForkLocalFd() = default;
  /// Throws std::bad_alloc; then `fd` is closed.
  explicit ForkLocalFd(Fd fd);
  ForkLocalFd(ForkLocalFd&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), generation_(other.generation_) {}
  ForkLocalFd& operator=(ForkLocalFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
      generation_ = other.generation_;
    }
    return *this;
  }
  ForkLocalFd(const ForkLocalFd&) = delete;
  ForkLocalFd& operator=(const ForkLocalFd&) = delete;
  ~ForkLocalFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  void reset() noexcept;

 private:
  int fd_ = -1;
  unsigned generation_ = 0;  // of the process that made it
};

/// In a child that was forked while no other thread ran: lets go of all files that a ForkLocalFd of
/// the parent holds, but for `kept`, which are the caller's to close. The numbers of the others
/// stay taken, by a socket whose other end is gone: what the parent's objects, as far as the child
/// can still reach them, do with their number does not hit a file that came later.
void abandon_fork_local_fds(std::span<const int> kept) noexcept;

}  // namespace brood::detail
