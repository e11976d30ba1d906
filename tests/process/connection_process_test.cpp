// Connections between processes, under every start method. Names in brackets are the tests of
// CPython's _TestConnection, _TestPoll and _TestPicklingConnections that ask for the same.
// Not for ThreadSanitizer: processes.
#include <brood/connection.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/descriptor.hpp>
#include <brood/process.hpp>
#include <brood/queue.hpp>
#include <brood/wait.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace connection_process_test {
namespace {

using namespace std::chrono_literals;
using brood::testing::TempDir;

class ConnectionProcessTest : public brood::testing::EveryStartMethod {
 protected:
  TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(ConnectionProcessTest);

TEST_P(ConnectionProcessTest, AChildDoesNotKeepTheEndsOfItsParentOpen) {
  const std::string sign = dir_.file("sign");
  brood::Pipe pipe;
  brood::Process child(
      {.daemon = true},
      [](std::string path) {
        brood::testing::give_sign(path);
        for (;;) ::pause();
      },
      sign);
  child.start();
  brood::testing::await_sign(sign);
  pipe.second.send(1);
  EXPECT_EQ(pipe.first.recv<int>(), 1);
  pipe.second.close();
  ASSERT_TRUE(pipe.first.poll(10s)) << "somebody else has a copy of the end";
  EXPECT_THROW(pipe.first.recv<int>(), brood::EndOfStream);
  EXPECT_TRUE(child.is_alive());
}

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void echo_bytes(brood::Connection end) {
  try {
    for (;;) end.send_bytes(end.recv_bytes());
  } catch (const brood::EndOfStream&) {
    return;
  }
}

TEST_P(ConnectionProcessTest, BytesOfAllSizesComeBack) {  // [test_connection, test_sendbytes]
  brood::Pipe pipe;
  brood::Process child(echo_bytes, std::move(pipe.second));
  child.start();
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  pipe.first.send_bytes(text);
  EXPECT_EQ(text_of(pipe.first.recv_bytes()), text);
  // Parts of what there is, and into parts: spans, where Python has offsets and sizes.
  pipe.first.send_bytes(std::string_view(text).substr(7, 3));
  std::array<std::byte, 10> buffer{};
  EXPECT_EQ(pipe.first.recv_bytes_into(std::span(buffer).subspan(4)), 3U);
  EXPECT_EQ(buffer[3], std::byte{0});
  EXPECT_EQ(buffer[4], std::byte{'h'});
  EXPECT_EQ(buffer[7], std::byte{0});
  pipe.first.send_bytes(std::string_view(text).substr(26));
  EXPECT_TRUE(pipe.first.recv_bytes().empty());
  pipe.first.send_bytes(text);
  try {
    pipe.first.recv_bytes_into(buffer);
    ADD_FAILURE() << "26 bytes in 10";
  } catch (const brood::BufferTooShort& e) {
    EXPECT_EQ(text_of(e.message()), text);
  }
  EXPECT_FALSE(pipe.first.poll());
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(pipe.first.poll(20ms));
  EXPECT_GE(std::chrono::steady_clock::now() - before, 20ms);
  pipe.first.send_bytes("x");
  EXPECT_TRUE(pipe.first.poll(20s));
  EXPECT_EQ(text_of(pipe.first.recv_bytes()), "x");
  const std::string large(std::size_t{16} << 20U, 'l');
  pipe.first.send_bytes(large);
  EXPECT_EQ(text_of(pipe.first.recv_bytes()), large);
  pipe.first.close();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
}

const std::vector<std::string>& many_texts() {
  static const std::vector<std::string> texts{"hello", "", "b", "bye", "", ""};
  return texts;
}

TEST_P(ConnectionProcessTest, TextsOfAChildComeOneByOne) {  // [test_strings, test_dont_merge]
  brood::Pipe pipe;
  brood::Process child(
      [](brood::Connection end) {
        for (const std::string& text : many_texts()) {
          end.send_bytes(text);
          end.send(text);
        }
        static_cast<void>(end.poll(60s));  // stays until it has been heard
      },
      std::move(pipe.second));
  child.start();
  for (const std::string& text : many_texts()) {
    for (int look = 0; look != 3; ++look)
      ASSERT_TRUE(pipe.first.poll(20s)) << "[test_empty_string]";
    EXPECT_EQ(text_of(pipe.first.recv_bytes()), text);
    EXPECT_EQ(pipe.first.recv<std::string>(), text);
  }
  EXPECT_FALSE(pipe.first.poll());
  pipe.first.close();
  child.join();
}

TEST_P(ConnectionProcessTest, WhoOnlyPollsTakesNothing) {  // [test_boundaries]
  brood::Pipe pipe;
  brood::Pipe done;
  // Both have the same end, by a copy of its descriptor.
  auto same = brood::Descriptor::copy_of(pipe.second.descriptor());
  brood::Process poller(
      [](const brood::Descriptor& end, brood::Connection say) {
        int times = 0;
        while (!say.poll()) times += brood::wait({end.get()}, 1ms).empty() ? 0 : 1;
        say.send(times);
      },
      std::move(same), std::move(done.second));
  poller.start();
  for (int i = 0; i != 200; ++i) {
    pipe.first.send(std::string(static_cast<std::size_t>(i * 100), 'x'));
    EXPECT_EQ(pipe.second.recv<std::string>().size(), static_cast<std::size_t>(i * 100));
  }
  pipe.first.send(std::string("left"));
  done.first.send(0);
  static_cast<void>(done.first.recv<int>());
  poller.join();
  EXPECT_EQ(pipe.second.recv<std::string>(), "left");
}

/// Receives connections, descriptors, and uses them.
void use_what_comes(brood::Connection from) {
  auto reader = from.recv<brood::Connection>();
  auto writer = from.recv<brood::Connection>();
  const auto file = from.recv<brood::Descriptor>();
  writer.send(reader.recv<int>() + 1);
  int refused = 0;
  try {
    reader.send(1);
  } catch (const brood::StateError&) {
    ++refused;
  }
  try {
    writer.recv<int>();
  } catch (const brood::StateError&) {
    ++refused;
  }
  if (::write(file.get(), "file", 4) != 4) throw brood::StateError("not written");
  brood::Pipe own;
  from.send(std::move(own.second));
  own.first.send(refused);
  own.first.send(own.first.recv<std::string>() + " back");
}

// [test_pickling, test_access, test_fd_transfer]
TEST_P(ConnectionProcessTest, ConnectionsAndFilesGoToARunningChildAndComeFromIt) {
  brood::Pipe pipe;
  brood::Process child(use_what_comes, std::move(pipe.second));
  child.start();
  brood::Pipe in({.duplex = false});
  brood::Pipe out({.duplex = false});
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const brood::Descriptor reader(ends[0]);
  pipe.first.send(std::move(in.first));
  pipe.first.send(std::move(out.second));
  pipe.first.send(brood::Descriptor(ends[1]));
  in.second.send(1);
  EXPECT_EQ(out.first.recv<int>(), 2);
  auto own = pipe.first.recv<brood::Connection>();
  EXPECT_EQ(own.recv<int>(), 2) << "one-way ends are one-way there too";
  own.send(std::string("there and"));
  EXPECT_EQ(own.recv<std::string>(), "there and back");
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
  std::array<char, 5> bytes{};
  EXPECT_EQ(::read(reader.get(), bytes.data(), bytes.size()), 4);
  EXPECT_EQ(::read(reader.get(), bytes.data(), bytes.size()), 0) << "nobody has a copy";
  EXPECT_THROW(out.first.recv<int>(), brood::EndOfStream);
  EXPECT_THROW(own.recv<int>(), brood::EndOfStream);
}

// [test_missing_fd_transfer]
TEST_P(ConnectionProcessTest, ADescriptorThatDoesNotComeIsAnError) {
  brood::Pipe pipe;
  brood::Process child(
      [](brood::Connection end) {
        // What it would be encoded to, as another type: there is one, with number 0.
        end.send(std::pair(true, std::uint8_t{0}));
        end.send(1);
        static_cast<void>(end.poll(60s));
      },
      std::move(pipe.second));
  child.start();
  EXPECT_THROW(static_cast<void>(pipe.first.recv<brood::Descriptor>()), brood::DecodeError);
  EXPECT_EQ(pipe.first.recv<int>(), 1);
  pipe.first.close();
  child.join();
}

TEST_P(ConnectionProcessTest, WhereDescriptorsCannotGoIsSaid) {
  const brood::Queue<brood::Descriptor> queue;
  try {
    queue.put(brood::Descriptor::copy_of(0));
    ADD_FAILURE() << "a queue has no place for descriptors";
  } catch (const brood::StateError& e) {
    EXPECT_NE(std::string(e.what()).find("give it to a Process"), std::string::npos) << e.what();
  }
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace connection_process_test
