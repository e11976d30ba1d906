// Layer: channel
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <brood/channel/spin_habit.hpp>
#include <brood/channel/transport.hpp>
#include <brood/platform/byte_stream.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/fork_local_fd.hpp>

namespace brood::detail {

/// Over a Unix socket that keeps packets apart: each message is sent by one system call and
/// received by one; large ones are memory files, of which no more than a few are on their way.
/// Nothing is buffered here, so all of it can go to another process.
class PacketTransport final : public Transport {
 public:
  PacketTransport(Fd socket, std::uint64_t limit) : Transport(limit), socket_(std::move(socket)) {}
  PacketTransport(const PacketTransport&) = delete;
  PacketTransport& operator=(const PacketTransport&) = delete;
  ~PacketTransport() override { delete[] spare_.load(); }

  [[nodiscard]] int descriptor() override { return socket_.get(); }
  [[nodiscard]] int movable_socket() const noexcept override { return socket_.get(); }
  [[nodiscard]] bool passes_descriptors() const noexcept override { return true; }
  bool send(const Outgoing& message, Deadline deadline) override;
  std::optional<Incoming> receive(Deadline deadline) override;
  bool poll(Deadline deadline) override;
  void interrupt() noexcept override { shut_down(socket_.get()); }
  void recycle(Incoming& message) noexcept override;

 private:
  ForkLocalFd socket_;
  SpinHabit habit_;
  std::atomic<std::byte*> spare_ = nullptr;  // a buffer that nobody uses; whoever takes it owns it
};

}  // namespace brood::detail
