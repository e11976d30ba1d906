// Managers that serve, and those who connect to them. Names in comments are those of Python's tests
// from which a behaviour comes.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <brood/brood.hpp>

#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/program.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::remote_manager_test {
namespace {

using namespace std::chrono_literals;
using testing::eventually;

const std::string kKey = "a key that both have";

class Ledger {
 public:
  Ledger() = default;
  explicit Ledger(long sum) : sum_(sum) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  long add(long n) { return sum_ += n; }
  long sum() const { return sum_; }
  void refuse() const { throw std::out_of_range("no more"); }
  std::string repeat(const std::string& text, int times) const {
    std::string all;
    for (int i = 0; i < times; ++i) all += text;
    return all;
  }
  Proxy<Ledger> child(long sum) const { return Manager::make_here<Ledger>(sum); }
  Lock lock() const { return {}; }
  void take(Lock /*lock*/) const {}
  std::vector<int> numbers() const { return {1, 2, 3}; }
  void stay(std::string sign) const {
    testing::give_sign(sign);
    for (;;) ::pause();
  }
  void pass(std::string busy, std::string open) const {
    testing::give_sign(busy);
    testing::await_sign(open);
  }

 private:
  long sum_ = 0;
};

class RemoteManagers : public testing::EveryStartMethod {
 protected:
  testing::TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(RemoteManagers);

/// What is done over every kind of address.
void use(const RemoteManager& remote) {
  const RemoteProxy<Ledger> ledger = remote.get<Ledger>("ledger");
  const long before = ledger.call<&Ledger::sum>();
  EXPECT_EQ(ledger.call<&Ledger::add>(5), before + 5);
  EXPECT_THROW(ledger.call<&Ledger::refuse>(), std::out_of_range);
  EXPECT_EQ(ledger.call<&Ledger::repeat>("abc", 100'000).size(), 300'000U);
  EXPECT_EQ(ledger.apply([](const Ledger& l, long n) { return l.sum() + n; }, 1), before + 6);
  const RemoteProxy<Ledger> made = remote.make<Ledger>(100);
  EXPECT_EQ(made.call<&Ledger::add>(1), 101);
  const RemoteProxy<Ledger> child = made.call<&Ledger::child>(7);
  EXPECT_EQ(child.call<&Ledger::sum>(), 7);
  const RemoteProxy<std::vector<int>> numbers = child.call_for_proxy<&Ledger::numbers>();
  EXPECT_EQ(numbers.call<&std::vector<int>::size>(), 3U);
  Future<long> later = made.async<&Ledger::add>(1);
  Future<long> other = ledger.async<&Ledger::add>(0);
  EXPECT_EQ(later.get(), 102);
  EXPECT_EQ(other.get(), before + 5);
  CallBatch batch;
  const auto first = batch.call<&Ledger::add>(made, 1);
  const auto fails = batch.call<&Ledger::refuse>(made);
  const auto last = batch.call<&Ledger::sum>(ledger);
  batch.run();
  EXPECT_EQ(first.get(), 103);
  EXPECT_THROW(fails.get(), std::out_of_range);
  EXPECT_EQ(last.get(), before + 5);
}

// _TestRemoteManager.test_remote: two clients share an object
TEST_P(RemoteManagers, StrangersUseWhatIsServed) {
  Manager manager;
  manager.publish("ledger", manager.make<Ledger>());
  const std::vector<Address> addresses{
      manager.serve(Address::tcp("127.0.0.1", 0), kKey),
      manager.serve(Address::path(dir_.file("socket")), kKey),
      manager.serve(Address::abstract("brood-test-" + std::to_string(::getpid())), std::nullopt)};
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    SCOPED_TRACE(addresses[i].to_string());
    const std::optional<std::string> key = i == 2 ? std::nullopt : std::optional(kKey);
    {
      const RemoteManager remote = Manager::connect(addresses[i], key);
      use(remote);
      const RemoteManager second = Manager::connect(addresses[i], key);
      use(second);
      EXPECT_EQ(manager.client_count(), 2U);
    }
    // What they made is gone with them.
    EXPECT_TRUE(eventually([&] { return manager.client_count() == 0; }));
    EXPECT_TRUE(eventually([&] { return manager.object_count() == 1; }));
  }
  Process child(
      [](Address address, std::string key) {
        use(Manager::connect(address, key));
        if (::testing::Test::HasFailure()) ::_exit(1);
      },
      addresses[0], kKey);
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
}

TEST_P(RemoteManagers, WhatIsAskedForWrongIsAnError) {
  Manager manager;
  manager.publish("ledger", manager.make<Ledger>());
  const Address address = manager.serve(Address::tcp("127.0.0.1", 0), kKey);
  EXPECT_THROW(static_cast<void>(manager.serve(address, kKey)), SystemError);
  EXPECT_THROW(static_cast<void>(Manager::connect(address, std::string("another key"))),
               AuthenticationError);
  const RemoteManager remote = Manager::connect(address, kKey);
  EXPECT_THROW(static_cast<void>(remote.get<Ledger>("other")), ArgumentError);
  EXPECT_THROW(static_cast<void>(remote.get<std::string>("ledger")), TypeMismatch);
  const auto ledger = remote.get<Ledger>("ledger");
  EXPECT_THROW(static_cast<void>(ledger.call<&Ledger::lock>()), StateError);
  EXPECT_THROW(ledger.call<&Ledger::take>(Lock()), StateError);
  EXPECT_EQ(ledger.call<&Ledger::add>(1), 1);
  RemoteManager again = remote;
  again.close();
  EXPECT_THROW(static_cast<void>(ledger.call<&Ledger::sum>()), ManagerClosed);
}

// Calls do not wait for each other because they come over one connection.
TEST_P(RemoteManagers, ABlockingMethodBlocksNobodyElse) {
  Manager manager;
  const Address address = manager.serve(Address::path(dir_.file("socket")), kKey);
  const RemoteManager remote = Manager::connect(address, kKey);
  const auto slow = remote.make<Ledger>();
  const auto quick = remote.make<Ledger>();
  const std::string busy = dir_.file("busy");
  const std::string open = dir_.file("open");
  Future<void> passing = slow.async<&Ledger::pass>(busy, open);
  testing::await_sign(busy);
  EXPECT_EQ(quick.call<&Ledger::add>(1), 1);
  EXPECT_THROW(static_cast<void>(slow.call_within<&Ledger::sum>(20ms)), TimeoutError);
  EXPECT_FALSE(passing.ready());
  Queue<int> queue;
  EXPECT_TRUE(wait({passing, queue}, 5ms).empty());
  testing::give_sign(open);
  EXPECT_EQ(wait({passing, queue}), (std::vector<std::size_t>{0}));
  passing.get();
}

TEST_P(RemoteManagers, ALostServerIsAnErrorAtOnce) {
  Manager manager;
  manager.publish("ledger", manager.make<Ledger>());
  const Address address = manager.serve(Address::tcp("127.0.0.1", 0), kKey);
  const RemoteManager remote = Manager::connect(address, kKey);
  const auto ledger = remote.get<Ledger>("ledger");
  const std::string in = dir_.file("in");
  Future<void> stays = ledger.async<&Ledger::stay>(in);
  testing::await_sign(in);
  ASSERT_EQ(::kill(manager.pid(), SIGKILL), 0);
  EXPECT_THROW(stays.get(), ManagerLost);
  EXPECT_THROW(static_cast<void>(ledger.call<&Ledger::sum>()), ManagerLost);
  EXPECT_THROW(static_cast<void>(remote.make<Ledger>()), ManagerLost);
}

TEST_P(RemoteManagers, AManagerThatIsShutDownEndsItsConnections) {
  Manager manager;
  const Address address = manager.serve(Address::tcp("127.0.0.1", 0), kKey);
  const RemoteManager remote = Manager::connect(address, kKey);
  const auto ledger = remote.make<Ledger>();
  EXPECT_EQ(ledger.call<&Ledger::sum>(), 0);
  manager.shutdown();
  EXPECT_THROW(static_cast<void>(ledger.call<&Ledger::sum>()), ManagerLost);
  // _TestManagerRestart.test_rapid_restart
  Manager next;
  EXPECT_EQ(next.serve(address, kKey), address);
  EXPECT_EQ(Manager::connect(address, kKey).make<Ledger>(3).call<&Ledger::sum>(), 3);
}

void hold_for_ever(Address address, Queue<int> ready) {
  const RemoteManager remote = Manager::connect(address, kKey);
  std::vector<RemoteProxy<Ledger>> all;
  for (int i = 0; i < 10; ++i) all.push_back(remote.make<Ledger>(i));
  Future<void> stays = all[0].async<&Ledger::pass>("/nowhere/busy", "/nowhere/open");
  ready.put(1);
  for (;;) all[1].call<&Ledger::add>(1);
}

TEST_P(RemoteManagers, ALostClientFreesWhatItHeld) {
  Manager manager({.shutdown_timeout = 50ms});
  const Address address = manager.serve(Address::path(dir_.file("socket")), kKey);
  Queue<int> ready;
  for (int round = 0; round < 3; ++round) {
    Process client(hold_for_ever, address, ready);
    client.start();
    ASSERT_EQ(ready.try_get_for(30s), 1);
    client.kill();
    client.join();
  }
  EXPECT_TRUE(eventually([&] { return manager.client_count() == 0; }));
  const RemoteManager remote = Manager::connect(address, kKey);
  EXPECT_EQ(remote.make<Ledger>(4).call<&Ledger::sum>(), 4);
  // The methods that still run end in their own time.
  EXPECT_TRUE(eventually([&] { return manager.object_count() <= 3; }));
}

TEST_P(RemoteManagers, GarbageIsRefusedAndTheOthersGoOn) {
  Manager manager;
  manager.publish("ledger", manager.make<Ledger>());
  const Address address = manager.serve(Address::path(dir_.file("socket")), kKey);
  const RemoteManager remote = Manager::connect(address, kKey);
  const auto ledger = remote.get<Ledger>("ledger");
  // Somebody with the key, whose messages make no sense.
  for (const std::size_t size : {0U, 7U, 32U, 40U, 1000U}) {
    Connection odd = brood::connect(address, {.authkey = kKey});
    odd.send_bytes(std::vector<std::byte>(size, std::byte{0x5a}));
    EXPECT_THROW(static_cast<void>(odd.recv_bytes()), EndOfStream);
  }
  {
    // A session that nobody began, and requests that are none, for an object that is not there.
    const auto bytes_of = [](const auto& value) {
      const auto bytes = std::as_bytes(std::span(&value, 1));
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    };
    Connection odd = brood::connect(address, {.authkey = kKey});
    odd.send_bytes(bytes_of(detail::RemoteHello{.session = {1, 2}, .begins = 0}));
    EXPECT_THROW(static_cast<void>(odd.recv_bytes()), EndOfStream);
    Connection begun = brood::connect(address, {.authkey = kKey});
    begun.send_bytes(bytes_of(detail::RemoteHello{.session = {1, 2}, .begins = 1}));
    EXPECT_EQ(begun.recv_bytes().size(), sizeof(detail::RemoteReply));  // welcome
    begun.send_bytes(bytes_of(detail::RemoteRequest{.object = 12345, .function = {1, 2}}));
    EXPECT_GT(begun.recv_bytes().size(), 10U);  // an error
    begun.send_bytes(
        bytes_of(detail::RemoteRequest{.object = 12345, .function = detail::get_function()}));
    EXPECT_GT(begun.recv_bytes().size(), 10U);
    begun.send_bytes(bytes_of(detail::RemoteRequest{
        .kind = detail::RemoteRequest::Kind::drop, .object = 99, .function = {}}));
    begun.send_bytes(bytes_of(detail::RemoteRequest{
        .kind = static_cast<detail::RemoteRequest::Kind>(77), .object = 99, .function = {}}));
    EXPECT_THROW(static_cast<void>(begun.recv_bytes()), EndOfStream);
  }
  EXPECT_EQ(ledger.call<&Ledger::add>(2), 2);
  EXPECT_TRUE(eventually([&] { return manager.client_count() == 1; }));
}

TEST_P(RemoteManagers, AForkedChildMustConnectAnew) {
  Manager manager;
  const Address address = manager.serve(Address::path(dir_.file("socket")), kKey);
  const RemoteManager remote = Manager::connect(address, kKey);
  const auto ledger = remote.make<Ledger>(1);
  static const RemoteProxy<Ledger>* inherited = nullptr;
  inherited = &ledger;
  Process child(ProcessOptions{.start_method = StartMethod::fork}, [] {
    try {
      inherited->call<&Ledger::sum>();
    } catch (const StateError&) {
      ::_exit(7);
    }
  });
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), 7);
  EXPECT_EQ(ledger.call<&Ledger::sum>(), 1);
}

TEST_P(RemoteManagers, AnotherProgramIsToldThatItIsAnotherBuild) {
  Manager manager;
  manager.publish("ledger", manager.make<Ledger>());
  const Address address = manager.serve(Address::tcp("127.0.0.1", 0), kKey);
  testing::Program stranger("manager_stranger",
                            {.arguments = {std::to_string(address.port), kKey}});
  EXPECT_EQ(stranger.wait(), 0) << stranger.describe();
  EXPECT_EQ(stranger.out().find("connected\nunknown function: "), 0U) << stranger.out();
  EXPECT_NE(stranger.out().find("another build"), std::string::npos) << stranger.out();
  testing::Program liar("manager_stranger", {.arguments = {std::to_string(address.port), "x"}});
  EXPECT_EQ(liar.wait(), 0) << liar.describe();
  EXPECT_EQ(liar.out().find("error: "), 0U) << liar.out();
}

}  // namespace
}  // namespace brood::remote_manager_test
