#include <brood/platform/fd.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace brood::detail {

void close_fd(int fd) noexcept {
  const int error = errno;
  ::close(fd);  // NOTE: never retried: on Linux the descriptor is gone even after EINTR
  errno = error;
}

void close_on_exec(std::FILE* file) noexcept {
  const int fd = ::fileno(file);
  if (fd >= 0) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

}  // namespace brood::detail
