#pragma once

#include <cstdio>
#include <utility>

namespace brood::detail {

/// Closes a descriptor; errno is kept.
void close_fd(int fd) noexcept;
/// Programs that this process executes shall not have it.
void close_on_exec(std::FILE* file) noexcept;

/// Owns one file descriptor: closes it once, moves, never copies.
///
/// There is no conversion to bool, so that the valid descriptor 0 is never taken for none.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) close_fd(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace brood::detail
