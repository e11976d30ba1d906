// Layer: channel
// One message of a connection, on its way out and in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <brood/channel/bytes.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/sealed_file.hpp>

namespace brood::detail {

/// What stands in front of every message, in this machine's byte order.
struct MessageHeader {
  /// The bytes are of an encoded value, or what send_bytes() was given.
  enum class Kind : std::uint8_t { value = 1, bytes = 2 };
  /// They follow the header, or are a memory file, the last descriptor of the packet.
  enum class Place : std::uint8_t { behind = 0, file = 1 };
  static constexpr std::uint32_t kMagic = 0x314D'4442;  // "BDM1"

  std::uint32_t magic = kMagic;
  Kind kind = Kind::value;
  Place place = Place::behind;
  std::uint16_t descriptors = 0;  // of the value, without the memory file
  std::uint64_t length = 0;       // of the bytes, wherever they are

  [[nodiscard]] std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(this, 1));
  }
  /// Throws DecodeError unless these are the bytes of a header; MessageTooLarge if the message is
  /// longer than `limit`.
  static MessageHeader read(std::span<const std::byte> bytes, std::uint64_t limit);
};
static_assert(sizeof(MessageHeader) == 16);

/// Messages up to here go behind the header; larger ones, where descriptors can be passed, in a
/// memory file.
inline constexpr std::size_t kMostBehind = std::size_t{96} << 10U;

/// A message to be sent. Owns nothing.
struct Outgoing {
  MessageHeader::Kind kind = MessageHeader::Kind::value;
  std::span<const std::byte> bytes;
  const Fd* file = nullptr;  // instead of `bytes`
  std::uint64_t file_bytes = 0;
  std::span<const int> descriptors;

  [[nodiscard]] std::uint64_t length() const { return file != nullptr ? file_bytes : bytes.size(); }
};

/// A message that was received: whole, and not trusted.
class Incoming {
 public:
  /// In the bytes of `buffer` from `offset` on.
  Incoming(const MessageHeader& header, std::unique_ptr<std::byte[]> buffer, std::size_t offset)
      : kind_(header.kind), length_(header.length), buffer_(std::move(buffer)), offset_(offset) {}
  Incoming(const MessageHeader& header, std::vector<std::byte> bytes)
      : kind_(header.kind), length_(header.length), owned_(std::move(bytes)) {}
  Incoming(const MessageHeader& header, Fd file)
      : kind_(header.kind), length_(header.length), file_(std::move(file)) {}

  [[nodiscard]] MessageHeader::Kind kind() const { return kind_; }
  [[nodiscard]] std::uint64_t length() const { return length_; }
  /// The bytes where they are, as long as this lives; a file is mapped. Throws DecodeError,
  /// SystemError.
  std::span<const std::byte> view();
  /// Copies them, all or as many as `to` takes. Throws DecodeError, SystemError.
  void copy_to(std::span<std::byte> to);
  std::vector<std::byte> take_vector();

  /// Descriptors that came with it.
  std::vector<Fd> descriptors;
  /// Memory that can be used again, if it has some.
  std::unique_ptr<std::byte[]> take_buffer() { return std::move(buffer_); }

 private:
  MessageHeader::Kind kind_;
  std::uint64_t length_;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t offset_ = 0;
  std::vector<std::byte> owned_;
  Fd file_;
  SealedMapping mapping_;
};

/// Where a value is encoded to: small ones in place, then in private memory, large ones straight
/// into a memory file if `files`.
class MessageSink final : public ByteSink {
 public:
  explicit MessageSink(bool files) : files_(files) { set_buffer(first_, 0, sizeof first_); }

  /// What was written, unless it is in a file.
  [[nodiscard]] bool in_file() const { return file_.begun(); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {begin(), written()}; }
  /// What was written, if it is in a file. Throws SystemError.
  Fd seal() { return file_.seal(written()); }

 private:
  void grow(std::size_t at_least) override;

  bool files_;
  std::vector<std::byte> heap_;
  FileInMaking file_;
  std::byte first_[512];  // NOLINT: not initialised, written before it is read
};

}  // namespace brood::detail
