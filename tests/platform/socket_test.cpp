#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/socket.hpp>

#include "support/forked.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::socket_test {
namespace {

using namespace brood::testing;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

bool send_text(const Fd& socket, std::string_view text, std::span<const int> descriptors = {}) {
  return send_message(socket, bytes_of(text), descriptors);
}

struct Text {
  std::string text;
  bool end = false;
  std::vector<Fd> descriptors;
};

/// Waits for one message.
Text receive_text(const Fd& socket, std::size_t room = 4096) {
  EXPECT_TRUE(wait_readable(socket.get(), patience()));
  std::string buffer(room, '?');
  Message message =
      receive_message(socket, std::as_writable_bytes(std::span(buffer.data(), buffer.size())));
  buffer.resize(message.size);
  return {buffer, message.end, std::move(message.descriptors)};
}

TEST(Socket, IsClosedByExec) {
  const auto [here, there] = socket_pair();
  EXPECT_NE(::fcntl(here.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(there.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(Socket, MessagesKeepTheirOrderAndBoundaries) {
  const auto [here, there] = socket_pair();
  ASSERT_TRUE(send_text(here, "one"));
  ASSERT_TRUE(send_text(here, "a longer one"));
  ASSERT_TRUE(send_text(here, "3"));
  ASSERT_TRUE(send_text(there, "the other way"));
  EXPECT_EQ(receive_text(there).text, "one");
  EXPECT_EQ(receive_text(there).text, "a longer one");
  EXPECT_EQ(receive_text(there).text, "3");
  EXPECT_EQ(receive_text(here).text, "the other way");
}

TEST(Socket, ReceivingDoesNotWait) {
  const auto [here, there] = socket_pair();
  std::array<std::byte, 16> buffer{};
  const Message message = receive_message(here, buffer);
  EXPECT_EQ(message.size, 0U);
  EXPECT_FALSE(message.end);
}

TEST(Socket, AMessageThatIsTooLongIsCutAndCountsAsEnd) {
  const auto [here, there] = socket_pair();
  ASSERT_TRUE(send_text(here, "0123456789"));
  ASSERT_TRUE(send_text(here, "next"));
  const Text cut = receive_text(there, 4);
  EXPECT_TRUE(cut.end);
  EXPECT_EQ(cut.text, "0123");
  EXPECT_EQ(receive_text(there).text, "next") << "the rest is not a message of its own";
  ASSERT_TRUE(send_text(here, "0123"));
  const Text fits = receive_text(there, 4);
  EXPECT_FALSE(fits.end);
  EXPECT_EQ(fits.text, "0123");
}

TEST(Socket, DescriptorsArriveAsCopiesThatExecCloses) {
  const auto [here, there] = socket_pair();
  std::vector<int> sent;
  std::vector<Fd> owners;
  for (std::size_t i = 0; i < kMaxMessageFds; ++i) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);  // not close-on-exec at the sender
    owners.emplace_back(pipe[0]);
    owners.emplace_back(pipe[1]);
    sent.push_back(pipe[1]);
  }
  ASSERT_TRUE(send_text(here, "take these", sent));
  const Text got = receive_text(there);
  EXPECT_EQ(got.text, "take these");
  ASSERT_EQ(got.descriptors.size(), kMaxMessageFds);
  for (std::size_t i = 0; i < kMaxMessageFds; ++i) {
    const int fd = got.descriptors[i].get();
    EXPECT_NE(fd, sent[i]);
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    const char mark = static_cast<char>('a' + i);
    ASSERT_EQ(::write(fd, &mark, 1), 1);
    char read_mark = 0;
    ASSERT_EQ(::read(owners[2 * i].get(), &read_mark, 1), 1);
    EXPECT_EQ(read_mark, mark) << "in order";
  }
}

TEST(Socket, DescriptorsOfMessagesNobodyReceivedAreClosed) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const Fd reader(pipe[0]);
  {
    Fd writer(pipe[1]);
    const auto [here, there] = socket_pair();
    ASSERT_TRUE(send_text(here, "unread", std::array{writer.get()}));
    writer.reset();
    EXPECT_FALSE(wait_readable(reader.get(), Deadline::now())) << "the copy keeps it open";
  }
  EXPECT_TRUE(wait_readable(reader.get(), patience()));
  char mark = 0;
  EXPECT_EQ(::read(reader.get(), &mark, 1), 0);
}

TEST(Socket, WhatCannotBeSentIsAnError) {
  const auto [here, there] = socket_pair();
  try {
    send_text(here, "negative", std::array{-1});
    ADD_FAILURE() << "sent descriptor -1";
  } catch (const SystemError& e) {
    EXPECT_EQ(e.code(), std::errc::bad_file_descriptor) << e.what();
  }
  const std::string huge(64U << 20U, 'x');
  try {
    send_text(here, huge);
    ADD_FAILURE() << "sent 64 MiB in one message";
  } catch (const SystemError& e) {
    EXPECT_EQ(e.code(), std::errc::message_size) << e.what();
  }
  ASSERT_TRUE(send_text(here, "fine"));
  EXPECT_EQ(receive_text(there).text, "fine");
  EXPECT_THROW(send_text(Fd(), "x"), SystemError);
  std::array<std::byte, 16> buffer{};
  EXPECT_THROW(receive_message(Fd(), buffer), SystemError);
}

TEST(Socket, APeerThatIsGoneIsToldAndNotSignalled) {
  {
    auto [here, there] = socket_pair();
    ASSERT_TRUE(send_text(there, "last words"));
    there.reset();
    EXPECT_FALSE(send_text(here, "anybody?"));
    EXPECT_EQ(receive_text(here).text, "last words");
    EXPECT_TRUE(receive_text(here).end);
    EXPECT_TRUE(receive_text(here).end);
  }
  {
    auto [here, there] = socket_pair();
    ASSERT_TRUE(send_text(here, "never read"));
    there.reset();  // the kernel answers with a reset
    EXPECT_TRUE(receive_text(here).end);
    EXPECT_FALSE(send_text(here, "anybody?"));
  }
}

TEST(Socket, APeerThatIsKilledIsTold) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  // Not bindings, which this C++ does not let lambdas capture.
  Fd here;
  Fd there;
  std::tie(here, there) = socket_pair();
  Forked child([&] {
    here.reset();
    send_text(there, "hello");
    for (;;) ::pause();
  });
  there.reset();
  EXPECT_EQ(receive_text(here).text, "hello");
  std::array<std::byte, 16> buffer{};
  EXPECT_FALSE(receive_message(here, buffer).end);
  child.signal(SIGKILL);
  EXPECT_TRUE(receive_text(here).end);
  EXPECT_FALSE(send_text(here, "anybody?"));
}

TEST(Socket, DescriptorsThatHaveNoRoomAreMissingNotWrong) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  in_child([] {
    const auto [here, there] = socket_pair();
    ASSERT_TRUE(send_text(here, "two", std::array{0, 1}));
    const int next = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = static_cast<rlim_t>(next) + 2;  // room for one
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    std::array<std::byte, 16> buffer{};
    const Message message = receive_message(there, buffer);
    EXPECT_EQ(message.size, 3U);
    EXPECT_LE(message.descriptors.size(), 1U);
    for (const Fd& fd : message.descriptors) EXPECT_GE(::fcntl(fd.get(), F_GETFD), 0);
  });
}

TEST(Socket, SendersThatShareAnEndDoNotMix) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  constexpr int kSenders = 4;
  constexpr int kEach = 300;
  Fd here;
  Fd there;
  std::tie(here, there) = socket_pair();
  std::vector<Forked> senders;
  for (int s = 0; s < kSenders; ++s) {
    senders.emplace_back([&, s] {
      here.reset();
      for (int i = 0; i < kEach; ++i) {
        // Of different lengths, one letter each, the number in front.
        const std::string text =
            std::to_string(i) + " " +
            std::string(static_cast<std::size_t>(1 + (i * 37) % 3000), static_cast<char>('a' + s));
        ASSERT_TRUE(send_text(there, text));
      }
    });
  }
  there.reset();
  std::map<char, int> next;
  for (;;) {
    const Text message = receive_text(here);
    if (message.end) break;
    const std::size_t space = message.text.find(' ');
    ASSERT_NE(space, std::string::npos) << message.text;
    const char letter = message.text.back();
    const int number = std::stoi(message.text);
    ASSERT_EQ(number, next[letter]++) << "sender " << letter;
    const std::string body = message.text.substr(space + 1);
    ASSERT_EQ(body, std::string(static_cast<std::size_t>(1 + (number * 37) % 3000), letter));
  }
  EXPECT_EQ(next.size(), static_cast<std::size_t>(kSenders));
  for (const auto& [letter, count] : next) EXPECT_EQ(count, kEach) << letter;
  for (Forked& sender : senders) EXPECT_EQ(sender.wait(), 0);
}

}  // namespace
}  // namespace brood::detail::socket_test
