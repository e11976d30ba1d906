#include <brood/channel/frame_parser.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include <brood/errors.hpp>

namespace brood::detail::frame_parser_test {
namespace {

using Type = FrameHeader::Type;
using Bytes = std::vector<std::byte>;

template <class T>
void append(Bytes& to, const T& object) {
  const auto bytes = std::as_bytes(std::span(&object, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

Bytes frame(Type type, const std::string& payload) {
  Bytes bytes;
  append(bytes, FrameHeader{.length = static_cast<std::uint32_t>(payload.size()), .type = type});
  for (const char letter : payload) bytes.push_back(static_cast<std::byte>(letter));
  return bytes;
}

std::string head(std::uint64_t length, MessageHeader other = {.kind = MessageHeader::Kind::bytes}) {
  other.length = length;
  std::string text(sizeof other, '\0');
  std::memcpy(text.data(), &other, sizeof other);
  return text;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::string text_of(Incoming message) {
  const Bytes bytes = message.take_vector();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(FrameParser, MessagesComeTogetherHoweverTheirBytesAreCut) {
  const Bytes stream = frame(Type::begin, head(5) + "ab") + frame(Type::more, "cde") +
                       frame(Type::begin, head(0)) + frame(Type::begin, head(1) + "x");
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    FrameParser parser(100);
    std::vector<std::string> got;
    for (std::size_t at = 0; at < stream.size(); at += step) {
      parser.feed(std::span(stream).subspan(at, std::min(step, stream.size() - at)));
      while (parser.ready()) got.push_back(text_of(parser.take()));
    }
    EXPECT_EQ(got, (std::vector<std::string>{"abcde", "", "x"})) << step;
  }
}

TEST(FrameParser, AnAbandonedMessageNeverWas) {
  FrameParser parser(100);
  parser.feed(frame(Type::begin, head(5) + "ab") + frame(Type::abandon, "") +
              frame(Type::begin, head(1) + "x"));
  ASSERT_TRUE(parser.ready());
  EXPECT_EQ(text_of(parser.take()), "x");
  EXPECT_FALSE(parser.ready());
}

TEST(FrameParser, ATooLongMessageIsReportedAtOnceAndDroppedAsItComes) {
  FrameParser parser(4);
  parser.feed(frame(Type::begin, head(5) + "ab"));
  ASSERT_TRUE(parser.ready()) << "its bytes are not waited for";
  EXPECT_THROW(parser.take(), MessageTooLarge);
  parser.feed(frame(Type::more, "cde") + frame(Type::begin, head(4) + "four"));
  ASSERT_TRUE(parser.ready());
  EXPECT_EQ(text_of(parser.take()), "four");
  EXPECT_FALSE(parser.ready());
}

TEST(FrameParser, ALengthThatIsALieTakesNoMemory) {
  FrameParser parser(std::numeric_limits<std::uint64_t>::max());
  parser.feed(frame(Type::begin, head(std::uint64_t{1} << 62U) + "ab"));
  parser.feed(frame(Type::more, "c"));
  EXPECT_FALSE(parser.ready());
}

TEST(FrameParser, WhatMakesNoSenseIsRefused) {
  MessageHeader in_file{.place = MessageHeader::Place::file};
  MessageHeader with_descriptors{.descriptors = 1};
  MessageHeader other_magic{.magic = 7};
  Bytes dirty = frame(Type::begin, head(1) + "x");
  dirty[6] = std::byte{1};
  const std::vector<Bytes> all{
      frame(Type::more, "x"),
      frame(Type::abandon, ""),
      frame(static_cast<Type>(0), "x"),
      frame(static_cast<Type>(9), "x"),
      frame(Type::begin, "short"),
      frame(Type::begin, ""),
      frame(Type::begin, head(1) + "xy"),
      frame(Type::begin, head(3) + "x") + frame(Type::more, "yzu"),
      frame(Type::begin, head(3) + "x") + frame(Type::more, ""),
      frame(Type::begin, head(3) + "x") + frame(Type::begin, head(1) + "x"),
      frame(Type::begin, head(3) + "x") + frame(Type::abandon, "x"),
      frame(Type::begin, head(1, in_file) + "x"),
      frame(Type::begin, head(1, with_descriptors) + "x"),
      frame(Type::begin, head(1, other_magic) + "x"),
      dirty,
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    FrameParser parser(100);
    EXPECT_THROW(parser.feed(all[i]), DecodeError) << i;
    EXPECT_FALSE(parser.ready()) << i;
  }
}

}  // namespace
}  // namespace brood::detail::frame_parser_test
