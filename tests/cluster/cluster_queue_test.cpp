// Queues on a real server, with producers and consumers that are processes.
// Not for ThreadSanitizer: it does not know libnats' locks.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <future>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/cluster_pool.hpp>
#include <brood/cluster_queue.hpp>
#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/queue.hpp>
#include <brood/value.hpp>

#include "cluster/nats_server.hpp"
#include "support/eventually.hpp"
#include "support/program.hpp"
#include "support/temp_dir.hpp"

namespace brood::testing::cluster_queue_test {
namespace {

using namespace std::chrono_literals;

class ClusterQueueTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!NatsServer::there()) GTEST_SKIP() << "nats-server is not installed";
    ::setenv("BROOD_CLUSTER_KEY", "secret", 1);
    server_.emplace();
  }
  void TearDown() override {
    ::unsetenv("BROOD_CLUSTER_KEY");
    if (!HasFailure() || !server_) return;
    const std::string log = server_->log();
    std::cerr << log.substr(log.size() > 4000 ? log.size() - 4000 : 0) << '\n';
  }
  [[nodiscard]] ClusterOptions at(std::chrono::nanoseconds patience = 60s) const {
    return {.url = server_->url(), .patience = patience, .lease = 1s};
  }
  template <class T = int>
  ClusterQueue<T> queue(std::size_t maxsize = 0) const {
    return ClusterQueue<T>("jobs", at(), {.maxsize = maxsize});
  }

  /// Lines of the server's own protocol; what it answers.
  [[nodiscard]] std::string said_to_server(const std::string& lines) const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const std::string url = server_->url();
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
    std::string answer;
    const std::string text = "CONNECT {\"verbose\":false}\r\n" + lines + "PING\r\n";
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0 &&
        ::send(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size())) {
      char buffer[4096];
      while (answer.find("PONG") == std::string::npos && answer.find("-ERR") == std::string::npos) {
        const ssize_t got = ::recv(fd, buffer, sizeof(buffer), 0);
        if (got <= 0) break;
        answer.append(buffer, static_cast<std::size_t>(got));
      }
    }
    ::close(fd);
    return answer;
  }

  std::optional<NatsServer> server_;
};

std::vector<int> numbers(int count) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(i);
  return all;
}

/// By get_many(), which takes what the server knows of at that moment.
template <class T>
std::vector<T> take(const ClusterQueue<T>& queue, std::size_t count) {
  std::vector<T> all;
  while (all.size() < count) {
    for (T& value : queue.get_many(count - all.size())) all.push_back(std::move(value));
  }
  return all;
}

/// What is thrown is no E: the test fails. Otherwise its text.
template <class E, class F>
std::string thrown(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST_F(ClusterQueueTest, WhatIsPutFirstIsGotFirstByAnyHandle) {
  const ClusterQueue<std::string> in("jobs", at());
  const ClusterQueue<std::string> out("jobs", at());
  EXPECT_EQ(in, out);
  EXPECT_TRUE(out.empty());
  EXPECT_FALSE(out.try_get().has_value());
  EXPECT_FALSE(out.try_get_for(20ms).has_value());
  const std::vector<std::string> words{"a", "", std::string(300'000, 'x'), "d", "e"};
  in.put(words[0]);
  EXPECT_TRUE(in.try_put(words[1]));
  EXPECT_TRUE(in.try_put_for(words[2], 20s));
  in.put_many(std::vector{words[3], words[4]});
  EXPECT_EQ(out.size(), 5U);
  std::vector<std::string> got{out.get(), out.try_get().value_or("nothing"),
                               out.try_get_for(20s).value_or("nothing")};
  for (std::string& word : take(out, 2)) got.push_back(std::move(word));
  EXPECT_EQ(got, words);
  EXPECT_TRUE(in.empty());
}

TEST_F(ClusterQueueTest, AWaitingConsumerIsWokenByAPut) {
  const ClusterQueue<int> queue = this->queue();
  auto one = std::async(std::launch::async, [&] { return queue.get(); });
  queue.put(7);
  EXPECT_EQ(one.get(), 7);
  auto many = std::async(std::launch::async, [&] { return queue.get_many(10); });
  queue.put(7);
  EXPECT_EQ(many.get(), std::vector<int>{7});
}

void produce(ClusterQueue<std::pair<int, int>> queue, int producer, int count) {
  for (int i = 0; i < count; ++i) queue.put({producer, i});
}
void consume(ClusterQueue<std::pair<int, int>> queue, Queue<std::pair<int, int>> seen) {
  for (const auto& value : queue) seen.put(value);
}

TEST_F(ClusterQueueTest, ProducersAndConsumersAreProcesses) {
  constexpr int kEach = 100;
  const auto queue = this->queue<std::pair<int, int>>(20);
  const Queue<std::pair<int, int>> seen;
  std::vector<Process> consumers;
  std::vector<Process> producers;
  for (int i = 0; i < 2; ++i) consumers.emplace_back(consume, queue, seen);
  for (int i = 0; i < 3; ++i) producers.emplace_back(produce, queue, i, kEach);
  for (Process& process : consumers) process.start();
  for (Process& process : producers) process.start();
  for (Process& process : producers) {
    process.join();
    EXPECT_EQ(process.exitcode(), 0);
  }
  queue.close();
  for (Process& process : consumers) {
    process.join();
    EXPECT_EQ(process.exitcode(), 0);
  }
  std::map<std::pair<int, int>, int> times;
  while (const auto value = seen.try_get()) ++times[*value];
  EXPECT_EQ(times.size(), 3U * kEach);
  for (const auto& [value, count] : times) {
    EXPECT_EQ(count, 1) << value.first << ' ' << value.second;
  }
}

void consume_all(ClusterQueue<int> queue) {
  while (queue.next()) {
  }
}
void take_one_and_hang(ClusterQueue<int> queue, std::string sign) {
  const auto lease = queue.lease();
  if (lease) give_sign(sign);
  ::pause();
}

TEST_F(ClusterQueueTest, TheLeaseOfAKilledConsumerGoesToAnother) {
  const TempDir dir;
  const ClusterQueue<int> queue = this->queue();
  queue.put(1);
  Process consumer(take_one_and_hang, queue, dir.file("taken"));
  consumer.start();
  await_sign(dir.file("taken"));
  EXPECT_FALSE(queue.try_get().has_value());
  EXPECT_EQ(queue.size(), 1U);
  consumer.kill();
  consumer.join();
  auto lease = queue.lease();
  ASSERT_TRUE(lease.has_value());
  EXPECT_EQ(lease->value(), 1);
  EXPECT_EQ(lease->deliveries(), 2U);
  lease->ack();
  EXPECT_TRUE(queue.empty());
}

TEST_F(ClusterQueueTest, ALeaseIsKeptAsLongAsItsProcessLives) {
  const ClusterQueue<int> queue = this->queue();
  queue.put(1);
  auto lease = queue.lease();
  ASSERT_TRUE(lease.has_value());
  // Its first second ends in the middle of this.
  EXPECT_FALSE(queue.try_get_for(1600ms).has_value());
  lease->ack();
  EXPECT_TRUE(queue.empty());
  EXPECT_THROW(lease->ack(), StateError);
}

TEST_F(ClusterQueueTest, WhatIsGivenBackIsHadByAnotherAtOnce) {
  const ClusterQueue<int> queue = this->queue();
  const ClusterQueue<int> other = this->queue();
  queue.put_many(std::vector{1, 2});
  {
    const auto lease = queue.lease();
    ASSERT_TRUE(lease.has_value());
    EXPECT_EQ(lease->deliveries(), 1U);
  }
  std::vector<int> got{other.get(), other.get()};
  std::ranges::sort(got);
  EXPECT_EQ(got, (std::vector{1, 2}));
}

TEST_F(ClusterQueueTest, WhatKillsItsConsumersGoesToTheDeadLetters) {
  const ClusterQueue<int> queue = this->queue();
  const ClusterQueue<int> dead("dead", at());
  queue.put(1);
  for (int i = 0; i < 2; ++i) {
    auto lease = queue.lease(dead, 2);
    ASSERT_TRUE(lease.has_value());
    EXPECT_EQ(lease->value(), 1);
    lease->give_back();
  }
  auto lease = std::async(std::launch::async, [&] { return queue.lease(dead, 2)->value(); });
  EXPECT_EQ(dead.get(), 1);
  queue.put(2);
  EXPECT_EQ(lease.get(), 2);
}

TEST_F(ClusterQueueTest, AFullQueueHoldsUpWhoPuts) {
  const ClusterQueue<int> queue = this->queue(2);
  EXPECT_EQ(queue.maxsize(), 2U);
  queue.put_many(std::vector{0, 1});
  EXPECT_TRUE(queue.full());
  EXPECT_FALSE(queue.try_put(9));
  EXPECT_FALSE(queue.try_put_for(9, 30ms));
  auto put = std::async(std::launch::async, [&] { queue.put(2); });
  EXPECT_EQ(put.wait_for(50ms), std::future_status::timeout);
  EXPECT_EQ(queue.get(), 0);
  put.get();
  EXPECT_EQ(take(queue, 2), (std::vector{1, 2}));
  EXPECT_TRUE(queue.empty());
}

TEST_F(ClusterQueueTest, AClosedQueueIsTakenFromUntilItIsEmpty) {
  const ClusterQueue<int> queue = this->queue();
  const ClusterQueue<int> other = this->queue();
  auto waiting = std::async(std::launch::async, [&] {
    std::vector<int> all;
    for (const int value : other) all.push_back(value);
    return all;
  });
  queue.put_many(std::vector{1, 2, 3});
  EXPECT_FALSE(other.closed());
  queue.close();
  queue.close();
  EXPECT_TRUE(other.closed());
  EXPECT_EQ(waiting.get(), (std::vector{1, 2, 3}));
  EXPECT_THROW(other.put(4), QueueClosed);
  EXPECT_THROW(static_cast<void>(queue.get()), QueueClosed);
  EXPECT_FALSE(queue.next().has_value());
  EXPECT_FALSE(queue.lease().has_value());
  EXPECT_TRUE(queue.get_many(3).empty());
  const ClusterQueue<int> late = this->queue();
  EXPECT_TRUE(late.closed());
  late.unlink();
  const ClusterQueue<int> anew = this->queue();
  anew.put(5);
  EXPECT_EQ(anew.get(), 5);
}

TEST_F(ClusterQueueTest, WhoPutsIntoAFullQueueLearnsThatItIsClosed) {
  const ClusterQueue<int> queue = this->queue(1);
  queue.put(1);
  auto put = std::async(std::launch::async, [&] { queue.put(2); });
  queue.close();
  EXPECT_THROW(put.get(), QueueClosed);
}

TEST_F(ClusterQueueTest, TheEndWaitsForLeasesOfOthers) {
  const ClusterQueue<int> queue = this->queue();
  const ClusterQueue<int> other = this->queue();
  queue.put(1);
  auto lease = queue.lease();
  ASSERT_TRUE(lease.has_value());
  queue.close();
  EXPECT_FALSE(queue.next().has_value()) << "what is left is its own";
  auto next = std::async(std::launch::async, [&] { return other.next(); });
  lease->give_back();
  EXPECT_EQ(next.get(), 1);
}

TEST_F(ClusterQueueTest, JoinWaitsForAllThatWasPut) {
  const ClusterQueue<int> queue = this->queue();
  queue.join();
  queue.put_many(std::vector{1, 2});
  EXPECT_FALSE(queue.join_for(20ms));
  EXPECT_EQ(queue.get(), 1);
  auto lease = queue.lease();
  ASSERT_TRUE(lease.has_value());
  EXPECT_FALSE(queue.join_for(20ms));
  auto joined = std::async(std::launch::async, [&] { queue.join(); });
  lease->ack();
  joined.get();
}

TEST_F(ClusterQueueTest, AServerThatIsKilledAndBackKeepsWhatItHad) {
  const ClusterQueue<int> queue = this->queue();
  const ClusterQueue<int> consumer = this->queue();
  queue.put_many(numbers(10));
  std::set<int> got;
  auto put = std::async(std::launch::async, [&] {
    for (int i = 10; i < 300; ++i) queue.put(i);
  });
  ASSERT_TRUE(eventually([&] { return queue.size() > 10; }));
  got.insert(consumer.get());
  server_->kill();
  server_->restart();
  // What was taken before may come again, as the server forgot that; nothing is lost.
  while (got.size() < 300) {
    const std::optional<int> value = consumer.try_get_for(30s);
    if (!value) break;
    got.insert(*value);
  }
  put.get();
  EXPECT_EQ(got.size(), 300U);
}

TEST_F(ClusterQueueTest, AServerThatLostItsStoreHasLostTheQueueAndSaysSo) {
  const ClusterQueue<int> queue = this->queue();
  queue.put(1);
  auto waiting = std::async(std::launch::async, [&] {
    static_cast<void>(queue.get());
    static_cast<void>(queue.get());
  });
  ASSERT_TRUE(eventually([&] { return queue.empty(); }));
  server_->kill();
  server_->wipe_store();
  server_->restart();
  EXPECT_NE(thrown<EngineError>([&] { waiting.get(); }).find("is gone"), std::string::npos);
  EXPECT_NE(thrown<EngineError>([&] { queue.put(2); }).find("is gone"), std::string::npos);
  const ClusterQueue<int> anew = this->queue();
  queue.put(3);
  EXPECT_EQ(anew.get(), 3);
}

TEST_F(ClusterQueueTest, AServerThatStaysAwayIsAnError) {
  const ClusterQueue<int> queue("jobs", at(10ms));
  const ClusterQueue<int> patient = this->queue();
  queue.put(1);
  server_->kill();
  EXPECT_NE(thrown<EngineError>([&] { queue.put(2); }).find("put into queue 'jobs'"),
            std::string::npos);
  EXPECT_THROW(static_cast<void>(queue.get()), EngineError);
  EXPECT_THROW(static_cast<void>(queue.size()), EngineError);
  EXPECT_THROW(static_cast<void>(patient.try_get()), EngineError);
  EXPECT_THROW(static_cast<void>(patient.try_put(2)), EngineError);
  EXPECT_THROW(ClusterQueue<int>("others", at(10ms)), EngineError);
  server_->restart();
  EXPECT_EQ(patient.get(), 1);
}

TEST_F(ClusterQueueTest, AnotherKeyIsRefused) {
  const ClusterQueue<int> queue = this->queue();
  queue.put(1);
  ClusterOptions other = at();
  other.key = "another";
  EXPECT_THROW(ClusterQueue<int>("jobs", other), AuthenticationError);
  ::unsetenv("BROOD_CLUSTER_KEY");
  EXPECT_NE(thrown<AuthenticationError>([&] { this->queue(); }).find("BROOD_CLUSTER_KEY"),
            std::string::npos);
  EXPECT_EQ(queue.get(), 1);
}

struct Job {
  int number;
  std::string text;
};
namespace elsewhere {
struct Job {
  std::string text;
  int number;
};
}  // namespace elsewhere

TEST_F(ClusterQueueTest, AnotherTypeIsRefusedAndCostsNothing) {
  const auto queue = this->queue<Job>();
  queue.put({.number = 1, .text = "a"});
  const std::string text = thrown<TypeMismatch>([&] { this->queue<std::string>(); });
  EXPECT_NE(text.find("Job"), std::string::npos) << text;
  EXPECT_NE(text.find("string"), std::string::npos) << text;
  EXPECT_THROW(this->queue<elsewhere::Job>(), TypeMismatch);
  EXPECT_THROW(this->queue<std::vector<Job>>(), TypeMismatch);
  EXPECT_EQ(queue.get().text, "a");
}

TEST_F(ClusterQueueTest, AHandleFromBeforeTheQueueWasMadeAnewCostsNothing) {
  const ClusterQueue<int> numbers = this->queue();
  numbers.unlink();
  const auto words = this->queue<std::string>();
  words.put("a");
  EXPECT_THROW(static_cast<void>(numbers.get()), TypeMismatch);
  EXPECT_EQ(words.get(), "a");
  words.unlink();
  ClusterOptions other = at();
  other.key = "another";
  const ClusterQueue<std::string> others("jobs", other);
  others.put_many(std::vector<std::string>{"b", "c"});
  EXPECT_THROW(static_cast<void>(words.get_many(2)), AuthenticationError);
  EXPECT_EQ(others.size(), 2U);
  std::vector<std::string> got{others.get(), others.get()};
  std::ranges::sort(got);
  EXPECT_EQ(got, (std::vector<std::string>{"b", "c"}));
}

TEST_F(ClusterQueueTest, WhatAStrangerPutsIsRefusedAndGone) {
  const ClusterQueue<std::string> queue("jobs", at());
  queue.put("a");
  ASSERT_EQ(queue.get(), "a");
  // Written past the library: PUB <subject> <bytes>
  const std::string said =
      said_to_server("PUB brood.queue.jobs 40\r\n" + std::string(40, 'x') + "\r\n");
  ASSERT_TRUE(eventually([&] { return queue.size() == 1; })) << said;
  queue.put("b");
  EXPECT_THROW(static_cast<void>(queue.get()), AuthenticationError);
  EXPECT_EQ(queue.get(), "b");
}

TEST_F(ClusterQueueTest, WhatCannotBeIsRefused) {
  const ClusterQueue<std::string> queue("words", at());
  const std::string text =
      thrown<MessageTooLarge>([&] { queue.put(std::string(std::size_t{1} << 20U, 'x')); });
  EXPECT_NE(text.find("max_payload"), std::string::npos) << text;
  const ClusterQueue<Value<int>> handles("handles", at());
  EXPECT_THROW(handles.put(Value<int>(1)), ArgumentError);
  EXPECT_TRUE(handles.empty());
  const ClusterQueue<int> bounded = this->queue(2);
  EXPECT_THROW(this->queue(3), ArgumentError);
  EXPECT_THROW(this->queue(), ArgumentError);
  EXPECT_THROW(ClusterQueue<int>("a.b", at()), ArgumentError);
  EXPECT_THROW(ClusterQueue<int>("", at()), ArgumentError);
}

int drain(const ClusterQueue<int>& queue, ClusterQueue<int> results) {
  int taken = 0;
  while (auto lease = queue.lease()) {
    results.put(lease->value() * 2);
    lease->ack();
    ++taken;
  }
  return taken;
}

TEST_F(ClusterQueueTest, HandlesGoIntoTasksOnOtherMachinesAndOnThisOne) {
  const std::string url = server_->url();
  Program agent("cluster_tests", {.arguments = {"--brood-agent", url}, .prepare = [] {
                                    ::setenv("BROOD_CLUSTER_KEY", "secret", 1);
                                    ::setenv("BROOD_AGENT_WORKERS", "2", 1);
                                    return true;
                                  }});
  const ClusterQueue<int> jobs = this->queue();
  const ClusterQueue<int> results("results", at());
  jobs.put_many(numbers(40));
  jobs.close();
  Pool local({.workers = 1});
  const ClusterPool far({.url = url, .patience = 60s});
  Future<int> here = local.submit(drain, jobs, results);
  Future<int> there = far.submit(drain, jobs, results);
  EXPECT_EQ(here.get() + there.get(60s), 40) << agent.describe();
  EXPECT_EQ(far.submit([](const ClusterQueue<int>& all) { return all.size(); }, results).get(60s),
            40U);
  std::vector<int> got = take(results, 40);
  std::ranges::sort(got);
  EXPECT_EQ(got.size(), 40U);
  EXPECT_EQ(got.back(), 78);
  const ClusterQueue<ClusterQueue<int>> queues("queues", at());
  queues.put(results);
  results.put(5);
  EXPECT_EQ(queues.get().get(), 5);
}

TEST_F(ClusterQueueTest, AProcessWithThreadsOfNatsIsNotForked) {
  const ClusterQueue<int> queue = this->queue();
  Process child({.start_method = StartMethod::fork}, consume_all, queue);
  EXPECT_THROW(child.start(), StartError);
}

TEST_F(ClusterQueueTest, AProcessWithoutTheKeyIsTold) {
  ClusterOptions options = at();
  options.key = "given";
  ::unsetenv("BROOD_CLUSTER_KEY");
  const ClusterQueue<int> queue("jobs", options);
  Pool pool({.workers = 1});
  Future<std::size_t> size =
      pool.submit([](const ClusterQueue<int>& jobs) { return jobs.size(); }, queue);
  EXPECT_NE(thrown<AuthenticationError>([&] { size.get(); }).find("set BROOD_CLUSTER_KEY"),
            std::string::npos);
}

TEST_F(ClusterQueueTest, AProgramPutsAndOthersWork) {
  Program put("cluster_jobs", {.arguments = {server_->url(), "put"}});
  EXPECT_EQ(put.wait(), 0) << put.describe();
  Program work("cluster_jobs", {.arguments = {server_->url(), "work"}});
  EXPECT_EQ(work.wait(), 0) << work.describe();
  EXPECT_EQ(work.out(), "wash 1\nsweep 2\n");
}

}  // namespace
}  // namespace brood::testing::cluster_queue_test
