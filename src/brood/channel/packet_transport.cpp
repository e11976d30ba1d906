#include <brood/channel/packet_transport.hpp>

#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/packet_socket.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/sealed_file.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kBufferBytes = sizeof(MessageHeader) + kMostBehind;

/// Goes with a message in a file, whose memory the kernel does not count: so no more are on their
/// way than the socket's buffer has room for these.
constexpr std::size_t kFillerBytes = std::size_t{64} << 10U;
std::span<const std::byte> filler() {
  static const std::array<std::byte, kFillerBytes> zeros{};
  return zeros;
}

}  // namespace

void throw_end_of_stream() {
  throw EndOfStream("the other end of this connection is gone: closed, or its process has ended");
}

bool PacketTransport::send(const Outgoing& message, Deadline deadline) {
  MessageHeader header{.kind = message.kind,
                       .descriptors = static_cast<std::uint16_t>(message.descriptors.size()),
                       .length = message.length()};
  Fd made;
  const Fd* file = message.file;
  if (file == nullptr && message.bytes.size() <= kMostBehind) {
    switch (
        send_packet(socket_.get(), header.bytes(), message.bytes, message.descriptors, deadline)) {
      case SendPacket::sent:
        return true;
      case SendPacket::not_in_time:
        return false;
      case SendPacket::gone:
        throw_end_of_stream();
      case SendPacket::too_large:  // small buffers here: in a file then
        break;
    }
  }
  if (file == nullptr) {
    made = make_sealed_file(message.bytes);
    file = &made;
  }
  header.place = MessageHeader::Place::file;
  std::vector<int> descriptors(message.descriptors.begin(), message.descriptors.end());
  descriptors.push_back(file->get());
  for (const std::span<const std::byte> padding : {filler(), std::span<const std::byte>()}) {
    switch (send_packet(socket_.get(), header.bytes(), padding, descriptors, deadline)) {
      case SendPacket::sent:
        return true;
      case SendPacket::not_in_time:
        return false;
      case SendPacket::gone:
        throw_end_of_stream();
      case SendPacket::too_large:
        break;
    }
  }
  throw StateError("the buffers of this system's sockets are too small for a message");
}

std::optional<Incoming> PacketTransport::receive(Deadline deadline) {
  std::unique_ptr<std::byte[]> buffer(spare_.exchange(nullptr));
  if (buffer == nullptr) buffer.reset(new std::byte[kBufferBytes]);  // its pages come when touched
  std::optional<Packet> packet;
  const auto look = [&] {
    packet = receive_packet(socket_.get(), {buffer.get(), kBufferBytes}, Deadline::now());
    return packet.has_value();
  };
  // Who answers at once does so in a tenth of the time that it takes to sleep and be woken.
  constexpr std::chrono::microseconds kPeerAnswers{40};
  if (deadline.is_now()) {
    look();
  } else if (!habit_.look_for(look, kPeerAnswers)) {
    packet = receive_packet(socket_.get(), {buffer.get(), kBufferBytes}, deadline);
  }
  if (!packet) {
    delete[] spare_.exchange(buffer.release());
    return std::nullopt;
  }
  if (packet->end) throw_end_of_stream();
  const MessageHeader header = MessageHeader::read({buffer.get(), packet->bytes}, limit());
  if (packet->fds_lost) {
    throw SystemError("recvmsg", "the descriptors of a message, which is lost", EMFILE);
  }
  const bool in_file = header.place == MessageHeader::Place::file;
  if (packet->descriptors.size() != std::size_t{header.descriptors} + (in_file ? 1 : 0)) {
    throw DecodeError("a message came with another number of descriptors than it says");
  }
  if (in_file) {
    Fd file = std::move(packet->descriptors.back());
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

bool PacketTransport::poll(Deadline deadline) { return wait_readable(socket_.get(), deadline); }

void PacketTransport::recycle(Incoming& message) noexcept {
  delete[] spare_.exchange(message.take_buffer().release());
}

}  // namespace brood::detail
