#include <brood/connect.hpp>

#include <memory>
#include <utility>

#include <fmt/format.h>

#include <brood/authkey.hpp>
#include <brood/channel/packet_transport.hpp>
#include <brood/channel/tls_handshake.hpp>
#include <brood/errors.hpp>
#include <brood/platform/tcp_socket.hpp>
#include <brood/platform/unix_socket.hpp>

namespace brood {
namespace {

using detail::Deadline;
using detail::Fd;

Fd connect_local(const Address& address, bool with_key, Deadline deadline) {
  const detail::UnixName name{.name = address.name,
                              .abstract = address.kind == Address::Kind::abstract};
  Fd socket;
  try {
    socket = detail::connect_unix(
        name, with_key ? detail::SocketKind::stream : detail::SocketKind::packets, deadline);
  } catch (const SystemError& e) {
    if (e.code() != std::errc::wrong_protocol_type) throw;
    throw AuthenticationError(
        fmt::format("who listens at {} {}", address.to_string(),
                    with_key ? "is no Listener with an authkey, and one was given"
                             : "is no Listener without an authkey, and none was given"));
  }
  // A name that is not a path may be anybody's.
  if (const detail::PeerIds ids = detail::peer_ids(socket.get());
      ids.user != detail::current_user()) {
    throw AuthenticationError(
        fmt::format("process {} of user {} listens at {}: only one of user "
                    "{} is trusted",
                    ids.pid, ids.user, address.to_string(), detail::current_user()));
  }
  return socket;
}

}  // namespace

Connection connect(const Address& address, const ConnectOptions& options) {
  const auto deadline = Deadline::after(options.timeout);
  const bool tcp = address.kind == Address::Kind::tcp;
  const bool with_key = tcp || options.authkey.has_value();
  if (!with_key) {
    return {std::make_unique<detail::PacketTransport>(connect_local(address, false, deadline),
                                                      options.max_message_bytes),
            true, true};
  }
  auto tls = std::make_shared<const detail::TlsContext>(
      detail::TlsContext::Side::client, options.authkey ? *options.authkey : authkey());
  Fd socket;
  if (tcp) {
    socket = detail::connect_tcp({.host = address.name, .port = address.port}, deadline);
    detail::set_tcp_manners(socket.get());
  } else {
    socket = connect_local(address, true, deadline);
  }
  detail::TlsHandshake handshake(std::move(socket), std::move(tls));
  handshake.run(deadline);
  return {std::move(handshake).finish(options.max_message_bytes), true, true};
}

}  // namespace brood
