// Connections within one process and between forks. Names in brackets are the tests of CPython's
// _TestConnection, _TestPoll and TestInvalidHandle that ask for the same.
#include <brood/connection.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <brood/channel/tls_session.hpp>
#include <brood/descriptor.hpp>
#include <brood/wait.hpp>

#include "channel/carriers.hpp"
#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::connection_test {
namespace {

using namespace std::chrono_literals;
using brood::testing::EveryCarrier;
using brood::testing::Forked;
using brood::testing::SingleStep;

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class ConnectionTest : public EveryCarrier {};
BROOD_OVER_EVERY_CARRIER(ConnectionTest);

TEST_P(ConnectionTest, ValuesArriveInOrderBothWays) {  // [test_connection]
  auto pipe = ends();
  const std::map<std::string, std::vector<int>> map{{"a", {1, 2}}, {"b", {}}};
  pipe.first.send(map);
  pipe.first.send(7);
  pipe.second.send(std::string("back"));
  EXPECT_EQ((pipe.second.recv<std::map<std::string, std::vector<int>>>()), map);
  EXPECT_EQ(pipe.second.recv<int>(), 7);
  EXPECT_EQ(pipe.first.recv<std::string>(), "back");
}

TEST_P(ConnectionTest, BytesStayMessagesEvenEmptyOnes) {  // [test_strings, test_dont_merge,
                                                          //  test_empty_string]
  auto pipe = ends();
  EXPECT_FALSE(pipe.second.poll());
  for (const char* text : {"a", "", "bc", "", ""}) pipe.first.send_bytes(std::string_view(text));
  for (const char* text : {"a", "", "bc", "", ""}) {
    EXPECT_TRUE(pipe.second.poll());
    EXPECT_TRUE(pipe.second.poll(1s));
    EXPECT_EQ(text_of(pipe.second.recv_bytes()), text);
  }
  EXPECT_FALSE(pipe.second.poll());
  EXPECT_FALSE(pipe.second.poll(-1s));
  EXPECT_FALSE(pipe.second.poll(5ms));
}

TEST_P(ConnectionTest, MessagesOfEverySizeArrive) {  // [test_connection]: 16 MB
  auto pipe = ends();
  const std::size_t record = TlsSession::kMostInRecord;
  std::vector<std::size_t> sizes{0,
                                 511,
                                 512,
                                 record - 24,
                                 record - 23,
                                 2 * record,
                                 kMostBehind - 100,
                                 kMostBehind,
                                 kMostBehind + 1,
                                 std::size_t{1} << 20U,
                                 std::size_t{16} << 20U};
  const auto make = [](std::size_t size) {
    std::vector<std::uint8_t> made(size);
    for (std::size_t i = 0; i < size; ++i) made[i] = static_cast<std::uint8_t>(i * 7 + size);
    return made;
  };
  // Many parts that outgrow every place where a message is made.
  const std::vector<std::string> parts(20'000, std::string(40, 'x'));
  std::thread sending([&] {
    for (const std::size_t size : sizes) {
      const std::vector<std::uint8_t> sent = make(size);
      pipe.first.send(sent);
      pipe.first.send_bytes(std::as_bytes(std::span(sent)));
    }
    pipe.first.send(parts);
  });
  for (const std::size_t size : sizes) {
    const std::vector<std::uint8_t> sent = make(size);
    EXPECT_EQ(pipe.second.recv<std::vector<std::uint8_t>>(), sent) << size;
    const std::vector<std::byte> bytes = pipe.second.recv_bytes();
    EXPECT_EQ(bytes.size(), size);
    EXPECT_TRUE(size == 0 || bytes.size() != size ||
                std::memcmp(bytes.data(), sent.data(), size) == 0);
  }
  EXPECT_EQ(pipe.second.recv<std::vector<std::string>>(), parts);
  sending.join();
}

TEST(Connection, AFewLargeMessagesAreOnTheirWayThenTheSenderWaits) {
  Pipe pipe;
  const std::vector<std::byte> large(1U << 20U);
  int sent = 0;
  while (sent < 100 && pipe.first.try_send_bytes_for(large, 0ms)) ++sent;
  EXPECT_GE(sent, 1);
  EXPECT_LT(sent, 20) << "memory that nobody counts";
  for (int i = 0; i < sent; ++i) EXPECT_EQ(pipe.second.recv_bytes().size(), large.size());
  EXPECT_FALSE(pipe.second.try_recv_bytes_for(0ms)) << "what was not sent in time is not there";
}

TEST_P(ConnectionTest, ReceivesIntoABuffer) {  // [test_connection]
  auto pipe = ends();
  std::array<std::byte, 4> buffer{};
  pipe.first.send_bytes("abc");
  EXPECT_EQ(pipe.second.recv_bytes_into(buffer), 3U);
  EXPECT_EQ(buffer[2], std::byte{'c'});
  pipe.first.send_bytes("abcde");
  try {
    pipe.second.recv_bytes_into(buffer);
    ADD_FAILURE() << "five bytes in four";
  } catch (const BufferTooShort& e) {
    EXPECT_EQ(text_of(e.message()), "abcde");
  }
  EXPECT_EQ(pipe.second.try_recv_bytes_into_for(buffer, 1ms), std::nullopt);
  const std::vector<std::byte> large(kMostBehind + 5, std::byte{9});
  std::vector<std::byte> room(large.size() + 1);
  pipe.first.send_bytes(large);
  EXPECT_EQ(pipe.second.recv_bytes_into(room), large.size());
  EXPECT_EQ(room[large.size() - 1], std::byte{9});
}

TEST_P(ConnectionTest, WhatIsTooLargeForTheReceiverIsGoneAndTheNextMessageIsFine) {
  auto pipe = ends({.first = 100});
  if (GetParam() == testing::Carrier::pipe) return;  // one limit for both ends, see below
  std::thread sending([&] {
    pipe.second.send_bytes(std::string(5'000'000, 'x'));
    pipe.second.send(5);
  });
  EXPECT_THROW(pipe.first.recv_bytes(), MessageTooLarge);
  EXPECT_EQ(pipe.first.recv<int>(), 5);
  sending.join();
}

TEST_P(ConnectionTest, WhatIsNotOfTheTypeAskedForIsAnErrorAndTheNextMessageIsFine) {
  auto pipe = ends();
  pipe.first.send_bytes("bytes");
  EXPECT_THROW(pipe.second.recv<int>(), DecodeError);
  pipe.first.send(1);
  EXPECT_THROW(pipe.second.recv<std::uint64_t>(), DecodeError);
  pipe.first.send(3);
  EXPECT_EQ(pipe.second.recv<int>(), 3);
}

TEST_P(ConnectionTest, WhatWasNotSentInTimeDoesNotArrive) {
  auto pipe = ends();
  const std::vector<std::byte> large(std::size_t{8} << 20U, std::byte{1});
  int sent = 0;
  while (pipe.first.try_send_bytes_for(large, 1ms)) ++sent;
  EXPECT_FALSE(pipe.first.try_send_bytes_for(large, 0ms));
  std::thread receiving([&] {
    for (int i = 0; i < sent; ++i) EXPECT_EQ(pipe.second.recv_bytes().size(), large.size());
    EXPECT_EQ(pipe.second.recv<std::string>(), "behind") << "and nothing between";
    EXPECT_FALSE(pipe.second.try_recv_bytes_for(0ms));
  });
  pipe.first.send(std::string("behind"));
  receiving.join();
}

TEST_P(ConnectionTest, TheDescriptorIsReadableWhileThereIsAMessageOrTheEnd) {  // [test_issue16955]
  auto pipe = ends();
  EXPECT_TRUE(wait({pipe.second}, 0ms).empty());
  for (int i = 0; i < 3; ++i) pipe.first.send(i);
  EXPECT_TRUE(pipe.second.poll(10s));
  for (int i = 0; i < 3; ++i) {
    // All three may have been taken from the socket with the first.
    EXPECT_EQ(wait({pipe.second}, 10s).size(), 1U);
    EXPECT_EQ(pipe.second.recv<int>(), i);
  }
  EXPECT_TRUE(wait({pipe.second}, 0ms).empty());
  pipe.first.close();
  EXPECT_EQ(wait({pipe.second}, 10s).size(), 1U);
  EXPECT_TRUE(pipe.second.poll());
  EXPECT_EQ(wait({pipe.second}, 10s).size(), 1U) << "the end stays";
  EXPECT_THROW(pipe.second.recv<int>(), EndOfStream);
  EXPECT_EQ(wait({pipe.second}, 10s).size(), 1U);
}

TEST_P(ConnectionTest, ACopyOfTheProcessDoesNotSpoilAnEncryptedOne) {
  if (testing::kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  auto pipe = ends();
  if (!encrypted()) return;  // the others may be used by both
  testing::in_child([&] {
    EXPECT_THROW(pipe.first.send(1), StateError);
    EXPECT_THROW(pipe.first.recv<int>(), StateError);
    EXPECT_THROW(static_cast<void>(pipe.first.poll()), StateError);
    pipe.first.close();
  });
  pipe.first.send(2);
  EXPECT_EQ(pipe.second.recv<int>(), 2);
  pipe.second.send(3);
  EXPECT_EQ(pipe.first.recv<int>(), 3);
}

TEST_P(ConnectionTest, ManyMayReceiveAtOnceAndEachMessageGoesToOne) {
  auto pipe = ends();
  constexpr int kMessages = 600;
  std::array<std::vector<int>, 3> got;
  std::vector<std::thread> receivers;
  for (auto& mine : got) {
    receivers.emplace_back([&] {
      try {
        for (;;) {
          if (const auto number = pipe.second.try_recv_for<int>(20s)) mine.push_back(*number);
        }
      } catch (const EndOfStream&) {
        return;
      }
    });
  }
  for (int i = 0; i < kMessages; ++i) pipe.first.send(i);
  pipe.first.close();
  for (std::thread& receiver : receivers) receiver.join();
  std::vector<int> all;
  for (const auto& mine : got) {
    EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
    all.insert(all.end(), mine.begin(), mine.end());
  }
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), static_cast<std::size_t>(kMessages));
  for (int i = 0; i < kMessages; ++i) EXPECT_EQ(all[static_cast<std::size_t>(i)], i);
}

TEST_P(ConnectionTest, DescriptorsGoWhereTheKernelCarriesThem) {  // [test_pickling, test_access]
  auto pipe = ends();
  Descriptor file = Descriptor::copy_of(2);
  Pipe other;
  if (!encrypted()) {
    pipe.first.send(std::move(file));
    EXPECT_TRUE(pipe.second.recv<Descriptor>().valid());
    other.first.send(std::move(pipe.first));
    auto arrived = other.second.recv<Connection>();
    arrived.send(1);
    EXPECT_EQ(pipe.second.recv<int>(), 1);
    return;
  }
  EXPECT_THROW(pipe.first.send(std::move(file)), StateError);
  EXPECT_TRUE(file.valid()) << "it was not sent";  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(other.first.send(std::move(pipe.first)), StateError);
  pipe.first.send(1);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(pipe.second.recv<int>(), 1);
}

TEST_P(ConnectionTest, TooLargeMessagesAreRefusedAtBothEndsAndNothingBreaks) {  // [test_sendbytes]
  auto pipe = ends({.first = 100, .second = 100});
  EXPECT_THROW(pipe.first.send_bytes(std::string(101, 'x')), MessageTooLarge);
  pipe.first.send_bytes(std::string(100, 'x'));
  EXPECT_THROW(pipe.second.recv_bytes(99), MessageTooLarge);
  pipe.first.send(5);
  EXPECT_EQ(pipe.second.recv<int>(), 5);
}

TEST(Connection, OneWayEndsRefuseTheOtherDirection) {  // [test_duplex_false]
  Pipe pipe({.duplex = false});
  EXPECT_TRUE(pipe.first.readable());
  EXPECT_FALSE(pipe.first.writable());
  EXPECT_FALSE(pipe.second.readable());
  EXPECT_TRUE(pipe.second.writable());
  pipe.second.send(1);
  EXPECT_EQ(pipe.first.recv<int>(), 1);
  EXPECT_THROW(pipe.first.send(1), StateError);
  EXPECT_THROW(pipe.second.recv<int>(), StateError);
  EXPECT_THROW(static_cast<void>(pipe.second.poll()), StateError);
}

TEST_P(ConnectionTest, AClosedOneSaysSo) {  // [test_context, test_invalid_handles]
  auto pipe = ends();
  Connection moved = std::move(pipe.first);
  EXPECT_TRUE(pipe.first.closed());  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(pipe.first.send(1), StateError);
  EXPECT_THROW(static_cast<void>(pipe.first.descriptor()), StateError);
  moved.close();
  moved.close();
  EXPECT_THROW(static_cast<void>(moved.recv<int>()), StateError);
  EXPECT_THROW(static_cast<void>(moved.poll()), StateError);
}

TEST_P(ConnectionTest, AfterTheOtherEndIsClosedWhatItSentComesThenTheEnd) {
  auto pipe = ends();
  pipe.first.send(1);
  pipe.second.send(9);  // never read: the kernel tells of it with a reset
  pipe.first.close();
  EXPECT_TRUE(pipe.second.poll());
  EXPECT_EQ(pipe.second.recv<int>(), 1);
  EXPECT_TRUE(pipe.second.poll());
  EXPECT_THROW(pipe.second.recv<int>(), EndOfStream);
  EXPECT_THROW(pipe.second.recv_bytes(), EndOfStream);
  EXPECT_THROW(static_cast<void>(pipe.second.try_recv_for<int>(1s)), EndOfStream);
  EXPECT_THROW(pipe.second.send(1), EndOfStream) << "and no signal";
}

TEST(Connection, WhatIsNotOfTheTypeIsAnErrorAndTheNextMessageIsFine) {
  Pipe pipe;
  pipe.first.send_bytes("bytes");
  EXPECT_THROW(pipe.second.recv<int>(), DecodeError);
  pipe.first.send(1);
  EXPECT_THROW(pipe.second.recv<std::uint64_t>(), DecodeError);
  pipe.first.send(std::uint64_t{1});
  EXPECT_THROW(pipe.second.recv<int>(), DecodeError);
  ASSERT_EQ(::write(pipe.first.descriptor(), "garbage", 7), 7);
  EXPECT_THROW(pipe.second.recv<int>(), DecodeError);
  const std::string long_garbage(200'000, 'x');
  ASSERT_EQ(::write(pipe.first.descriptor(), long_garbage.data(), long_garbage.size()), 200'000);
  EXPECT_THROW(pipe.second.recv_bytes(), DecodeError);
  pipe.first.send(3);
  EXPECT_EQ(pipe.second.recv<int>(), 3);
}

TEST(Connection, ALengthThatIsALieTakesNoMemory) {
  Pipe pipe;
  for (const auto place : {MessageHeader::Place::behind, MessageHeader::Place::file}) {
    const MessageHeader header{
        .kind = MessageHeader::Kind::bytes, .place = place, .length = std::uint64_t{1} << 60U};
    ASSERT_EQ(::write(pipe.first.descriptor(), &header, sizeof header), sizeof header);
    EXPECT_THROW(pipe.second.recv_bytes(), DecodeError);
  }
}

TEST(Connection, ConnectionsAndDescriptorsGoThroughConnections) {  // [test_fd_transfer,
                                                                   //  test_pickling]
  Pipe pipe;
  Pipe other;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Descriptor reader(ends[0]);
  pipe.first.send(std::pair(std::string("with"), Descriptor(ends[1])));
  pipe.first.send(std::move(other.first));
  EXPECT_TRUE(other.first.closed());  // NOLINT(bugprone-use-after-move)
  {
    auto [text, writer] = pipe.second.recv<std::pair<std::string, Descriptor>>();
    EXPECT_EQ(text, "with");
    ASSERT_EQ(::write(writer.get(), "x", 1), 1);
  }
  std::array<char, 2> got{};
  EXPECT_EQ(::read(reader.get(), got.data(), 2), 1);
  EXPECT_EQ(::read(reader.get(), got.data(), 2), 0) << "nobody has a copy";
  auto arrived = pipe.second.recv<Connection>();
  arrived.send(4);
  EXPECT_EQ(other.second.recv<int>(), 4);
  arrived.close();
  EXPECT_THROW(other.second.recv<int>(), EndOfStream);
}

TEST_P(ConnectionTest, OneSenderAndOneReceiverMayWorkAtOnceInAnEndAndSendersDoNotMix) {
  auto pipe = ends();
  constexpr int kEach = 300;
  const auto send_all = [&](int who) {
    for (int i = 0; i < kEach; ++i) {
      const auto size = static_cast<std::size_t>(i % 50 == 0 ? 200'000 : i);
      pipe.first.send(std::vector<int>(size + 1, who * kEach + i));
    }
  };
  std::thread echo([&] {
    for (int i = 0; i < 2 * kEach; ++i) pipe.second.send(pipe.second.recv<std::vector<int>>());
  });
  std::thread a([&] { send_all(0); });
  std::thread b([&] { send_all(1); });
  std::array<int, 2> next{};
  for (int i = 0; i < 2 * kEach; ++i) {
    const auto message = pipe.first.recv<std::vector<int>>();
    for (const int number : message) ASSERT_EQ(number, message[0]);
    const auto who = static_cast<std::size_t>(message[0] / kEach);
    EXPECT_EQ(message[0] % kEach, next[who]++);
  }
  a.join(), b.join(), echo.join();
}

TEST(Connection, TheEndOfAKilledProcessIsSeenAtOnce) {
  if (testing::kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  Pipe pipe;
  Forked child([&] {
    pipe.second.close();
    pipe.first.send(1);
    for (;;) ::pause();
  });
  pipe.first.close();
  EXPECT_EQ(pipe.second.recv<int>(), 1);
  EXPECT_EQ(pipe.second.try_recv_for<int>(1ms), std::nullopt);
  child.signal(SIGKILL);
  EXPECT_THROW(pipe.second.recv<int>(), EndOfStream);
}

// The kill windows of send: one system call is the commit, so that the other end sees the message
// or does not; what stands before is private memory.
TEST(Connection, KilledAtAnyInstructionOfSendWholeMessagesComeThenTheEnd) {
  if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  for (const std::size_t size : {std::size_t{5}, kMostBehind + 1000}) {
    const std::vector<std::byte> sent(size, std::byte{'k'});
    const std::uint64_t stride = testing::prove_everything() ? 1 : 37;
    bool done = false;
    bool seen_without = false;
    bool seen_with = false;
    for (std::uint64_t at = 0; !done; at += stride) {
      Pipe pipe;
      SingleStep child([&] { pipe.first.send_bytes(sent); });
      pipe.first.close();
      done = !child.step(at);
      child.kill();
      bool came = false;
      try {
        ASSERT_EQ(pipe.second.recv_bytes(), sent) << at;
        came = true;
        pipe.second.recv_bytes();
        FAIL() << "a second message after " << at;
      } catch (const EndOfStream&) {
        (came ? seen_with : seen_without) = true;
      }
      ASSERT_TRUE(came || !done) << "it returned, so it was sent";
    }
    EXPECT_TRUE(seen_with);
    EXPECT_TRUE(seen_without);
  }
}

}  // namespace
}  // namespace brood::detail::connection_test
