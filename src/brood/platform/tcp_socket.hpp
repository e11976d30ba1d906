#pragma once

#include <cstdint>
#include <string>

#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

/// One end of a TCP connection, or where one may be reached: a name or number, and a port.
struct Endpoint {
  std::string host;
  std::uint16_t port = 0;
};

/// Listens at the first address that the host has; port 0: at one that is free. The socket does not
/// wait in accept_socket(). Throws ArgumentError for an empty host; SystemError: EADDRINUSE,
/// EHOSTUNREACH for a host that nobody knows. Looking a name up takes as long as the system lets
/// it.
Fd listen_tcp(const Endpoint& at, int backlog);

/// Tries all addresses that the host has. Throws as listen_tcp(), ECONNREFUSED; TimeoutError at the
/// deadline.
Fd connect_tcp(const Endpoint& to, Deadline deadline);

/// For a connected socket: small messages go at once, and a peer whose machine is gone is noticed
/// within a minute.
void set_tcp_manners(int socket);

/// In numbers. Throws SystemError.
Endpoint local_endpoint(int socket);
Endpoint remote_endpoint(int socket);

}  // namespace brood::detail
