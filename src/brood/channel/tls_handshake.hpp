// Layer: channel
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <brood/channel/tls_session.hpp>
#include <brood/channel/transport.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/fork_local_fd.hpp>

namespace brood::detail {

/// A stream socket on its way to become a Transport: both sides prove that they have the key. What
/// comes is a stranger's, so there is little of it. Used by one thread at a time.
class TlsHandshake {
 public:
  TlsHandshake(Fd socket, std::shared_ptr<const TlsContext> context);

  [[nodiscard]] int socket() const noexcept { return socket_.get(); }

  /// Goes on without waiting; true when it is done. Otherwise it can go on when the socket is
  /// readable. Throws AuthenticationError, SystemError; then there is nothing to go on with.
  bool step();
  /// Goes on until it is done. Throws TimeoutError too.
  void run(Deadline deadline);

  /// Once it is done.
  std::unique_ptr<Transport> finish(std::uint64_t limit) &&;

 private:
  void send_output();

  ForkLocalFd socket_;
  std::unique_ptr<TlsSession> session_;
  std::size_t received_ = 0;
};

}  // namespace brood::detail
