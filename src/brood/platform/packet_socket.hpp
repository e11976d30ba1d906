#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

/// Packets over a socket that keeps them apart (AF_UNIX, SOCK_SEQPACKET): each is sent whole by one
/// system call or not at all, whoever is killed and whoever else sends, and received whole or not
/// at all. Any threads and processes may send and receive through the same socket at once. SIGPIPE
/// is never raised, signals are waited over.

/// The most descriptors that one packet carries.
inline constexpr std::size_t kMostPacketFds = 253;

enum class SendPacket : std::uint8_t {
  sent,
  not_in_time,  // nothing was sent before the deadline
  gone,         // nobody can receive it any more
  too_large,    // the socket's buffer is too small for a packet of this size
};
/// Sends `head` and `body` as one packet with copies of `descriptors`. Throws SystemError.
SendPacket send_packet(int socket, std::span<const std::byte> head, std::span<const std::byte> body,
                       std::span<const int> descriptors, Deadline deadline);

struct Packet {
  std::size_t bytes = 0;        // how many were written to the buffer
  bool end = false;             // no packet: nobody will send one any more
  bool cut = false;             // it was longer than the buffer; the rest is gone
  bool fds_lost = false;        // this process had no free descriptors for all that came
  std::vector<Fd> descriptors;  // close-on-exec
};
/// Receives one packet into `buffer`; nullopt at the deadline. Throws SystemError.
std::optional<Packet> receive_packet(int socket, std::span<std::byte> buffer, Deadline deadline);

/// Whether `fd` is a connected socket of this kind: what came from elsewhere may be anything.
bool is_packet_socket(int fd) noexcept;

}  // namespace brood::detail
