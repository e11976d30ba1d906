// Layer: channel
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <brood/channel/tls_handshake.hpp>
#include <brood/channel/transport.hpp>
#include <brood/listener.hpp>
#include <brood/memory/member.hpp>
#include <brood/memory/name_register.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/fork_local_fd.hpp>
#include <brood/platform/named_memory.hpp>
#include <brood/platform/poller.hpp>

namespace brood::detail {

/// What is behind a Listener: one socket that listens, and those who have connected and are not
/// known yet, all watched by one poller. They get on while somebody accepts.
class ListenerCore {
 public:
  ListenerCore(const Address& address, ListenOptions options);
  ListenerCore(const ListenerCore&) = delete;
  ListenerCore& operator=(const ListenerCore&) = delete;
  ~ListenerCore();

  /// Null at the deadline.
  std::unique_ptr<Transport> accept(Deadline deadline);

  [[nodiscard]] const Address& address() const { return address_; }
  [[nodiscard]] const Peer& last_accepted() const { return last_accepted_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  [[nodiscard]] std::size_t pending() const { return pending_.size(); }
  [[nodiscard]] int descriptor() const { return poller_.descriptor(); }

 private:
  using Reason = RefusedPeer::Reason;
  struct Pending {
    TlsHandshake handshake;
    Peer peer;
    Deadline deadline;
  };
  /// In order of arrival, which is that of their deadlines too.
  using AllPending = std::map<std::uint64_t, Pending>;

  void listen();
  void register_path();
  void take_path_away() noexcept;
  std::unique_ptr<Transport> admit();
  std::unique_ptr<Transport> advance(std::uint64_t key);
  void refuse(AllPending::iterator which, Reason reason, std::string text);
  void refuse(const Peer& peer, Reason reason, std::string text);
  void refuse_late();
  Peer peer_of(int socket) const;

  Address address_;
  ListenOptions options_;
  int maker_;  // the process
  ForkLocalFd socket_;
  std::optional<FileIdentity> file_;
  std::shared_ptr<Member> member_;  // whose register has the path
  NameRegister::Registration registration_;
  std::shared_ptr<const TlsContext> tls_;  // none: packets
  Poller poller_;
  AllPending pending_;
  std::uint64_t next_key_;
  std::uint64_t refused_ = 0;
  Peer last_accepted_;
};

}  // namespace brood::detail
