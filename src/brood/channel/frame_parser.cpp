#include <brood/channel/frame_parser.hpp>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

[[noreturn]] void refuse(const char* what) {
  throw DecodeError(
      fmt::format("the other end of this connection sent {}: it is not of this Brood", what));
}

}  // namespace

template <std::size_t N>
bool FrameParser::Gathering<N>::fill(std::span<const std::byte>& from) {
  const std::size_t part = std::min(N - count, from.size());
  std::copy_n(from.begin(), part, bytes.begin() + static_cast<std::ptrdiff_t>(count));
  count += part;
  from = from.subspan(part);
  return count == N;
}

void FrameParser::feed(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (!in_frame_) {
      if (frame_.fill(bytes)) begin_frame();
      continue;
    }
    std::span<const std::byte> part =
        bytes.first(std::min<std::uint64_t>(bytes.size(), left_in_frame_));
    bytes = bytes.subspan(part.size());
    left_in_frame_ -= part.size();
    if (beginning_ && head_.fill(part)) begin_message();
    if (!part.empty()) take_payload(part);
    if (left_in_frame_ == 0) end_frame();
  }
}

void FrameParser::begin_frame() {
  std::uint32_t length = 0;
  std::uint8_t type = 0;
  std::memcpy(&length, frame_.bytes.data(), sizeof length);
  std::memcpy(&type, frame_.bytes.data() + offsetof(FrameHeader, type), 1);
  for (std::size_t i = offsetof(FrameHeader, zero); i < sizeof(FrameHeader); ++i) {
    if (frame_.bytes[i] != std::byte{0}) refuse("a part of a message with a wrong header");
  }
  frame_.count = 0;
  left_in_frame_ = length;
  in_frame_ = true;
  switch (static_cast<FrameHeader::Type>(type)) {
    case FrameHeader::Type::begin:
      if (message_) refuse("a message inside of another");
      if (length < sizeof(MessageHeader)) refuse("a message without a whole header");
      head_.count = 0;
      beginning_ = true;
      break;
    case FrameHeader::Type::more:
      if (!message_) refuse("a part of a message that has not begun");
      if (length == 0) refuse("a part of a message with nothing in it");
      break;
    case FrameHeader::Type::abandon:
      if (!message_ || length != 0) refuse("the end of a message that has not begun");
      message_.reset();
      bytes_ = {};
      break;
    default:
      refuse("a part of a message of no known type");
  }
  if (length == 0) in_frame_ = false;
}

void FrameParser::begin_message() {
  beginning_ = false;
  const MessageHeader header =
      MessageHeader::read(head_.bytes, std::numeric_limits<std::uint64_t>::max());
  if (header.place != MessageHeader::Place::behind || header.descriptors != 0) {
    refuse("a message with descriptors, where there can be none");
  }
  message_ = header;
  come_ = 0;
  dropping_ = header.length > limit_;
  if (dropping_) ready_.emplace_back(header.length);
}

void FrameParser::take_payload(std::span<const std::byte> bytes) {
  assert(message_);  // the header comes first, and `more` is refused without one
  if (bytes.size() > message_->length - come_) refuse("more bytes than a message is said to have");
  come_ += bytes.size();
  if (dropping_) return;
  // Grown by what has come, never to what is announced, unless that is nearly the same.
  if (bytes_.capacity() - bytes_.size() < bytes.size()) {
    const std::uint64_t wanted = std::max<std::uint64_t>(2 * bytes_.size(), come_);
    bytes_.reserve(static_cast<std::size_t>(std::min(wanted, message_->length)));
  }
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void FrameParser::end_frame() {
  in_frame_ = false;
  if (!message_ || come_ != message_->length) return;
  if (!dropping_) ready_.emplace_back(Incoming(*message_, std::exchange(bytes_, {})));
  message_.reset();
}

Incoming FrameParser::take() {
  std::variant<Incoming, std::uint64_t> next = std::move(ready_.front());
  ready_.pop_front();
  if (const auto* const length = std::get_if<std::uint64_t>(&next)) {
    throw MessageTooLarge(
        fmt::format("a message of {} bytes came, and no more than {} are allowed: raise "
                    "max_message_bytes, or send less at once",
                    *length, limit_));
  }
  return std::get<Incoming>(std::move(next));
}

}  // namespace brood::detail
