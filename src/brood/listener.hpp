// Layer: channel
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <brood/address.hpp>
#include <brood/connection.hpp>
#include <brood/platform/deadline.hpp>

namespace brood {

namespace detail {
class ListenerCore;
}

/// The process at the other end of a Unix socket, as the kernel knows it.
struct PeerCredentials {
  int pid = 0;  ///< of whoever connected; 0 when it is in a namespace that is not seen from here
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

/// Who connected.
struct Peer {
  std::optional<Address> address = {};              ///< TCP: where it came from
  std::optional<PeerCredentials> credentials = {};  ///< Unix
};

/// Somebody who connected and was not let in.
struct RefusedPeer {
  enum class Reason : std::uint8_t {
    other_user,         ///< of a Unix socket
    not_authenticated,  ///< another authkey or none, no Brood, gone before it had proved anything
    too_slow,           ///< did not prove the authkey within `handshake_timeout`
    crowded_out,        ///< the oldest when there were more than `max_pending`
  };
  Peer peer;
  Reason reason = Reason::not_authenticated;
  std::string text;  ///< for people
};

struct ListenOptions {
  /// TCP: the family's if none is said. Unix: with one, connections are encrypted and both sides
  /// prove it; without, peers must be processes of this user, and the kernel says so.
  std::optional<std::string> authkey = {};
  /// So many may have connected without being accepted; others wait or are refused by the system.
  int backlog = 128;
  /// Longer messages are refused, at this end, by the connections that are accepted.
  std::uint64_t max_message_bytes = std::uint64_t{1} << 30U;
  /// So many may be proving their authkey at the same time; then the oldest has to go.
  std::size_t max_pending = 64;
  std::chrono::nanoseconds handshake_timeout = std::chrono::seconds(10);
  /// Told of everybody who was refused, in the thread that accepts. What it throws, accept() does.
  std::function<void(const RefusedPeer&)> on_refused = {};
};

/// A place where other processes, of this family or not, can connect().
///
///     brood::Listener listener(brood::Address::tcp("127.0.0.1", 0));
///     brood::Process child([](brood::Address a) { brood::connect(a).send(1); },
///     listener.address()); child.start(); brood::Connection connection = listener.accept();
///
/// Whoever connects is a stranger first: see ListenOptions for who is let in. Strangers cost a few
/// descriptors and a few kilobytes each, no more than `max_pending` of them for no longer than
/// `handshake_timeout`, delay nobody, and never make accept() fail; refused() counts them.
///
/// Who may use it at once: one thread. Moves, never copies. Its bytes are this process's. When it
/// dies, those who wait to be accepted see the end; connections that were accepted live on. Its
/// name is gone, but for a path: the next Listener there replaces the dead one's file. A path is
/// taken away by the destructor, if it is still this one's. In a child made by StartMethod::fork it
/// listens no more. Memory ordering: what happened before connect() is visible after the accept()
/// that returned its connection.
///
/// Errors: SystemError when it cannot listen there, EADDRINUSE for one; ArgumentError for an
/// impossible address or limit; StateError when it is closed; TimeoutError never: a deadline that
/// passes gives nullopt.
class Listener {
 public:
  /// At an abstract name which nobody else has.
  explicit Listener(ListenOptions options = {});
  explicit Listener(const Address& address, ListenOptions options = {});
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&& other) noexcept;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  /// The next peer that is let in.
  Connection accept();
  template <class Rep, class Period>
  [[nodiscard]] std::optional<Connection> try_accept_for(
      std::chrono::duration<Rep, Period> timeout) {
    return accept_until(detail::Deadline::after(timeout));
  }
  /// Who the last one was.
  [[nodiscard]] const Peer& last_accepted() const;

  /// Where to connect: the real port, an absolute path.
  [[nodiscard]] const Address& address() const;
  /// How many were refused.
  [[nodiscard]] std::uint64_t refused() const;
  /// How many are proving their authkey.
  [[nodiscard]] std::size_t pending() const;

  void close() noexcept;
  [[nodiscard]] bool closed() const noexcept { return core_ == nullptr; }
  /// For wait(), poll and the like: readable when accept() has something to do, which may be to
  /// refuse somebody; so use try_accept_for() then.
  [[nodiscard]] int descriptor() const;

 private:
  std::optional<Connection> accept_until(detail::Deadline deadline);
  detail::ListenerCore& core() const;

  std::unique_ptr<detail::ListenerCore> core_;
};

}  // namespace brood
