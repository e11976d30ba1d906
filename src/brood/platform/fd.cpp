#include <brood/platform/fd.hpp>

#include <unistd.h>

#include <cerrno>

namespace brood::detail {

void close_fd(int fd) noexcept {
  const int error = errno;
  ::close(fd);  // NOTE: never retried: on Linux the descriptor is gone even after EINTR
  errno = error;
}

}  // namespace brood::detail
