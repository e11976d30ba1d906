#include <brood/platform/byte_stream.hpp>

#include <sys/socket.h>

#include <array>
#include <cerrno>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

/// What the network says when the other end is not there any more.
bool is_end(int error) {
  switch (error) {
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET:
    case EHOSTDOWN:
      return true;
    default:
      return false;
  }
}

std::optional<std::size_t> receive(int socket, std::span<std::byte> to, int flags) {
  for (;;) {
    const ssize_t got = ::recv(socket, to.data(), to.size(), flags);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return std::nullopt;
    if (is_end(errno)) return 0;
    throw SystemError("recv", "", errno);
  }
}

}  // namespace

std::optional<std::size_t> receive_some(int socket, std::span<std::byte> to) {
  return receive(socket, to, MSG_DONTWAIT);
}

std::optional<std::size_t> await_some(int socket, std::span<std::byte> to) {
  return receive(socket, to, 0);
}

std::optional<std::size_t> send_some(int socket, std::span<const std::byte> from) {
  for (;;) {
    const ssize_t sent = ::send(socket, from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return 0;
    if (is_end(errno)) return std::nullopt;
    throw SystemError("send", "", errno);
  }
}

void shut_down(int socket) noexcept { ::shutdown(socket, SHUT_RDWR); }

void finish_stream(int socket) noexcept {
  ::shutdown(socket, SHUT_WR);
  std::array<std::byte, 16384> dropped;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  constexpr int kMost = 256;             // it may go on for ever
  for (int i = 0; i < kMost; ++i) {
    if (::recv(socket, dropped.data(), dropped.size(), MSG_DONTWAIT) <= 0) return;
  }
}

}  // namespace brood::detail
