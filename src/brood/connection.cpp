#include <brood/connection.hpp>

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include <brood/platform/packet_socket.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/socket.hpp>

namespace brood {

using detail::Deadline;
using detail::Incoming;
using detail::MessageHeader;
using detail::Outgoing;

namespace {

constexpr std::size_t kBufferBytes = sizeof(MessageHeader) + detail::kMostBehind;

/// Goes with a message in a file, whose memory the kernel does not count: so no more are on their
/// way than the socket's buffer has room for these.
constexpr std::size_t kFillerBytes = std::size_t{64} << 10U;
std::span<const std::byte> filler() {
  static const std::array<std::byte, kFillerBytes> zeros{};
  return zeros;
}

[[noreturn]] void throw_gone() {
  throw EndOfStream("the other end of this connection is gone: closed, or its process has ended");
}

}  // namespace

Connection::Connection(detail::Fd socket, bool readable, bool writable, std::uint64_t limit)
    : socket_(std::move(socket)), readable_(readable), writable_(writable), limit_(limit) {}

Connection::Connection(Connection&& other) noexcept
    : socket_(std::move(other.socket_)),
      readable_(other.readable_),
      writable_(other.writable_),
      limit_(other.limit_),
      spare_(other.spare_.exchange(nullptr)) {}

Connection& Connection::operator=(Connection&& other) noexcept {
  if (this == &other) return *this;
  close();
  socket_ = std::move(other.socket_);
  readable_ = other.readable_;
  writable_ = other.writable_;
  limit_ = other.limit_;
  spare_.store(other.spare_.exchange(nullptr));
  return *this;
}

void Connection::close() noexcept {
  socket_.reset();
  delete[] spare_.exchange(nullptr);
}

int Connection::descriptor() const {
  if (closed()) throw StateError("this connection is closed, or was moved elsewhere");
  return socket_.get();
}

void Connection::require_readable() const {
  static_cast<void>(descriptor());
  if (!readable_) throw StateError("this end of the pipe sends: receive at the other");
}

void Connection::require_writable() const {
  static_cast<void>(descriptor());
  if (!writable_) throw StateError("this end of the pipe receives: send at the other");
}

bool Connection::poll_until(Deadline deadline) const {
  require_readable();
  return detail::wait_readable(socket_.get(), deadline);
}

bool Connection::send_message(const Outgoing& message, Deadline deadline) {
  MessageHeader header{.kind = message.kind,
                       .descriptors = static_cast<std::uint16_t>(message.descriptors.size()),
                       .length = message.length()};
  if (header.length > limit_) {
    throw MessageTooLarge(
        fmt::format("a message of {} bytes is to be sent, and no more than {} are allowed: raise "
                    "max_message_bytes, or send less at once",
                    header.length, limit_));
  }
  detail::Fd made;
  const detail::Fd* file = message.file;
  if (file == nullptr && message.bytes.size() <= detail::kMostBehind) {
    switch (detail::send_packet(socket_.get(), header.bytes(), message.bytes, message.descriptors,
                                deadline)) {
      case detail::SendPacket::sent:
        return true;
      case detail::SendPacket::not_in_time:
        return false;
      case detail::SendPacket::gone:
        throw_gone();
      case detail::SendPacket::too_large:  // small buffers here: in a file then
        break;
    }
  }
  if (file == nullptr) {
    made = detail::make_sealed_file(message.bytes);
    file = &made;
  }
  header.place = MessageHeader::Place::file;
  std::vector<int> descriptors(message.descriptors.begin(), message.descriptors.end());
  descriptors.push_back(file->get());
  for (const std::span<const std::byte> padding : {filler(), std::span<const std::byte>()}) {
    switch (detail::send_packet(socket_.get(), header.bytes(), padding, descriptors, deadline)) {
      case detail::SendPacket::sent:
        return true;
      case detail::SendPacket::not_in_time:
        return false;
      case detail::SendPacket::gone:
        throw_gone();
      case detail::SendPacket::too_large:
        break;
    }
  }
  throw StateError("the buffers of this system's sockets are too small for a message");
}

bool Connection::send_encoded(detail::MessageSink& sink, const detail::DescriptorOutbox& outbox,
                              Deadline deadline) {
  Outgoing message;
  message.descriptors = outbox.numbers();
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
  std::unique_ptr<std::byte[]> buffer(spare_.exchange(nullptr));
  if (buffer == nullptr) buffer.reset(new std::byte[kBufferBytes]);  // its pages come when touched
  std::optional<detail::Packet> packet =
      detail::receive_packet(socket_.get(), {buffer.get(), kBufferBytes}, deadline);
  if (!packet) {
    delete[] spare_.exchange(buffer.release());
    return std::nullopt;
  }
  if (packet->end) throw_gone();
  const MessageHeader header = MessageHeader::read({buffer.get(), packet->bytes}, limit_);
  if (packet->fds_lost) {
    throw SystemError("recvmsg", "the descriptors of a message, which is lost", EMFILE);
  }
  const bool in_file = header.place == MessageHeader::Place::file;
  if (packet->descriptors.size() != std::size_t{header.descriptors} + (in_file ? 1 : 0)) {
    throw DecodeError("a message came with another number of descriptors than it says");
  }
  if (in_file) {
    detail::Fd file = std::move(packet->descriptors.back());
    packet->descriptors.pop_back();
    Incoming message(header, std::move(file));
    message.descriptors = std::move(packet->descriptors);
    delete[] spare_.exchange(buffer.release());
    return message;
  }
  if (packet->cut || packet->bytes - sizeof header != header.length) {
    throw DecodeError("a message came with another length than it says");
  }
  Incoming message(header, std::move(buffer), sizeof header);
  message.descriptors = std::move(packet->descriptors);
  return message;
}

std::span<const std::byte> Connection::encoded(Incoming& message) {
  if (message.kind() != MessageHeader::Kind::value) {
    throw DecodeError("bytes came, from send_bytes(), where a value was expected: use recv_bytes");
  }
  return message.view();
}

void Connection::recycle(Incoming& message) {
  delete[] spare_.exchange(message.take_buffer().release());
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
  recycle(*message);
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
  recycle(*message);
  return message->length();
}

std::size_t Connection::recv_bytes_into(std::span<std::byte> to) {
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): nothing comes only after a deadline
  return recv_bytes_into_until(to, Deadline::never()).value();
}

Pipe::Pipe(const PipeOptions& options) {
  auto [a, b] = detail::socket_pair();
  first = Connection(std::move(a), true, options.duplex, options.max_message_bytes);
  second = Connection(std::move(b), options.duplex, true, options.max_message_bytes);
}

namespace detail {

void Codec<Connection>::write(Encoder& to, const Connection& connection) {
  const unsigned bits = (connection.closed() ? 0U : 1U) | (connection.readable() ? 2U : 0U) |
                        (connection.writable() ? 4U : 0U);
  to.put(static_cast<std::uint8_t>(bits));
  if (connection.closed()) return;
  to.put(connection.limit_);
  put_descriptor(to, connection.descriptor());
}

Connection Codec<Connection>::read(Decoder& from) {
  const unsigned bits = from.get<std::uint8_t>();
  if (bits == 0) return {};
  if ((bits & 1U) == 0 || bits > 7) from.source().throw_corrupt("a connection");
  const auto limit = from.get<std::uint64_t>();
  Fd socket = get_descriptor(from);
  if (!is_packet_socket(socket.get())) from.source().throw_corrupt("a connection's socket");
  return Connection(std::move(socket), (bits & 2U) != 0, (bits & 4U) != 0, limit);
}

}  // namespace detail
}  // namespace brood
