// Layer: channel
#pragma once

#include <cstdint>
#include <optional>

#include <brood/channel/message.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// What carries the messages of a Connection: whole, in order, from any number of threads. Closed
/// by its destructor, which one thread calls while no other uses it.
class Transport {
 public:
  /// Messages longer than `limit` are neither sent nor received.
  explicit Transport(std::uint64_t limit) : limit_(limit) {}
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  [[nodiscard]] std::uint64_t limit() const noexcept { return limit_; }

  /// Readable while there is a message or the end. Throws SystemError.
  [[nodiscard]] virtual int descriptor() = 0;
  /// The socket that is the whole of it, and can go to another process; -1 if that is not so.
  [[nodiscard]] virtual int movable_socket() const noexcept = 0;
  /// Whether messages may have descriptors and files with them.
  [[nodiscard]] virtual bool passes_descriptors() const noexcept = 0;

  /// False at the deadline: then nothing was sent. Throws EndOfStream, SystemError.
  virtual bool send(const Outgoing& message, Deadline deadline) = 0;
  /// Nullopt at the deadline. Throws EndOfStream, DecodeError, MessageTooLarge, SystemError.
  virtual std::optional<Incoming> receive(Deadline deadline) = 0;
  /// Whether there is a message or the end before the deadline.
  virtual bool poll(Deadline deadline) = 0;
  /// Ends it in both directions, from any thread: who sends or receives sees the end.
  virtual void interrupt() noexcept = 0;
  /// Takes memory back that a message needs no more.
  virtual void recycle(Incoming& message) noexcept { static_cast<void>(message); }

 private:
  std::uint64_t limit_;
};

[[noreturn]] void throw_end_of_stream();

}  // namespace brood::detail
