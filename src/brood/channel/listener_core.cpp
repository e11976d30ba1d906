#include <brood/channel/listener_core.hpp>

#include <filesystem>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/authkey.hpp>
#include <brood/channel/packet_transport.hpp>
#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/tcp_socket.hpp>
#include <brood/platform/unix_socket.hpp>

namespace brood::detail {
namespace {

constexpr std::uint64_t kListeningKey = 0;

}  // namespace

ListenerCore::ListenerCore(const Address& address, ListenOptions options)
    : address_(address),
      options_(std::move(options)),
      maker_(current_pid()),
      next_key_(kListeningKey + 1) {
  if (options_.max_pending == 0 || options_.backlog < 1) {
    throw ArgumentError(
        fmt::format("a Listener with max_pending = {} and backlog = {}: it could "
                    "accept nobody",
                    options_.max_pending, options_.backlog));
  }
  const bool tcp = address_.kind == Address::Kind::tcp;
  if (tcp && !options_.authkey) options_.authkey = authkey();
  if (options_.authkey) {
    tls_ = std::make_shared<const TlsContext>(TlsContext::Side::server, *options_.authkey);
  }
  listen();
  try {
    register_path();
    poller_.add(socket_.get(), kListeningKey);
  } catch (...) {
    take_path_away();
    throw;
  }
}

void ListenerCore::listen() {
  if (address_.kind == Address::Kind::tcp) {
    socket_ =
        ForkLocalFd(listen_tcp({.host = address_.name, .port = address_.port}, options_.backlog));
    const Endpoint real = local_endpoint(socket_.get());
    address_ = Address::tcp(real.host, real.port);
    return;
  }
  const bool abstract = address_.kind == Address::Kind::abstract;
  if (!abstract && !address_.name.empty() && address_.name.find('\0') == std::string::npos) {
    // The destructor shall find it from wherever the program has gone.
    address_.name = std::filesystem::absolute(address_.name).string();
  }
  ListeningUnix made =
      listen_unix({.name = address_.name, .abstract = abstract},
                  tls_ ? SocketKind::stream : SocketKind::packets, options_.backlog);
  file_ = made.file;
  socket_ = ForkLocalFd(std::move(made.socket));
}

/// So that whoever cleans up after a killed member, or after the family, takes the path away.
void ListenerCore::register_path() {
  member_ = Member::current();
  if (!file_ || !member_) return;
  member_->ensure_watched();
  NameRegister& names = member_->segment().names();
  registration_ = names.add(member_->self(), address_.name, *file_, true);
  names.confirm(registration_);
}

void ListenerCore::take_path_away() noexcept {
  if (!file_ || current_pid() != maker_) return;
  unlink_socket_if(address_.name, *file_);
  if (member_) member_->segment().names().remove(registration_);
}

// SUBTLE: the name first, while the socket is open: until then no other Listener takes the path for
// a dead one's, and what is taken away is ours.
ListenerCore::~ListenerCore() { take_path_away(); }

Peer ListenerCore::peer_of(int socket) const {
  if (address_.kind == Address::Kind::tcp) {
    const Endpoint from = remote_endpoint(socket);
    return {.address = Address::tcp(from.host, from.port)};
  }
  const PeerIds ids = peer_ids(socket);
  return {.credentials = PeerCredentials{.pid = ids.pid, .uid = ids.user, .gid = ids.group}};
}

std::unique_ptr<Transport> ListenerCore::accept(Deadline deadline) {
  for (;;) {
    refuse_late();
    const Deadline next =
        pending_.empty() ? deadline : deadline.sooner(pending_.begin()->second.deadline);
    // Of those who are ready the first who is let in ends this; the others stay ready.
    for (const std::uint64_t key : poller_.wait(next)) {
      std::unique_ptr<Transport> transport = key == kListeningKey ? admit() : advance(key);
      if (transport) return transport;
    }
    if (deadline.passed()) return nullptr;
  }
}

/// Takes the next from the queue of the socket.
std::unique_ptr<Transport> ListenerCore::admit() {
  std::optional<Fd> socket;
  Peer peer;
  try {
    socket = accept_socket(socket_.get());
    if (!socket) return nullptr;
    peer = peer_of(socket->get());
    if (address_.kind == Address::Kind::tcp) set_tcp_manners(socket->get());
  } catch (const SystemError& e) {
    if (socket) {  // it has gone already
      refuse(peer, Reason::not_authenticated, e.what());
      return nullptr;
    }
    // Without descriptors, strangers are the first who have to go.
    if (pending_.empty()) throw;
    refuse(pending_.begin(), Reason::crowded_out, e.what());
    return nullptr;
  }
  if (peer.credentials && peer.credentials->uid != current_user()) {
    refuse(peer, Reason::other_user,
           fmt::format("process {} of user {} connected, and only those of user {} may",
                       peer.credentials->pid, peer.credentials->uid, current_user()));
    return nullptr;
  }
  if (!tls_) {
    last_accepted_ = peer;
    return std::make_unique<PacketTransport>(std::move(*socket), options_.max_message_bytes);
  }
  if (pending_.size() >= options_.max_pending) {
    refuse(pending_.begin(), Reason::crowded_out, "too many connected without proving an authkey");
  }
  const std::uint64_t key = next_key_++;
  const auto [added, fresh] =
      pending_.emplace(key, Pending{.handshake = TlsHandshake(std::move(*socket), tls_),
                                    .peer = std::move(peer),
                                    .deadline = Deadline::after(options_.handshake_timeout)});
  try {
    poller_.add(added->second.handshake.socket(), key);
  } catch (...) {
    pending_.erase(added);
    throw;
  }
  return advance(key);
}

/// Goes on with one who has said something.
std::unique_ptr<Transport> ListenerCore::advance(std::uint64_t key) {
  const AllPending::iterator which = pending_.find(key);
  if (which == pending_.end()) return nullptr;  // refused since it was ready
  Pending& pending = which->second;
  try {
    if (!pending.handshake.step()) return nullptr;
  } catch (const Error& e) {
    refuse(which, Reason::not_authenticated, e.what());
    return nullptr;
  }
  poller_.remove(pending.handshake.socket());
  std::unique_ptr<Transport> transport =
      std::move(pending.handshake).finish(options_.max_message_bytes);
  last_accepted_ = std::move(pending.peer);
  pending_.erase(which);
  return transport;
}

void ListenerCore::refuse_late() {
  while (!pending_.empty() && pending_.begin()->second.deadline.passed()) {
    refuse(pending_.begin(), Reason::too_slow, "did not prove its authkey in time");
  }
}

void ListenerCore::refuse(AllPending::iterator which, Reason reason, std::string text) {
  const Peer peer = std::move(which->second.peer);
  poller_.remove(which->second.handshake.socket());
  pending_.erase(which);
  refuse(peer, reason, std::move(text));
}

void ListenerCore::refuse(const Peer& peer, Reason reason, std::string text) {
  ++refused_;
  if (options_.on_refused) {
    options_.on_refused({.peer = peer, .reason = reason, .text = std::move(text)});
  }
}

}  // namespace brood::detail
