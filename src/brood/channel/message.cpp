#include <brood/channel/message.hpp>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {

MessageHeader MessageHeader::read(std::span<const std::byte> bytes, std::uint64_t limit) {
  MessageHeader header;
  if (bytes.size() < sizeof header) {
    throw DecodeError("a message without a whole header: its sender is not one of Brood's");
  }
  // Byte by byte: the enumerators may be none of theirs.
  std::uint8_t kind = 0;
  std::uint8_t place = 0;
  std::memcpy(&header.magic, bytes.data(), sizeof header.magic);
  std::memcpy(&kind, bytes.data() + offsetof(MessageHeader, kind), 1);
  std::memcpy(&place, bytes.data() + offsetof(MessageHeader, place), 1);
  std::memcpy(&header.descriptors, bytes.data() + offsetof(MessageHeader, descriptors),
              sizeof header.descriptors);
  std::memcpy(&header.length, bytes.data() + offsetof(MessageHeader, length), sizeof header.length);
  if (header.magic != kMagic || kind < 1 || kind > 2 || place > 1) {
    throw DecodeError("a message with a wrong header: its sender is not one of this Brood's");
  }
  if (header.length > limit) {
    throw MessageTooLarge(
        fmt::format("a message of {} bytes came, and no more than {} are allowed: raise "
                    "max_message_bytes, or send less at once",
                    header.length, limit));
  }
  header.kind = static_cast<Kind>(kind);
  header.place = static_cast<Place>(place);
  return header;
}

std::span<const std::byte> Incoming::view() {
  if (file_.valid()) {
    if (mapping_.bytes().empty()) mapping_ = SealedMapping(file_, length_);
    return mapping_.bytes();
  }
  if (buffer_ != nullptr) return {buffer_.get() + offset_, length_};
  return owned_;
}

void Incoming::copy_to(std::span<std::byte> to) {
  to = to.first(std::min<std::size_t>(to.size(), length_));
  if (file_.valid()) {
    read_file_to(file_, to);
  } else if (!to.empty()) {
    std::memcpy(to.data(), view().data(), to.size());
  }
}

std::vector<std::byte> Incoming::take_vector() {
  if (!file_.valid() && buffer_ == nullptr) return std::move(owned_);
  if (file_.valid()) {
    // Its size is the kernel's word: a false length must not take memory.
    std::vector<std::byte> bytes(SealedMapping(file_, length_).bytes().size());
    read_file_to(file_, bytes);
    return bytes;
  }
  const std::span<const std::byte> bytes = view();
  return {bytes.begin(), bytes.end()};
}

void MessageSink::grow(std::size_t at_least) {
  const std::size_t used = written();
  const std::size_t wanted = used + at_least;
  if (file_.begun()) {
    // Its pages move without being copied; those too many cost as much as any.
    constexpr std::size_t kMostStep = std::size_t{4} << 20U;
    file_.grow(std::max(wanted, file_.size() + std::min(file_.size() / 4, kMostStep)));
    set_buffer(file_.data(), used, file_.size());
    return;
  }
  if (files_ && wanted > kMostBehind) {
    file_.grow(wanted);
    std::memcpy(file_.data(), begin(), used);
    set_buffer(file_.data(), used, file_.size());
    heap_ = {};
    return;
  }
  std::vector<std::byte> larger(std::max(wanted, 2 * used));
  std::memcpy(larger.data(), begin(), used);
  heap_ = std::move(larger);
  set_buffer(heap_.data(), used, heap_.size());
}

}  // namespace brood::detail
