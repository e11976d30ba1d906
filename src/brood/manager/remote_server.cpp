#include <brood/manager/remote_server.hpp>

#include <array>
#include <chrono>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/manager/server.hpp>
#include <brood/platform/poller.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// How long somebody who was let in may take to say what it wants.
constexpr auto kHelloTimeout = 10s;

}  // namespace

/// One connection, in a thread of its own.
class RemoteServer::Conversation {
 public:
  Conversation(Server& server, Connection& connection, std::shared_ptr<Session> session)
      : server_(server), connection_(connection), session_(std::move(session)) {}

  /// Until the client is gone; throws EndOfStream, and whatever else ends it.
  void run() {
    for (;;) {
      const std::vector<std::byte> message = connection_.recv_bytes();
      ByteSource source(message);
      const auto request = decode<RemoteRequest>(source);
      if (request.kind == RemoteRequest::Kind::drop) {
        drop(request.object);
      } else if (request.kind == RemoteRequest::Kind::call) {
        answer(request, source);
      } else {
        source.throw_corrupt("a request");
      }
    }
  }

 private:
  void answer(const RemoteRequest& request, ByteSource& arguments) {
    VectorSink reply;
    encode(reply, RemoteReply{});
    ErrorRecord error;
    const bool done = run_catching(
        [&] {
          server_.run_call(request.function, request.object, nullptr, arguments, reply);
          settle(request, reply);
        },
        error);
    if (!done) {
      sign_error(error);
      std::vector<std::byte> encoded;
      encode_error(encoded, error);
      reply.clear();
      encode(reply, RemoteReply{.outcome = CallOutcome::error});
      reply.write(encoded.data(), encoded.size());
    }
    connection_.send_bytes(reply.bytes());
    static_cast<void>(reply.take_kept());
    reply.clear();
  }

  /// What a reply names means nothing to a stranger, but for an object that it gets a proxy of.
  void settle(const RemoteRequest& request, VectorSink& reply) {
    const std::vector<Handle> kept = reply.take_kept();
    if (request.for_proxy == 0) {
      if (kept.empty()) return;
      throw StateError(
          "the result has a shared object in it (a lock, a queue, a proxy ...), which means "
          "nothing "
          "at the other end of a connection; a proxy can be the result itself");
    }
    for (const Handle& handle : kept) {
      if (handle.member().objects().type(handle.ref()).kind !=
          static_cast<std::uint32_t>(ObjectKind::managed)) {
        continue;
      }
      const auto& payload = *reinterpret_cast<const ManagedPayload*>(handle.payload().data());
      if (payload.board != server_.board().ref()) {
        throw StateError("the result is a proxy of another manager's object");
      }
      {
        const std::scoped_lock guard(session_->mutex);
        Session::Held& held = session_->objects[payload.number];
        held.object = handle;
        ++held.count;
      }
      reply.clear();
      encode(reply, RemoteReply{});
      encode(reply, payload.number);
      return;
    }
    throw StateError("the result is no proxy");
  }

  void drop(std::uint64_t number) {
    Handle last;  // let go of without the lock
    const std::scoped_lock guard(session_->mutex);
    const auto found = session_->objects.find(number);
    if (found == session_->objects.end() || --found->second.count > 0) return;
    last = std::move(found->second.object);
    session_->objects.erase(found);
  }

  Server& server_;
  Connection& connection_;
  std::shared_ptr<Session> session_;
};

Address RemoteServer::serve(const Address& address, const std::optional<std::string>& authkey) {
  Listener made(address, {.authkey = authkey});
  const std::scoped_lock guard(mutex_);
  if (closed_) throw ManagerClosed("serve: the manager is being shut down");
  if (!stop_) stop_.emplace();
  listeners_.push_back(std::move(made));
  Listener& listener = listeners_.back();
  try {
    acceptors_.emplace_back([this, &listener] { accept_all(listener); });
  } catch (...) {
    listeners_.pop_back();
    throw;
  }
  return listener.address();
}

void RemoteServer::accept_all(Listener& listener) {
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): made before this thread
  const std::array<int, 2> fds{stop_->descriptor(), listener.descriptor()};
  for (;;) {
    try {
      if (wait_readable(fds, Deadline::after(1s))[0]) return;
      join_ended();
      if (std::optional<Connection> connection = listener.try_accept_for(0s)) {
        start(std::move(*connection));
      }
    } catch (const std::exception&) {
      // NOTE: no descriptors, or no thread, are left for a moment: others must have them back
      // first.
      if (wait_readable(fds.front(), Deadline::after(10ms))) return;
    }
  }
}

void RemoteServer::start(Connection connection) {
  const std::scoped_lock guard(mutex_);
  if (closed_) return;
  Peer& peer = peers_.emplace_back();
  peer.connection = std::move(connection);
  try {
    peer.thread = std::thread([this, &peer] { converse(peer); });
  } catch (...) {
    peers_.pop_back();
    throw;
  }
}

void RemoteServer::converse(Peer& peer) {
  std::optional<RemoteHello> hello;
  try {
    const auto message = ConnectionAccess::receive(peer.connection, Deadline::after(kHelloTimeout));
    if (message) {
      ByteSource source(*message);
      hello = decode<RemoteHello>(source);
      if (hello->magic == RemoteHello::kMagic) {
        if (std::shared_ptr<Session> session = join_session(*hello)) {
          VectorSink welcome;
          encode(welcome, RemoteReply{});
          peer.connection.send_bytes(welcome.bytes());
          Conversation(server_, peer.connection, std::move(session)).run();
        }
      }
    }
  } catch (const std::exception&) {
    // NOTE: it is gone, or says what makes no sense: its connection ends, and nothing else does.
  }
  if (hello && hello->begins != 0) end_session(hello->session);
  // So that the other side sees the end now; the rest goes when the thread has been joined.
  ConnectionAccess::interrupt(peer.connection);
  peer.ended.store(true);
}

std::shared_ptr<RemoteServer::Session> RemoteServer::join_session(const RemoteHello& hello) {
  const std::scoped_lock guard(mutex_);
  if (hello.begins != 0) {
    const auto [place, fresh] = sessions_.try_emplace(hello.session, std::make_shared<Session>());
    return fresh ? place->second : nullptr;
  }
  const auto found = sessions_.find(hello.session);
  return found == sessions_.end() ? nullptr : found->second;
}

void RemoteServer::end_session(const SessionId& id) {
  std::shared_ptr<Session> session;
  {
    const std::scoped_lock guard(mutex_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;
    session = std::move(found->second);
    sessions_.erase(found);
  }
  std::unordered_map<std::uint64_t, Session::Held> objects;  // let go of without the locks
  const std::scoped_lock guard(session->mutex);
  objects.swap(session->objects);
}

void RemoteServer::join_ended() {
  std::list<Peer> ended;
  {
    const std::scoped_lock guard(mutex_);
    for (auto peer = peers_.begin(); peer != peers_.end();) {
      const auto next = std::next(peer);
      if (peer->ended.load()) ended.splice(ended.end(), peers_, peer);
      peer = next;
    }
  }
  for (Peer& peer : ended) peer.thread.join();
}

std::size_t RemoteServer::clients() {
  const std::scoped_lock guard(mutex_);
  return sessions_.size();
}

void RemoteServer::close() noexcept {
  {
    const std::scoped_lock guard(mutex_);
    closed_ = true;
    if (stop_) stop_->signal();
  }
  for (std::thread& acceptor : acceptors_) acceptor.join();
  acceptors_.clear();
  listeners_.clear();
  {
    const std::scoped_lock guard(mutex_);
    for (const Peer& peer : peers_) ConnectionAccess::interrupt(peer.connection);
  }
  for (Peer& peer : peers_) peer.thread.join();
  peers_.clear();
  sessions_.clear();
}

}  // namespace brood::detail
