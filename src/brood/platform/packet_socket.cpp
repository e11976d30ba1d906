#include <brood/platform/packet_socket.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/poller.hpp>

namespace brood::detail {
namespace {

// Not initialised: it is a kilobyte, and nearly always unused.
union PacketControl {
  PacketControl() {}  // NOLINT(modernize-use-equals-default): default would be deleted
  std::array<char, CMSG_SPACE(sizeof(int) * kMostPacketFds)> bytes;
  cmsghdr alignment;
};

void attach(msghdr& header, PacketControl& control, std::span<const int> descriptors) {
  header.msg_control = control.bytes.data();
  header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
  std::memset(control.bytes.data(), 0, header.msg_controllen);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
}

void take_descriptors(msghdr& header, std::vector<Fd>& descriptors) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    descriptors.reserve(descriptors.size() + count);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(fd);
    }
  }
}

}  // namespace

SendPacket send_packet(int socket, std::span<const std::byte> head, std::span<const std::byte> body,
                       std::span<const int> descriptors, Deadline deadline) {
  std::array<iovec, 2> parts{
      iovec{.iov_base = const_cast<std::byte*>(head.data()), .iov_len = head.size()},
      iovec{.iov_base = const_cast<std::byte*>(body.data()), .iov_len = body.size()}};
  PacketControl control;
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = body.empty() ? 1 : 2;
  if (!descriptors.empty()) attach(header, control, descriptors);
  const int flags = MSG_NOSIGNAL | (deadline.is_never() ? 0 : MSG_DONTWAIT);
  while (::sendmsg(socket, &header, flags) < 0) {
    switch (errno) {
      case EINTR:
        continue;
      case EAGAIN:
        if (!wait_writable(socket, deadline)) return SendPacket::not_in_time;
        continue;
      case EPIPE:
      case ECONNRESET:
      case ENOTCONN:
        return SendPacket::gone;
      case EMSGSIZE:
        return SendPacket::too_large;
      default:
        throw SystemError("sendmsg",
                          fmt::format("a message of {} bytes with {} descriptors",
                                      head.size() + body.size(), descriptors.size()),
                          errno);
    }
  }
  return SendPacket::sent;
}

std::optional<Packet> receive_packet(int socket, std::span<std::byte> buffer, Deadline deadline) {
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  PacketControl control;
  msghdr header{};
  const int flags = MSG_CMSG_CLOEXEC | (deadline.is_never() ? 0 : MSG_DONTWAIT);
  for (;;) {
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes.data();
    header.msg_controllen = control.bytes.size();
    const ssize_t got = ::recvmsg(socket, &header, flags);
    if (got >= 0) {
      Packet packet;
      packet.bytes = static_cast<std::size_t>(got);
      packet.end = got == 0;
      packet.cut = (header.msg_flags & MSG_TRUNC) != 0;
      packet.fds_lost = (header.msg_flags & MSG_CTRUNC) != 0;
      if (header.msg_controllen > 0) take_descriptors(header, packet.descriptors);
      return packet;
    }
    switch (errno) {
      case EINTR:
      // SUBTLE: the other end went with packets of ours unread. This is said once, before what it
      // had sent itself; that comes next, then the end.
      case ECONNRESET:
        continue;
      case EAGAIN:
        if (deadline.is_now() || !wait_readable(socket, deadline)) return std::nullopt;
        continue;
      default:
        throw SystemError("recvmsg", "", errno);
    }
  }
}

bool is_packet_socket(int fd) noexcept {
  int type = 0;
  int domain = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
    return false;
  }
  size = sizeof domain;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

}  // namespace brood::detail
