#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>

#include <brood/address.hpp>
#include <brood/connection.hpp>
#include <brood/listener.hpp>
#include <brood/manager/remote_protocol.hpp>
#include <brood/memory/handle.hpp>
#include <brood/platform/event_fd.hpp>

namespace brood::detail {

class Server;

/// The part of a server that strangers talk to: listeners, a thread for each connection, and what
/// each client refers to. Any thread of the server may use it.
class RemoteServer {
 public:
  explicit RemoteServer(Server& server) : server_(server) {}
  RemoteServer(const RemoteServer&) = delete;
  RemoteServer& operator=(const RemoteServer&) = delete;
  ~RemoteServer() { close(); }

  /// Listens there from now on. Throws what a Listener throws.
  Address serve(const Address& address, const std::optional<std::string>& authkey);
  /// How many clients there are.
  [[nodiscard]] std::size_t clients();
  /// Ends all connections, when the calls that run have ended.
  void close() noexcept;

 private:
  /// A client, and the objects that it has proxies of.
  struct Session {
    struct Held {
      Handle object;
      std::uint64_t count = 0;
    };
    std::mutex mutex;
    std::unordered_map<std::uint64_t, Held> objects;  // by number; guarded by mutex
  };
  /// A connection and its thread; the thread marks it when it is about to end.
  struct Peer {
    Connection connection;
    std::atomic<bool> ended{false};
    std::thread thread;
  };
  class Conversation;

  void accept_all(Listener& listener);
  void start(Connection connection);
  void converse(Peer& peer);
  void join_ended();
  std::shared_ptr<Session> join_session(const RemoteHello& hello);
  void end_session(const SessionId& id);

  Server& server_;
  std::mutex mutex_;
  std::list<Peer> peers_;  // guarded by mutex_, as all below
  std::map<SessionId, std::shared_ptr<Session>> sessions_;
  std::list<Listener> listeners_;
  std::list<std::thread> acceptors_;
  std::optional<EventFd> stop_;  // tells those who accept; made with the first
  bool closed_ = false;
};

}  // namespace brood::detail
