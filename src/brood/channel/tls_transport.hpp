// Layer: channel
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <brood/channel/frame_parser.hpp>
#include <brood/channel/tls_session.hpp>
#include <brood/channel/transport.hpp>
#include <brood/platform/byte_stream.hpp>
#include <brood/platform/fork_local_fd.hpp>
#include <brood/platform/ready_sign.hpp>

namespace brood::detail {

/// Messages over TLS: docs/design/connections.md has the format and what a kill leaves.
///
/// One mutex guards everything; who waits for the socket lets go of it. One thread at a time sends
/// a message, and one receives for all, so that the parts of messages do not mix.
class TlsTransport final : public Transport {
 public:
  /// After a handshake.
  TlsTransport(ForkLocalFd socket, std::unique_ptr<TlsSession> session, std::uint64_t limit);
  TlsTransport(const TlsTransport&) = delete;
  TlsTransport& operator=(const TlsTransport&) = delete;
  ~TlsTransport() override;

  /// Readable while a message or the end is there, or the beginning of a message.
  [[nodiscard]] int descriptor() override;
  [[nodiscard]] int movable_socket() const noexcept override { return -1; }
  [[nodiscard]] bool passes_descriptors() const noexcept override { return false; }
  bool send(const Outgoing& message, Deadline deadline) override;
  std::optional<Incoming> receive(Deadline deadline) override;
  bool poll(Deadline deadline) override;
  void interrupt() noexcept override { shut_down(socket_.get()); }

 private:
  using Lock = std::unique_lock<std::mutex>;
  class Turn;

  [[nodiscard]] bool over() const { return ended_ || !broken_.empty(); }
  bool await_turn(Lock& lock, Deadline deadline);
  bool await_message(Lock& lock, Deadline deadline);
  bool pull(Lock& lock, Deadline deadline);
  void decrypt(std::span<const std::byte> bytes);
  void show();

  bool send_frames(Lock& lock, const Outgoing& message, Deadline deadline);
  bool make_room(Lock& lock, Deadline deadline);
  bool flush(Lock& lock, Deadline deadline);
  void throw_if_over() const;
  void require_own() const;

  const int pid_;
  ForkLocalFd socket_;
  std::mutex mutex_;
  std::condition_variable turn_over_;
  bool sending_ = false;
  bool receiving_ = false;
  std::unique_ptr<TlsSession> session_;
  FrameParser parser_;
  std::vector<std::byte> received_;  // a buffer
  std::vector<std::byte> frame_;     // a buffer
  bool owes_abandon_ = false;        // a message was begun that will not be sent to its end
  bool ended_ = false;               // nothing will come any more
  bool deaf_ = false;                // nothing is received at the other end any more
  std::string broken_;               // why nothing makes sense any more
  std::optional<ReadySign> sign_;
};

}  // namespace brood::detail
