#include <brood/platform/socket.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

// Not initialised: it is a kilobyte, and nearly always unused.
union ControlBuffer {
  ControlBuffer() {}  // NOLINT(modernize-use-equals-default): default would be deleted
  std::array<char, CMSG_SPACE(sizeof(int) * kMaxMessageFds)> bytes;
  cmsghdr alignment;
};

}  // namespace

std::pair<Fd, Fd> socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw SystemError("socketpair", "AF_UNIX, SOCK_SEQPACKET", errno);
  }
  return {Fd(ends[0]), Fd(ends[1])};
}

bool send_message(const Fd& socket, std::span<const std::byte> bytes,
                  std::span<const int> descriptors) {
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  ControlBuffer control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  const std::size_t count = std::min(descriptors.size(), kMaxMessageFds);
  if (count > 0) {
    header.msg_control = control.bytes.data();
    header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    std::memset(control.bytes.data(), 0, header.msg_controllen);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    std::memcpy(CMSG_DATA(rights), descriptors.data(), sizeof(int) * count);
  }
  while (::sendmsg(socket.get(), &header, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return false;
    throw SystemError("sendmsg", "to the fork server", errno);
  }
  return true;
}

bool is_connected(const Fd& socket) {
  pollfd poll{.fd = socket.get(), .events = 0, .revents = 0};  // POLLHUP comes unasked
  while (::poll(&poll, 1, 0) < 0) {
    if (errno != EINTR) throw SystemError("poll", "the fork server's socket", errno);
  }
  return (poll.revents & (POLLHUP | POLLERR)) == 0;
}

Message receive_message(const Fd& socket, std::span<std::byte> buffer) {
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  ControlBuffer control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = control.bytes.size();
  ssize_t got = 0;
  while ((got = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) < 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return {};
    if (errno == ECONNRESET) return {.size = 0, .end = true, .descriptors = {}};
    throw SystemError("recvmsg", "from a member of the family", errno);
  }
  Message message;
  message.size = static_cast<std::size_t>(got);
  message.end = got == 0 || (header.msg_flags & MSG_TRUNC) != 0;
  for (cmsghdr* part_of = CMSG_FIRSTHDR(&header); part_of != nullptr;
       part_of = CMSG_NXTHDR(&header, part_of)) {
    if (part_of->cmsg_level != SOL_SOCKET || part_of->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part_of->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part_of) + i * sizeof(int), sizeof(int));
      message.descriptors.emplace_back(fd);
    }
  }
  return message;
}

}  // namespace brood::detail
