// Listeners and their clients in a family, under every start method. Names in brackets are tests of
// CPython's _TestListenerClient and _TestPicklingConnections.
// Not for ThreadSanitizer: processes.
#include <brood/listener.hpp>

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <brood/authkey.hpp>
#include <brood/connect.hpp>
#include <brood/process.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::listener_process_test {
namespace {

using namespace std::chrono_literals;
using testing::TempDir;

class ListenerProcessTest : public testing::EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(ListenerProcessTest);

void greet(const Address& address, std::optional<std::string> key) {
  Connection connection = connect(address, {.authkey = std::move(key)});
  connection.send(std::pair(::getpid(), std::string("hello")));
  if (connection.recv<int>() != 7) throw std::runtime_error("another answer");
}

TEST_P(ListenerProcessTest, AChildConnectsInEveryFamily) {  // [test_listener_client]
  const TempDir dir;
  for (const Address& address :
       {Address::path(dir.file("socket")),
        Address::abstract("brood-family-test-" + std::to_string(::getpid())),
        Address::tcp("127.0.0.1", 0)}) {
    for (const bool keyed : {false, true}) {
      const std::optional<std::string> key =
          keyed ? std::optional<std::string>("secret") : std::nullopt;
      Listener listener(address, {.authkey = key});
      Process child(greet, listener.address(), key);
      child.start();
      auto connection = listener.try_accept_for(20s);
      ASSERT_TRUE(connection) << address.to_string();
      const auto [pid, text] = connection->recv<std::pair<int, std::string>>();
      EXPECT_EQ(pid, child.pid());
      EXPECT_EQ(text, "hello");
      if (const auto& credentials = listener.last_accepted().credentials) {
        EXPECT_EQ(credentials->pid, child.pid());
      }
      connection->send(7);
      child.join();
      EXPECT_EQ(child.exitcode(), 0);
      EXPECT_THROW(connection->recv<int>(), EndOfStream);
    }
  }
}

TEST_P(ListenerProcessTest, TheFamilyHasOneKeyWhoeverSetsIt) {
  const std::string before = authkey();
  Process child(
      [](std::string expected) {
        if (authkey() != expected) throw std::runtime_error("another key");
        set_authkey("of the child");
      },
      before);
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
  EXPECT_EQ(authkey(), "of the child");
  set_authkey(before);
}

void listen_and_echo(const std::string& path) {
  Listener listener(Address::tcp("127.0.0.1", 0));
  // The name of the finished file is the sign.
  testing::write_file(path + ".new", std::to_string(listener.address().port));
  std::filesystem::rename(path + ".new", path);
  Connection connection = listener.accept();
  connection.send(connection.recv<std::string>());
  for (;;) ::pause();
}

TEST_P(ListenerProcessTest, AChildListensAndItsDeathIsSeenAtOnce) {
  const TempDir dir;
  Process child({.daemon = true}, listen_and_echo, dir.file("port"));
  child.start();
  testing::await_sign(dir.file("port"));
  const auto port = static_cast<std::uint16_t>(std::stoi(testing::read_file(dir.file("port"))));
  Connection connection = connect(Address::tcp("127.0.0.1", port));
  connection.send(std::string("echo"));
  EXPECT_EQ(connection.recv<std::string>(), "echo");
  EXPECT_FALSE(connection.poll(1ms));
  child.kill();
  EXPECT_THROW(connection.recv<std::string>(), EndOfStream);
  child.join();
}

void listen_at(const std::string& path) {
  const Listener listener{Address::path(path)};
  testing::give_sign(path + ".sign");
  for (;;) ::pause();
}

TEST_P(ListenerProcessTest, AKilledOnesPathIsTakenAwayUnlessItIsAnothersByNow) {
  const TempDir dir;
  const std::string path = dir.file("socket");
  for (const bool replaced : {false, true}) {
    Process child({.daemon = true}, listen_at, path);
    child.start();
    testing::await_sign(path + ".sign");
    std::optional<Listener> other;
    if (replaced) {
      std::filesystem::remove(path);
      other.emplace(Address::path(path));
    }
    child.kill();
    child.join();
    if (replaced) {
      // Seen when the family has taken note of the death of somebody who died later.
      const std::string later = dir.file("later");
      Process next({.daemon = true}, listen_at, later);
      next.start();
      testing::await_sign(later + ".sign");
      next.kill();
      next.join();
      EXPECT_TRUE(testing::eventually([&] { return !std::filesystem::exists(later); }));
      EXPECT_TRUE(std::filesystem::exists(path));
    } else {
      EXPECT_TRUE(testing::eventually([&] { return !std::filesystem::exists(path); }));
      std::filesystem::remove(path + ".sign");
    }
  }
}

void send_for_ever(const Address& address) {
  Connection connection = connect(address);
  for (int i = 0;; ++i)
    connection.send(std::vector<int>(static_cast<std::size_t>(i % 7) * 5000, i));
}

TEST_P(ListenerProcessTest, OfAKilledSenderWholeMessagesComeThenTheEnd) {
  for (const Address& address : {Address::tcp("127.0.0.1", 0),
                                 Address::abstract("brood-sends-" + std::to_string(::getpid()))}) {
    for (int round = 0; round < 5; ++round) {
      Listener listener(address);
      Process child({.daemon = true}, send_for_ever, listener.address());
      child.start();
      auto connection = listener.try_accept_for(20s);
      ASSERT_TRUE(connection);
      int next = 0;
      const auto receive = [&](int until) {
        for (; next != until; ++next) {
          const auto message = connection->recv<std::vector<int>>();
          ASSERT_EQ(message, std::vector<int>(static_cast<std::size_t>(next % 7) * 5000, next));
        }
      };
      receive(10 * round + 3);
      child.kill();
      EXPECT_THROW(receive(-1), EndOfStream);
      child.join();
    }
  }
}

TEST_P(ListenerProcessTest, AChildKeepsNoListenerAndNoConnectionOfItsParentOpen) {
  const TempDir dir;
  const std::string path = dir.file("socket");
  std::optional<Listener> listener(std::in_place, Address::path(path));
  Connection plain = connect(listener->address());
  Connection accepted = listener->accept();
  Listener keyed(Address::abstract("brood-keeps-test-" + std::to_string(::getpid())),
                 {.authkey = "x"});
  std::optional<Connection> client;
  std::thread connecting([&] { client = connect(keyed.address(), {.authkey = "x"}); });
  Connection encrypted = keyed.accept();
  connecting.join();

  const std::string sign = dir.file("sign");
  Process child(
      {.daemon = true},
      [](std::string where) {
        testing::give_sign(where);
        for (;;) ::pause();
      },
      sign);
  child.start();
  testing::await_sign(sign);
  accepted.close();
  EXPECT_THROW(plain.recv<int>(), EndOfStream);
  encrypted.send(1);
  EXPECT_EQ(client->recv<int>(), 1);
  encrypted.close();
  ASSERT_TRUE(client->poll(10s)) << "somebody else has a copy of the end";
  EXPECT_THROW(client->recv<int>(), EndOfStream);
  listener.reset();
  EXPECT_THROW(connect(Address::path(path)), SystemError);
  EXPECT_TRUE(child.is_alive());
}

}  // namespace
}  // namespace brood::listener_process_test
