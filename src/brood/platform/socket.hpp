#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

/// Two connected ends that carry whole messages in order (AF_UNIX, SOCK_SEQPACKET). An end may be
/// shared by processes: a message is one, whoever sends it. Throws SystemError.
std::pair<Fd, Fd> socket_pair();

/// Sends one message with copies of `descriptors` (at most kMaxMessageFds; negative ones are not
/// allowed). False when nobody can receive it any more. Throws SystemError.
inline constexpr std::size_t kMaxMessageFds = 253;  // the kernel's
bool send_message(const Fd& socket, std::span<const std::byte> bytes,
                  std::span<const int> descriptors);
/// Whether somebody has the other end open, who may receive what is sent.
bool is_connected(const Fd& socket);

/// A message as it came, with its descriptors (close-on-exec).
struct Message {
  std::size_t size = 0;  // bytes written to the buffer; 0 with `end` when no more will come
  bool end = false;
  std::vector<Fd> descriptors;
};
/// Receives one message into `buffer`; a longer one is cut and counts as end. Does not wait if
/// there is none: size 0 and not `end`. Throws SystemError.
Message receive_message(const Fd& socket, std::span<std::byte> buffer);

}  // namespace brood::detail
