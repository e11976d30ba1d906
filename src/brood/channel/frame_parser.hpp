// Layer: channel
// Messages in a stream of bytes: docs/design/connections.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include <brood/channel/message.hpp>

namespace brood::detail {

/// In front of every part of a message, in this machine's byte order.
struct FrameHeader {
  /// A message begins with its header; goes on; is given up, as its sender did not want to wait
  /// until all of it was on its way.
  enum class Type : std::uint8_t { begin = 1, more = 2, abandon = 3 };

  std::uint32_t length = 0;  // of the bytes that follow
  Type type = Type::begin;
  std::uint8_t zero[3] = {};  // NOLINT(modernize-avoid-c-arrays)
};
static_assert(sizeof(FrameHeader) == 8);

/// Puts messages together again. Bytes are not trusted: a length takes no memory before as many
/// bytes have come. Used by one thread at a time.
class FrameParser {
 public:
  /// Longer messages are dropped as they come, and reported.
  explicit FrameParser(std::uint64_t limit) : limit_(limit) {}

  /// Throws DecodeError: from there on the stream makes no sense.
  void feed(std::span<const std::byte> bytes);

  /// A message is complete, or was announced to be too long.
  [[nodiscard]] bool ready() const { return !ready_.empty(); }
  /// The next. Throws MessageTooLarge.
  Incoming take();

 private:
  /// Bytes that begin something, copied until there are enough of them.
  template <std::size_t N>
  struct Gathering {
    std::array<std::byte, N> bytes{};
    std::size_t count = 0;
    /// Takes from the front of `from`; true when it is full.
    bool fill(std::span<const std::byte>& from);
  };
  void begin_frame();
  void end_frame();
  void begin_message();
  void take_payload(std::span<const std::byte> bytes);

  std::uint64_t limit_;
  std::deque<std::variant<Incoming, std::uint64_t>> ready_;  // or the length of a too long one

  Gathering<sizeof(FrameHeader)> frame_;
  std::uint64_t left_in_frame_ = 0;
  bool in_frame_ = false;

  Gathering<sizeof(MessageHeader)> head_;
  std::optional<MessageHeader> message_;  // whose bytes are coming
  bool beginning_ = false;                // its header is coming
  bool dropping_ = false;                 // it is too long
  std::uint64_t come_ = 0;                // of its bytes
  std::vector<std::byte> bytes_;
};

}  // namespace brood::detail
