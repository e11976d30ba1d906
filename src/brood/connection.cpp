#include <brood/connection.hpp>

#include <fmt/format.h>

#include <brood/channel/packet_transport.hpp>
#include <brood/platform/packet_socket.hpp>
#include <brood/platform/socket.hpp>

namespace brood {

using detail::Deadline;
using detail::Incoming;
using detail::MessageHeader;
using detail::Outgoing;

Connection::Connection(std::unique_ptr<detail::Transport> transport, bool readable, bool writable)
    : transport_(std::move(transport)), readable_(readable), writable_(writable) {}

void Connection::require_open() const {
  if (closed()) throw StateError("this connection is closed, or was moved elsewhere");
}

int Connection::descriptor() const {
  require_open();
  return transport_->descriptor();
}

void Connection::require_readable() const {
  require_open();
  if (!readable_) throw StateError("this end of the pipe sends: receive at the other");
}

void Connection::require_writable() const {
  require_open();
  if (!writable_) throw StateError("this end of the pipe receives: send at the other");
}

bool Connection::poll_until(Deadline deadline) const {
  require_readable();
  return transport_->poll(deadline);
}

bool Connection::send_message(const Outgoing& message, Deadline deadline) {
  if (const std::uint64_t length = message.length(); length > transport_->limit()) {
    throw MessageTooLarge(
        fmt::format("a message of {} bytes is to be sent, and no more than {} are allowed: raise "
                    "max_message_bytes, or send less at once",
                    length, transport_->limit()));
  }
  return transport_->send(message, deadline);
}

bool Connection::send_encoded(detail::MessageSink& sink, const detail::DescriptorOutbox& outbox,
                              Deadline deadline) {
  Outgoing message;
  message.descriptors = outbox.numbers();
  if (!message.descriptors.empty() && !transport_->passes_descriptors()) {
    throw StateError(
        "a connection or descriptor cannot go through an encrypted connection: it carries bytes "
        "only; use a Pipe, or a Listener with a Unix address and without an authkey");
  }
  if (!sink.in_file()) {
    message.bytes = sink.bytes();
    return send_message(message, deadline);
  }
  message.file_bytes = sink.written();
  const detail::Fd file = sink.seal();
  message.file = &file;
  return send_message(message, deadline);
}

bool Connection::send_bytes_until(std::span<const std::byte> bytes, Deadline deadline) {
  require_writable();
  Outgoing message;
  message.kind = MessageHeader::Kind::bytes;
  message.bytes = bytes;
  return send_message(message, deadline);
}

void Connection::send_bytes(std::span<const std::byte> bytes) {
  send_bytes_until(bytes, Deadline::never());
}

std::optional<Incoming> Connection::receive(Deadline deadline) {
  require_readable();
  return transport_->receive(deadline);
}

std::span<const std::byte> Connection::encoded(Incoming& message) {
  if (message.kind() != MessageHeader::Kind::value) {
    throw DecodeError("bytes came, from send_bytes(), where a value was expected: use recv_bytes");
  }
  return message.view();
}

std::optional<std::vector<std::byte>> Connection::recv_bytes_until(std::uint64_t most,
                                                                   Deadline deadline) {
  std::optional<Incoming> message = receive(deadline);
  if (!message) return std::nullopt;
  if (message->length() > most) {
    throw MessageTooLarge(fmt::format("a message of {} bytes came, and no more than {} were wanted",
                                      message->length(), most));
  }
  std::vector<std::byte> bytes = message->take_vector();
  transport_->recycle(*message);
  return bytes;
}

std::vector<std::byte> Connection::recv_bytes(std::uint64_t most) {
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): nothing comes only after a deadline
  return recv_bytes_until(most, Deadline::never()).value();
}

std::optional<std::size_t> Connection::recv_bytes_into_until(std::span<std::byte> to,
                                                             Deadline deadline) {
  std::optional<Incoming> message = receive(deadline);
  if (!message) return std::nullopt;
  if (message->length() > to.size()) {
    const std::uint64_t length = message->length();
    throw BufferTooShort(fmt::format("a message of {} bytes does not fit into a buffer of {}: "
                                     "it is in this error",
                                     length, to.size()),
                         message->take_vector());
  }
  message->copy_to(to);
  transport_->recycle(*message);
  return message->length();
}

std::size_t Connection::recv_bytes_into(std::span<std::byte> to) {
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): nothing comes only after a deadline
  return recv_bytes_into_until(to, Deadline::never()).value();
}

Pipe::Pipe(const PipeOptions& options) {
  auto [a, b] = detail::socket_pair();
  const auto end = [&](detail::Fd socket) {
    return std::make_unique<detail::PacketTransport>(std::move(socket), options.max_message_bytes);
  };
  first = Connection(end(std::move(a)), true, options.duplex);
  second = Connection(end(std::move(b)), options.duplex, true);
}

namespace detail {

void Codec<Connection>::write(Encoder& to, const Connection& connection) {
  const unsigned bits = (connection.closed() ? 0U : 1U) | (connection.readable() ? 2U : 0U) |
                        (connection.writable() ? 4U : 0U);
  to.put(static_cast<std::uint8_t>(bits));
  if (connection.closed()) return;
  const int socket = connection.transport_->movable_socket();
  if (socket < 0) {
    throw StateError(
        "an encrypted connection cannot go to another process: its keys are in this one; connect "
        "there");
  }
  to.put(connection.transport_->limit());
  put_descriptor(to, socket);
}

Connection Codec<Connection>::read(Decoder& from) {
  const unsigned bits = from.get<std::uint8_t>();
  if (bits == 0) return {};
  if ((bits & 1U) == 0 || bits > 7) from.source().throw_corrupt("a connection");
  const auto limit = from.get<std::uint64_t>();
  Fd socket = get_descriptor(from);
  if (!is_packet_socket(socket.get())) from.source().throw_corrupt("a connection's socket");
  return Connection(std::make_unique<PacketTransport>(std::move(socket), limit), (bits & 2U) != 0,
                    (bits & 4U) != 0);
}

}  // namespace detail
}  // namespace brood
