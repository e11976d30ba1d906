// Listener and connect() within one process and between forks. Names in brackets are the tests of
// CPython's _TestListener, _TestListenerClient, OtherTest and others that ask for the same.
#include <brood/listener.hpp>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <brood/authkey.hpp>
#include <brood/connect.hpp>
#include <brood/errors.hpp>
#include <brood/wait.hpp>

#include "channel/carriers.hpp"
#include "channel/raw_peer.hpp"
#include "support/eventually.hpp"
#include "support/forked.hpp"
#include "support/sanitizers.hpp"
#include "support/temp_dir.hpp"

namespace brood::listener_test {
namespace {

using namespace std::chrono_literals;
using testing::address_for;
using testing::Carrier;
using testing::eventually;
using testing::Forked;
using testing::kThreadSanitizer;
using testing::TempDir;
using Reason = RefusedPeer::Reason;

const ConnectOptions kSecret{.authkey = "secret"};

std::future<Connection> connecting(Address address, ConnectOptions options = {}) {
  return std::async(std::launch::async,
                    [address = std::move(address), options] { return connect(address, options); });
}

/// Whoever connects properly is let in, whatever was before.
void expect_open(Listener& listener, const ConnectOptions& options = {}) {
  auto client = connecting(listener.address(), options);
  std::optional<Connection> accepted = listener.try_accept_for(20s);
  ASSERT_TRUE(accepted);
  Connection connection = client.get();
  connection.send(std::string("hello"));
  EXPECT_EQ(accepted->recv<std::string>(), "hello");
  accepted->send(5);
  EXPECT_EQ(connection.recv<int>(), 5);
}

std::errc code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const SystemError& e) {
    return static_cast<std::errc>(e.code().value());
  }
  return {};
}

TEST(Listener, APathIsForThisUserAloneAndKnowsWhoConnects) {  // [test_listener_client, AF_UNIX]
  const TempDir dir;
  Listener listener(Address::path(dir.file("socket")));
  struct stat info {};
  ASSERT_EQ(::stat(dir.file("socket").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  expect_open(listener);
  ASSERT_TRUE(listener.last_accepted().credentials);
  EXPECT_EQ(listener.last_accepted().credentials->pid, ::getpid());
  EXPECT_EQ(listener.last_accepted().credentials->uid, ::geteuid());
  EXPECT_EQ(listener.last_accepted().credentials->gid, ::getegid());
  EXPECT_FALSE(listener.last_accepted().address);
  listener.close();
  EXPECT_FALSE(std::filesystem::exists(dir.file("socket")));
}

TEST(Listener, AnAbstractNameAndNoneAtAll) {  // [test_abstract_socket]
  Listener named(address_for(Carrier::unix_name));
  expect_open(named);
  Listener first;
  Listener second;
  EXPECT_NE(first.address(), second.address());
  expect_open(second);
  expect_open(first);
}

TEST(Listener, TcpTellsItsPortAndWhereThePeerIs) {  // [test_listener_client, AF_INET]
  Listener listener(Address::tcp("localhost", 0));
  EXPECT_NE(listener.address().port, 0);
  expect_open(listener);
  ASSERT_TRUE(listener.last_accepted().address);
  EXPECT_EQ(listener.last_accepted().address->name, listener.address().name);
  EXPECT_NE(listener.last_accepted().address->port, listener.address().port);
  EXPECT_FALSE(listener.last_accepted().credentials);
}

TEST(Listener, TcpOverIpv6) {
  std::optional<Listener> listener;
  try {
    listener.emplace(Address::tcp("::1", 0));
  } catch (const SystemError& e) {
    GTEST_SKIP() << e.what();
  }
  EXPECT_EQ(listener->address().to_string(), "[::1]:" + std::to_string(listener->address().port));
  expect_open(*listener);
}

TEST(Listener, TheSameAddressTwiceIsAnErrorAndTheFirstDoesNotNotice) {  // [test_multiple_bind]
  const TempDir dir;
  for (const Address& address : {Address::path(dir.file("s")), address_for(Carrier::unix_name),
                                 Address::tcp("127.0.0.1", 0)}) {
    Listener listener(address);
    EXPECT_EQ(code_of([&] { Listener second(listener.address()); }), std::errc::address_in_use);
    if (address.kind != Address::Kind::abstract) {  // of which each kind of socket has its own
      EXPECT_EQ(code_of([&] { Listener second(listener.address(), {.authkey = "x"}); }),
                std::errc::address_in_use);
    }
    EXPECT_FALSE(listener.try_accept_for(0ms));
    EXPECT_EQ(listener.refused(), 0U);
    expect_open(listener);
  }
}

TEST(Listener, ADeadOnesPathIsReplacedAndWhatIsNoSocketIsNot) {
  const TempDir dir;
  const std::string path = dir.file("socket");
  if (!kThreadSanitizer) {
    Forked killed([&] {
      Listener listener(Address::path(path));
      ::raise(SIGKILL);
    });
    EXPECT_EQ(killed.wait(), -SIGKILL);
    EXPECT_TRUE(std::filesystem::exists(path));
    EXPECT_EQ(code_of([&] { connect(Address::path(path)); }), std::errc::connection_refused);
    Listener listener(Address::path(path));
    expect_open(listener);
  }
  testing::write_file(path, "precious");
  EXPECT_EQ(code_of([&] { Listener listener(Address::path(path)); }), std::errc::address_in_use);
  EXPECT_EQ(testing::read_file(path), "precious");
}

TEST(Listener, OfManyThatReplaceADeadOneAtOnceOneWins) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  const TempDir dir;
  const std::string path = dir.file("socket");
  for (int round = 0; round < 20; ++round) {
    Forked([&] {
      Listener listener(Address::path(path));
      ::raise(SIGKILL);
    }).wait();
    std::vector<std::future<std::optional<Listener>>> tries;
    for (int i = 0; i < 4; ++i) {
      tries.push_back(std::async(std::launch::async, [&]() -> std::optional<Listener> {
        try {
          return Listener(Address::path(path));
        } catch (const SystemError& e) {
          EXPECT_EQ(e.code(), std::errc::address_in_use);
          return std::nullopt;
        }
      }));
    }
    std::vector<Listener> won;
    for (auto& one : tries) {
      if (auto listener = one.get()) won.push_back(std::move(*listener));
    }
    ASSERT_EQ(won.size(), 1U);
    expect_open(won[0]);
  }
}

TEST(Listener, OnlyItsMakerTakesAPathAwayAndOnlyItsOwn) {
  const TempDir dir;
  const std::string path = dir.file("socket");
  if (!kThreadSanitizer) {
    auto listener = std::make_unique<Listener>(Address::path(path));
    testing::in_child([&] { listener.reset(); });
    EXPECT_TRUE(std::filesystem::exists(path));
    expect_open(*listener);
  }
  std::filesystem::remove(path);
  Listener first{Address::path(path)};
  std::filesystem::remove(path);
  Listener second{Address::path(path)};
  first.close();
  expect_open(second);
}

TEST(Listener, NamesThatCannotBeAreRefused) {
  const TempDir dir;
  const std::string with_nul = std::string("a\0b", 3);
  for (const Address& address :
       {Address::path(""), Address::path(with_nul), Address::path(dir.file(std::string(108, 'x'))),
        Address::abstract(""), Address::abstract(with_nul),
        Address::abstract(std::string(108, 'x')), Address::tcp("", 1), Address::tcp(with_nul, 1)}) {
    EXPECT_THROW(Listener{address}, ArgumentError) << address.to_string();
    EXPECT_THROW(connect(address), ArgumentError) << address.to_string();
  }
  Listener longest(Address::abstract(std::string(107, 'x')));
  expect_open(longest);
  EXPECT_THROW(Listener(address_for(Carrier::tcp), {.max_pending = 0}), ArgumentError);
  EXPECT_THROW(Listener(address_for(Carrier::tcp), {.backlog = 0}), ArgumentError);
  EXPECT_EQ(code_of([&] { Listener(Address::tcp("no.such.host.invalid", 0)); }),
            std::errc::host_unreachable);
  EXPECT_EQ(code_of([&] { Listener(Address::path(dir.file("no/folder"))); }),
            std::errc::no_such_file_or_directory);
}

TEST(Listener, WhereNobodyListensConnectSaysSo) {
  const TempDir dir;
  EXPECT_EQ(code_of([&] { connect(Address::path(dir.file("none"))); }),
            std::errc::no_such_file_or_directory);
  EXPECT_EQ(code_of([&] { connect(Address::abstract("brood-nobody")); }),
            std::errc::connection_refused);
  Address free_port;
  {
    const Listener listener(Address::tcp("127.0.0.1", 0));
    free_port = listener.address();
  }
  EXPECT_EQ(code_of([&] { connect(free_port); }), std::errc::connection_refused);
}

TEST(Listener, AClosedOneSaysSoAndItsQueueSeesTheEnd) {  // [test_context]
  Listener listener;
  const Address address = listener.address();
  Connection waiting = connect(address);
  Listener moved = std::move(listener);
  EXPECT_TRUE(listener.closed());  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(static_cast<void>(listener.accept()), StateError);
  moved.close();
  moved.close();
  EXPECT_THROW(static_cast<void>(moved.address()), StateError);
  EXPECT_THROW(static_cast<void>(moved.try_accept_for(0ms)), StateError);
  EXPECT_THROW(waiting.recv<int>(), EndOfStream);
  EXPECT_EQ(code_of([&] { connect(address); }), std::errc::connection_refused);
}

TEST(Listener, AClientThatWroteAndWentBeforeItWasAcceptedIsServed) {  // [test_issue14725]
  Listener listener;
  connect(listener.address()).send(std::string("and gone"));
  Connection accepted = listener.accept();
  EXPECT_EQ(accepted.recv<std::string>(), "and gone");
  EXPECT_THROW(accepted.recv<int>(), EndOfStream);
}

TEST(Listener, AcceptHasADeadline) {
  for (const Carrier carrier : {Carrier::unix_name, Carrier::tcp}) {
    Listener listener(address_for(carrier));
    EXPECT_FALSE(listener.try_accept_for(0ms));
    EXPECT_FALSE(listener.try_accept_for(-1s));
    const auto before = std::chrono::steady_clock::now();
    EXPECT_FALSE(listener.try_accept_for(20ms));
    EXPECT_GE(std::chrono::steady_clock::now() - before, 20ms);
  }
}

TEST(Listener, CanBeWaitedFor) {
  Listener listener(address_for(Carrier::tcp), {.authkey = "secret"});
  EXPECT_TRUE(wait({listener}, 0ms).empty());
  auto client = connecting(listener.address(), kSecret);
  std::optional<Connection> accepted;
  while (!accepted) {
    ASSERT_EQ(wait({listener}, 20s).size(), 1U);
    accepted = listener.try_accept_for(0ms);
  }
  client.get().send(1);
  EXPECT_EQ(accepted->recv<int>(), 1);
}

void do_nothing(int /*signal*/) {}

TEST(Listener, SignalsDuringAcceptDoNothing) {  // [test_ignore_listener]
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = do_nothing;
  ::sigaction(SIGUSR1, &action, &before);
  Listener listener;
  const pthread_t self = ::pthread_self();
  std::thread other([&] {
    for (int i = 0; i < 50; ++i) {
      ::pthread_kill(self, SIGUSR1);
      std::this_thread::yield();
    }
    connect(listener.address()).send(1);
  });
  EXPECT_EQ(listener.accept().recv<int>(), 1);
  other.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(Listener, AFullQueueIsWaitedForUntilTheDeadline) {
  Listener listener(address_for(Carrier::unix_name), {.backlog = 1});
  std::vector<Connection> queued;
  const auto fill = [&] {
    for (;;) queued.push_back(connect(listener.address(), {.timeout = 20ms}));
  };
  EXPECT_THROW(fill(), TimeoutError);
  EXPECT_GE(queued.size(), 1U);
  auto waiting = connecting(listener.address());
  for (std::size_t i = 0; i <= queued.size(); ++i) EXPECT_TRUE(listener.try_accept_for(20s)) << i;
  EXPECT_FALSE(waiting.get().closed());
}

// ---- who is let in ----

class EveryKeyed : public ::testing::TestWithParam<Carrier> {
 protected:
  std::vector<RefusedPeer> refused_;
  Listener listener_{address_for(GetParam()),
                     {.authkey = "secret",
                      .on_refused = [this](const RefusedPeer& peer) { refused_.push_back(peer); }}};

  /// Accepts, in vain, until so many have been refused.
  void expect_refused(std::size_t count, Reason reason) {
    ASSERT_TRUE(eventually([&] {
      EXPECT_FALSE(listener_.try_accept_for(1ms));
      return refused_.size() >= count;
    }));
    ASSERT_EQ(refused_.size(), count);
    EXPECT_EQ(listener_.refused(), count);
    for (const RefusedPeer& peer : refused_) {
      EXPECT_EQ(peer.reason, reason) << peer.text;
      EXPECT_FALSE(peer.text.empty());
      EXPECT_EQ(peer.peer.address.has_value(), GetParam() == Carrier::tcp);
      EXPECT_EQ(peer.peer.credentials.has_value(), GetParam() != Carrier::tcp);
    }
    EXPECT_EQ(listener_.pending(), 0U);
    expect_open(listener_, kSecret);
  }
};
INSTANTIATE_TEST_SUITE_P(, EveryKeyed, ::testing::Values(Carrier::unix_tls, Carrier::tcp),
                         testing::name_of_carrier);

TEST_P(EveryKeyed, AnotherKeyIsRefusedAtBothEnds) {  // [test_deliver_challenge_auth_failure,
                                                     //  test_answer_challenge_auth_failure]
  for (const char* const key : {"other", "", "secre", "secret "}) {
    auto client = connecting(listener_.address(), {.authkey = key});
    ASSERT_TRUE(eventually([&] {
      EXPECT_FALSE(listener_.try_accept_for(1ms));
      return client.wait_for(0s) == std::future_status::ready;
    }));
    EXPECT_THROW(client.get(), AuthenticationError) << key;
  }
  expect_refused(4, Reason::not_authenticated);
}

TEST_P(EveryKeyed, GarbageIsRefused) {
  std::vector<std::string> garbage{
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      std::string(100'000, 'x'),
      std::string(100, '\0'),
      std::string("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 10),  // a hello of one byte
      std::string("\x15\x03\x03\x00\x02\x02\x28", 7),               // an alert
      std::string("\x17\x03\x03\x00\x01x", 6),                      // data before all
  };
  for (const std::string& text : garbage) {
    const auto stranger = testing::raw_connect(listener_.address());
    std::thread sending([&] { testing::raw_send(stranger, text); });
    const std::size_t before = refused_.size();
    ASSERT_TRUE(eventually([&] {
      EXPECT_FALSE(listener_.try_accept_for(1ms));
      return refused_.size() > before;
    })) << text.substr(0, 20);
    EXPECT_TRUE(testing::sees_end(stranger));
    sending.join();
  }
  expect_refused(garbage.size(), Reason::not_authenticated);
}

TEST_P(EveryKeyed, AHelloThatGoesOnForEverIsCutOff) {
  const auto stranger = testing::raw_connect(listener_.address());
  // Its first record says that 128 kB of hello follow, as long as OpenSSL would take.
  std::string record("\x16\x03\x01\x40\x00", 5);
  std::string text = record + std::string("\x01\x01\xff\x00", 4) + std::string(16380, 'x');
  for (int i = 0; i < 5; ++i) text += record + std::string(16384, 'x');
  std::thread sending([&] { testing::raw_send(stranger, text); });
  expect_refused(1, Reason::not_authenticated);
  EXPECT_NE(refused_[0].text.find("far more"), std::string::npos) << refused_[0].text;
  sending.join();
}

TEST_P(EveryKeyed, WhoConnectsAndGoesIsRefused) {
  for (int i = 0; i < 5; ++i) testing::raw_connect(listener_.address());
  expect_refused(5, Reason::not_authenticated);
}

TEST_P(EveryKeyed, WhoSaysNothingOrHalfDelaysNobodyAndGoesAfterItsTime) {
  Listener listener(address_for(GetParam()),
                    {.authkey = "secret",
                     .handshake_timeout = 300ms,
                     .on_refused = [&](const RefusedPeer& p) { refused_.push_back(p); }});
  const auto silent = testing::raw_connect(listener.address());
  const auto half = testing::raw_connect(listener.address());
  testing::raw_send(half, std::string_view("\x16\x03\x01\x01\x00\x01", 6));
  EXPECT_FALSE(listener.try_accept_for(0ms));
  expect_open(listener, kSecret);
  ASSERT_TRUE(eventually([&] {
    EXPECT_FALSE(listener.try_accept_for(50ms));
    return refused_.size() == 2;
  }));
  for (const RefusedPeer& peer : refused_) EXPECT_EQ(peer.reason, Reason::too_slow);
  EXPECT_TRUE(testing::sees_end(silent));
  EXPECT_TRUE(testing::sees_end(half));
}

TEST_P(EveryKeyed, OfTooManyStrangersTheOldestGoes) {
  Listener listener(address_for(GetParam()),
                    {.authkey = "secret",
                     .max_pending = 3,
                     .on_refused = [&](const RefusedPeer& p) { refused_.push_back(p); }});
  std::vector<detail::Fd> strangers;
  for (int i = 0; i < 10; ++i) {
    strangers.push_back(testing::raw_connect(listener.address()));
    EXPECT_FALSE(listener.try_accept_for(0ms));
    EXPECT_LE(listener.pending(), 3U);
  }
  ASSERT_TRUE(eventually([&] {
    EXPECT_FALSE(listener.try_accept_for(1ms));
    return refused_.size() == 7;
  }));
  for (const RefusedPeer& peer : refused_) EXPECT_EQ(peer.reason, Reason::crowded_out);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_TRUE(testing::sees_end(strangers[i])) << i;
  expect_open(listener, kSecret);
  EXPECT_FALSE(detail::wait_readable(strangers[9].get(), detail::Deadline::now()));
}

TEST_P(EveryKeyed, ManyGoodOnesAmongStrangersAreAllServed) {
  constexpr int kGood = 20;
  std::vector<std::future<Connection>> clients;
  std::vector<detail::Fd> strangers;
  for (int i = 0; i < kGood; ++i) {
    strangers.push_back(testing::raw_connect(listener_.address()));
    testing::raw_send(strangers.back(), i % 2 == 0 ? "garbage that nobody understands" : "\x16");
    clients.push_back(connecting(listener_.address(), kSecret));
  }
  std::vector<Connection> accepted;
  for (int i = 0; i < kGood; ++i) {
    auto one = listener_.try_accept_for(20s);
    ASSERT_TRUE(one) << i;
    accepted.push_back(std::move(*one));
  }
  for (auto& client : clients) client.get().send(1);
  for (Connection& one : accepted) EXPECT_EQ(one.recv<int>(), 1);
}

TEST_P(EveryKeyed, WithoutDescriptorsTheOldestStrangerGoes) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  testing::in_child([&] {
    const auto a = testing::raw_connect(listener_.address());
    EXPECT_FALSE(listener_.try_accept_for(0ms));
    EXPECT_EQ(listener_.pending(), 1U);
    const auto b = testing::raw_connect(listener_.address());
    const int next = ::dup(0);
    ::close(next);
    const rlimit limit{.rlim_cur = static_cast<rlim_t>(next), .rlim_max = 4096};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    EXPECT_FALSE(listener_.try_accept_for(100ms));
    EXPECT_EQ(listener_.pending(), 1U) << "the younger";
    ASSERT_EQ(refused_.size(), 1U);
    EXPECT_EQ(refused_[0].reason, Reason::crowded_out);
    EXPECT_TRUE(testing::sees_end(a));
  });
}

TEST(Listener, AnEmptyKeyIsAKey) {  // [test_empty_authkey]
  Listener listener(address_for(Carrier::unix_tls), {.authkey = ""});
  expect_open(listener, {.authkey = ""});
  auto client = connecting(listener.address(), {.authkey = "x"});
  EXPECT_FALSE(listener.try_accept_for(100ms));
  EXPECT_THROW(client.get(), AuthenticationError);
}

TEST(Listener, AKeyOnOneSideOnlyIsAnErrorThatSaysSo) {
  const TempDir dir;
  Listener plain(Address::path(dir.file("plain")));
  EXPECT_THROW(connect(plain.address(), kSecret), AuthenticationError);
  Listener keyed(Address::path(dir.file("keyed")), {.authkey = "secret"});
  EXPECT_THROW(connect(keyed.address()), AuthenticationError);
  EXPECT_FALSE(plain.try_accept_for(0ms));
  EXPECT_FALSE(keyed.try_accept_for(0ms));
}

TEST(Listener, TheKeyOfTheFamilyIsTheDefaultOverTcpAndAListenerKeepsTheOneItBeganWith) {
  const std::string before = authkey();
  EXPECT_EQ(before.size(), 32U);
  Listener listener(Address::tcp("127.0.0.1", 0));
  expect_open(listener);
  expect_open(listener, {.authkey = before});
  set_authkey("another");
  EXPECT_EQ(authkey(), "another");
  auto client = connecting(listener.address());
  EXPECT_FALSE(listener.try_accept_for(100ms));
  EXPECT_THROW(client.get(), AuthenticationError);
  expect_open(listener, {.authkey = before});
  EXPECT_THROW(set_authkey(std::string(257, 'x')), ArgumentError);
  set_authkey(before);
  expect_open(listener);
}

TEST(Listener, AnotherUserIsRefusedByBothSides) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be another user";
  std::vector<RefusedPeer> refused;
  Listener listener(address_for(Carrier::unix_name),
                    {.on_refused = [&](const RefusedPeer& peer) { refused.push_back(peer); }});
  constexpr uid_t kNobody = 65534;
  Forked other([&] {
    ASSERT_EQ(::setresuid(kNobody, kNobody, kNobody), 0);
    EXPECT_THROW(connect(listener.address()), AuthenticationError);
    const auto raw = testing::raw_connect(listener.address(), SOCK_SEQPACKET);
    EXPECT_TRUE(testing::sees_end(raw));
  });
  ASSERT_TRUE(eventually([&] {
    EXPECT_FALSE(listener.try_accept_for(1ms));
    return refused.size() == 2;
  }));
  EXPECT_EQ(other.wait(), 0);
  for (const RefusedPeer& peer : refused) {
    EXPECT_EQ(peer.reason, Reason::other_user);
    EXPECT_EQ(peer.peer.credentials->uid, kNobody);
  }
  expect_open(listener);
}

// ---- what connect() meets ----

TEST(Connect, ServersThatAreNoneOfBroodsAreRefused) {
  for (const std::string& answer :
       {std::string(), std::string("220 mail ready\r\n"), std::string(200, '\0'),
        std::string("\x15\x03\x03\x00\x02\x02\x28", 7), std::string(50'000, 'x')}) {
    testing::RawServer server([&](const detail::Fd& client) { testing::raw_send(client, answer); });
    EXPECT_THROW(connect(server.address(), kSecret), AuthenticationError) << answer.substr(0, 9);
  }
}

TEST(Connect, AServerThatSaysNothingIsGivenUpAtTheDeadline) {
  testing::RawServer server(
      [](const detail::Fd& client) { EXPECT_TRUE(testing::sees_end(client)); });
  const auto before = std::chrono::steady_clock::now();
  EXPECT_THROW(connect(server.address(), {.authkey = "x", .timeout = 30ms}), TimeoutError);
  EXPECT_GE(std::chrono::steady_clock::now() - before, 30ms);
  Listener idle(address_for(Carrier::unix_tls), {.authkey = "secret"});
  EXPECT_THROW(connect(idle.address(), {.authkey = "secret", .timeout = 10ms}), TimeoutError);
}

// ---- what happens on the way ----

struct Relayed {
  std::optional<Connection> accepted;
  std::optional<Connection> client;
};
/// Until the listener has let somebody in or refused them.
Relayed through(Listener& listener, const testing::Relay& relay) {
  auto client = connecting(relay.address(), kSecret);
  const std::uint64_t refused = listener.refused();
  Relayed both;
  EXPECT_TRUE(eventually([&] {
    both.accepted = listener.try_accept_for(1ms);
    return both.accepted.has_value() || listener.refused() != refused;
  }));
  try {
    both.client.emplace(client.get());
  } catch (const AuthenticationError&) {
    both.client.reset();
  }
  return both;
}

TEST(ListenerOnTheWay, OneByteAtATimeIsSlowAndFine) {
  Listener listener(address_for(Carrier::tcp), {.authkey = "secret"});
  const testing::Relay relay(listener.address(), {.one_at_a_time = true});
  Relayed both = through(listener, relay);
  ASSERT_TRUE(both.accepted && both.client);
  both.client->send(std::string(3000, 'x'));
  EXPECT_EQ(both.accepted->recv<std::string>(), std::string(3000, 'x'));
}

std::size_t bytes_of_handshake() {
  Listener listener(address_for(Carrier::tcp), {.authkey = "secret"});
  const testing::Relay relay(listener.address(), {});
  const Relayed both = through(listener, relay);
  return relay.passed();
}

TEST(ListenerOnTheWay, CutAtAnyByteOfTheHandshakeItIsRefusedAndTheNextIsServed) {
  const std::size_t all = bytes_of_handshake();
  ASSERT_GT(all, 200U);
  Listener listener(address_for(Carrier::tcp), {.authkey = "secret"});
  std::uint64_t refused = 0;
  for (std::size_t at = 1; at < all; at += testing::kThreadSanitizer ? 101 : 31) {
    const testing::Relay relay(listener.address(), {.cut_after = at});
    const Relayed both = through(listener, relay);
    EXPECT_FALSE(both.accepted) << at;
    EXPECT_EQ(listener.refused(), ++refused) << at;
  }
  expect_open(listener, kSecret);
}

TEST(ListenerOnTheWay, CutInAMessageTheOnesBeforeComeThenTheEnd) {
  const std::size_t begin = bytes_of_handshake();
  Listener listener(address_for(Carrier::tcp), {.authkey = "secret"});
  for (const std::size_t behind :
       {std::size_t{1}, std::size_t{10}, std::size_t{60}, std::size_t{5000}, std::size_t{40'000}}) {
    const testing::Relay relay(listener.address(), {.cut_after = begin + behind});
    Relayed both = through(listener, relay);
    ASSERT_TRUE(both.accepted && both.client) << behind;
    try {
      for (int i = 0; i < 3; ++i) both.client->send(std::vector<int>(5000, i));
    } catch (const EndOfStream&) {
      // It may notice.
    }
    int next = 0;
    const auto receive = [&] {
      for (;; ++next) {
        EXPECT_EQ(both.accepted->recv<std::vector<int>>(), std::vector<int>(5000, next));
      }
    };
    EXPECT_THROW(receive(), EndOfStream);
    EXPECT_LE(next, static_cast<int>(behind / 20'000)) << behind;
  }
}

TEST(ListenerOnTheWay, AByteThatIsChangedIsNoticed) {
  const std::size_t begin = bytes_of_handshake();
  Listener hasty(address_for(Carrier::tcp), {.authkey = "secret", .handshake_timeout = 200ms});
  for (std::size_t at = 0; at < begin; at += testing::kThreadSanitizer ? 197 : 61) {
    const testing::Relay relay(hasty.address(), {.change_at = at});
    auto client = connecting(relay.address(), {.authkey = "secret", .timeout = 500ms});
    std::optional<Connection> accepted = hasty.try_accept_for(300ms);
    EXPECT_FALSE(accepted) << at;
    // Whether the client has heard of it or waits for what will never come.
    try {
      Connection connection = client.get();
      EXPECT_THROW(connection.recv<int>(), Error) << at;
    } catch (const Error& e) {
      static_cast<void>(e);
    }
  }
  Listener listener(address_for(Carrier::tcp), {.authkey = "secret"});
  const testing::Relay relay(listener.address(), {.change_at = begin + 20});
  Relayed both = through(listener, relay);
  ASSERT_TRUE(both.accepted && both.client);
  both.client->send(std::string(100, 'x'));
  EXPECT_THROW(both.accepted->recv<std::string>(), DecodeError);
  EXPECT_THROW(both.accepted->recv<std::string>(), DecodeError) << "for ever";
  EXPECT_THROW(both.accepted->send(1), DecodeError);
}

}  // namespace
}  // namespace brood::listener_test
