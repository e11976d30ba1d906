#include <brood/platform/pipe.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <brood/errors.hpp>

namespace brood::detail {

BytePipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw SystemError("pipe2", "", errno);
  Fd out(ends[0]);
  Fd in(ends[1]);
  // Of this end alone: the other belongs to programs which do not expect that writing fails.
  if (::fcntl(out.get(), F_SETFL, O_NONBLOCK) != 0) {
    throw SystemError("fcntl(F_SETFL)", "a pipe's end", errno);
  }
  return {.out = ForkLocalFd(std::move(out)), .in = std::move(in)};
}

std::optional<std::size_t> read_some(int fd, std::span<std::byte> to) {
  for (;;) {
    const ssize_t count = ::read(fd, to.data(), to.size());
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) throw SystemError("read", "a pipe", errno);
  }
}

std::optional<std::size_t> write_piece(int fd, std::span<const std::byte> from) noexcept {
  constexpr std::size_t kMost = 4096;  // PIPE_BUF: so much room is there when poll() says so
  const ssize_t count = ::write(fd, from.data(), std::min(from.size(), kMost));
  if (count >= 0) return static_cast<std::size_t>(count);
  if (errno == EINTR || errno == EAGAIN) return 0;
  return std::nullopt;
}

}  // namespace brood::detail
