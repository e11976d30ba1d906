#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/named_memory.hpp>

namespace brood::detail {

/// Under which a Unix socket is found: a path, or a name of the network namespace, which no file
/// has and which is gone with its socket.
struct UnixName {
  std::string name;
  bool abstract = false;
};

/// Throws ArgumentError unless it can be bound to: not empty, without NUL, not too long.
void check_unix_name(const UnixName& name);

enum class SocketKind : std::uint8_t { packets, stream };

struct ListeningUnix {
  Fd socket;  // does not wait in accept_socket()
  std::optional<FileIdentity> file = {};
};
/// A path is for this user alone from its first moment on; one whose socket nobody has open any
/// more is replaced. Throws SystemError: EADDRINUSE if somebody listens there, or the path is
/// something else.
ListeningUnix listen_unix(const UnixName& name, SocketKind kind, int backlog);

/// Which socket has the path; none if it is something else, or nothing.
std::optional<FileIdentity> find_socket(const std::string& path) noexcept;
/// Takes the path of a socket away if it is still that file's.
void unlink_socket_if(const std::string& path, const FileIdentity& file) noexcept;

/// Waits while the other's queue is full. Throws TimeoutError at the deadline; SystemError: ENOENT,
/// ECONNREFUSED if nobody listens, EPROTOTYPE for one of the other kind.
Fd connect_unix(const UnixName& name, SocketKind kind, Deadline deadline);

/// Who made the other end of a Unix socket, or listened there, as the kernel knows.
struct PeerIds {
  int pid = 0;  // 0: in a namespace that is not seen from here
  std::uint32_t user = 0;
  std::uint32_t group = 0;
};
PeerIds peer_ids(int socket);
/// The effective user of this process.
std::uint32_t current_user() noexcept;

/// The next that has connected, of any kind of socket; nullopt if there is none now, or it has gone
/// again. Throws SystemError, EMFILE for one.
std::optional<Fd> accept_socket(int listening);

}  // namespace brood::detail
