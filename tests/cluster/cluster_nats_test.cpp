// Pools over a real server and agents that are processes: this very program, started as an agent.
// Not for ThreadSanitizer: it does not know libnats' locks.
#include <gtest/gtest.h>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <future>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/cluster_pool.hpp>

#include "cluster/agent_process.hpp"
#include "cluster/nats_server.hpp"
#include "support/eventually.hpp"
#include "support/program.hpp"
#include "support/sanitizers.hpp"

namespace brood::testing::cluster_nats_test {
namespace {

using namespace std::chrono_literals;

class ClusterNats : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!NatsServer::there()) GTEST_SKIP() << "nats-server is not installed";
    server_.emplace();
  }
  void TearDown() override {
    if (!HasFailure() || !server_) return;
    for (const auto& agent : agents_) std::cerr << agent->program().describe() << '\n';
    const std::string log = server_->log();
    std::cerr << log.substr(log.size() > 4000 ? log.size() - 4000 : 0) << '\n';
  }
  void start_agents(int count) {
    for (int i = 0; i < count; ++i) {
      agents_.push_back(std::make_unique<AgentProcess>(server_->url()));
    }
  }
  [[nodiscard]] ClusterPool pool(std::chrono::nanoseconds patience = 20s) const {
    return ClusterPool({.url = server_->url(), .key = "secret", .patience = patience, .lease = 1s});
  }
  /// Waits until all agents have been heard of.
  void await(const ClusterPool& pool, std::size_t agents) const {
    EXPECT_TRUE(eventually([&] { return pool.nodes().size() == agents; }))
        << pool.nodes().size() << " agents; " << server_->log();
  }

  /// In the midst of what goes on.
  [[nodiscard]] std::jthread signal_soon(AgentProcess& agent, int number) const {
    return std::jthread([&agent, number] {
      std::this_thread::sleep_for(100ms);
      ::kill(agent.pid(), number);
    });
  }

  std::optional<NatsServer> server_;
  std::vector<std::unique_ptr<AgentProcess>> agents_;
};

std::vector<int> numbers(int count) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(i);
  return all;
}
int slow_square(int n) {
  ::usleep(3000);
  return n * n;
}
std::vector<int> squares(int count) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(i * i);
  return all;
}

TEST_F(ClusterNats, ThreeAgentsComputeAMap) {
  start_agents(3);
  const ClusterPool pool = this->pool();
  await(pool, 3);
  const auto where = pool.map(
      [](int n) {
        ::usleep(2000);
        return std::pair(n * n, ::getppid());
      },
      numbers(200));
  std::vector<int> results;
  for (const auto& [square, node] : where) results.push_back(square);
  EXPECT_EQ(results, squares(200));
  const auto outcomes = pool.with({.timeout = kAddressSanitizer ? 3000ms : 1000ms})
                            .try_map(
                                [](int n) {
                                  if (n == 1) throw std::out_of_range("one");
                                  if (n == 2) ::raise(SIGKILL);
                                  if (n == 3) ::pause();
                                  return n;
                                },
                                numbers(6));
  EXPECT_THROW(static_cast<void>(outcomes[1].value()), std::out_of_range);
  EXPECT_THROW(static_cast<void>(outcomes[2].value()), WorkerCrashed);
  EXPECT_THROW(static_cast<void>(outcomes[3].value()), TaskTimeout);
  EXPECT_EQ(outcomes[5].value(), 5);
  EXPECT_EQ(
      pool.apply([](const std::string& text) { return text + "!"; }, std::string(500'000, 'x'))
          .size(),
      500'001U);
}

TEST_F(ClusterNats, LargeArgumentsAndResultsGoInParts) {
  start_agents(1);
  const ClusterPool pool = this->pool();
  await(pool, 1);
  const auto doubled = [](const std::string& text) { return text + text; };
  const std::string text(3'500'000, 'x');
  EXPECT_EQ(pool.apply(doubled, text), text + text);
  const auto sizes = pool.map([](const std::string& s) { return s.size(); },
                              std::vector<std::string>{text, "small", text});
  EXPECT_EQ(sizes, (std::vector<std::size_t>{3'500'000, 5, 3'500'000}));
  EXPECT_TRUE(eventually([&] { return server_->stored() < 1'000'000; }))
      << "parts are given back; " << server_->stored() << " bytes are there";
  EXPECT_THROW(pool.apply(doubled, std::string(70'000'000, 'x')), ArgumentError);
  EXPECT_THROW(pool.apply([](std::size_t n) { return std::string(n, 'x'); }, 70'000'000),
               MessageTooLarge);
}

TEST_F(ClusterNats, PartsThatTheServerHasLostCostTimeOnly) {
  const ClusterPool pool = this->pool();
  Future<std::size_t> task =
      pool.submit([](const std::string& s) { return s.size(); }, std::string(3'500'000, 'x'));
  ASSERT_TRUE(eventually([&] { return pool.counts().messages == 1; }));
  server_->kill();
  server_->wipe_store("brood_parts");
  server_->restart();
  start_agents(1);
  EXPECT_EQ(task.get(30s), 3'500'000U);
  EXPECT_EQ(pool.counts().resent, 1U);
}

TEST_F(ClusterNats, AFullServerHoldsThingsUpAndNoMore) {
  server_.emplace(std::vector<std::string>{"-js"}, "jetstream { max_file_store: 64MB }\n");
  const ClusterPool pool = this->pool();
  const std::vector<std::string> texts(12, std::string(3'000'000, 'x'));
  auto sizes = std::async(std::launch::async, [&] {
    return pool.with({.deadline = 50s}).map([](const std::string& s) { return s.size(); }, texts);
  });
  ASSERT_TRUE(eventually([&] { return server_->stored() > 9'000'000; })) << server_->stored();
  start_agents(1);
  EXPECT_EQ(sizes.get(), std::vector<std::size_t>(12, 3'000'000));
  const NatsServer tiny({"-js"}, "jetstream { max_file_store: 1MB }\n");
  try {
    const ClusterPool none({.url = tiny.url()});
    FAIL() << "nothing was thrown";
  } catch (const EngineError& e) {
    EXPECT_NE(std::string(e.what()).find("max_file_store"), std::string::npos) << e.what();
  }
}

// A server has room again for as much as was removed: three times all that it takes goes through
// it.
TEST_F(ClusterNats, WhatIsDoneWithMakesRoom) {
  server_.emplace(std::vector<std::string>{"-js"}, "jetstream { max_file_store: 64MB }\n");
  start_agents(1);
  const ClusterPool pool = this->pool();
  const std::vector<std::string> texts(32, std::string(3'000'000, 'x'));
  const auto same = [](std::string text) { return text; };
  for (const std::string& text : pool.with({.deadline = 50s}).map(same, texts)) {
    ASSERT_EQ(text.size(), 3'000'000U);
  }
}

/// The agent in one of whose workers this is.
int agent_here() {
  std::ifstream stat("/proc/" + std::to_string(::getppid()) + "/stat");
  std::string text;
  std::getline(stat, text);
  int parent = 0;
  std::istringstream(text.substr(text.rfind(')') + 4)) >> parent;
  return parent;
}

TEST_F(ClusterNats, ATaskThatKillsItsNodesIsGivenUp) {
  const ClusterPool pool = this->pool();
  Future<void> poison = pool.submit([] { ::kill(agent_here(), SIGKILL); });
  int killed = 0;
  for (; killed < 6 && !poison.ready(); ++killed) {
    start_agents(1);
    ASSERT_TRUE(eventually([&] {
      return poison.ready() || agents_.back()->program().wait(0ms).has_value();
    })) << agents_.back()->program().describe();
  }
  EXPECT_THROW(poison.get(20s), TaskLost);
  EXPECT_EQ(killed, 5) << "four, and the one that gave it up";
  EXPECT_EQ(pool.apply(slow_square, 3), 9);
}

TEST_F(ClusterNats, ACancelledTaskIsStopped) {
  start_agents(1);
  const ClusterPool pool = this->pool();
  await(pool, 1);
  Future<void> task = pool.submit([] { ::pause(); });
  ASSERT_TRUE(eventually([&] {
    const auto nodes = pool.nodes();
    return nodes.size() == 1 && nodes[0].in_hand == 1;
  }));
  EXPECT_TRUE(task.cancel());
  EXPECT_EQ(pool.apply(slow_square, 3), 9);
}

TEST_F(ClusterNats, TheTasksOfAKilledAgentAreRunByOthers) {
  start_agents(3);
  const ClusterPool pool = this->pool();
  await(pool, 3);
  std::jthread killer = signal_soon(*agents_[0], SIGKILL);
  EXPECT_EQ(pool.map(slow_square, numbers(300)), squares(300));
  killer.join();
  EXPECT_TRUE(agents_[0]->program().all_gone()) << "its pool ends with it";
}

TEST_F(ClusterNats, AStoppedAgentIsAsGoodAsLostAndComesBack) {
  start_agents(2);
  const ClusterPool pool = this->pool();
  await(pool, 2);
  std::jthread stopper = signal_soon(*agents_[0], SIGSTOP);
  EXPECT_EQ(pool.map(slow_square, numbers(300)), squares(300));
  stopper.join();
  ::kill(agents_[0]->pid(), SIGCONT);
  EXPECT_EQ(pool.map(slow_square, numbers(50)), squares(50));
}

TEST_F(ClusterNats, AServerThatIsKilledAndBackIsWaitedFor) {
  start_agents(2);
  const ClusterPool pool = this->pool();
  await(pool, 2);
  auto results =
      std::async(std::launch::async, [&] { return pool.map(slow_square, numbers(300)); });
  std::this_thread::sleep_for(100ms);
  server_->kill();
  std::this_thread::sleep_for(300ms);
  server_->restart();
  EXPECT_EQ(results.get(), squares(300));
}

TEST_F(ClusterNats, AServerWithoutWhatItHadCostsTimeOnly) {
  start_agents(2);
  const ClusterPool pool = this->pool();
  await(pool, 2);
  auto results =
      std::async(std::launch::async, [&] { return pool.map(slow_square, numbers(300)); });
  std::this_thread::sleep_for(100ms);
  server_->kill();
  server_->wipe_store();
  server_->restart();
  EXPECT_EQ(results.get(), squares(300));
  EXPECT_EQ(pool.map(slow_square, numbers(20)), squares(20));
}

TEST_F(ClusterNats, AnAgentThatIsToEndFinishesWhatItHas) {
  start_agents(2);
  const ClusterPool pool = this->pool();
  await(pool, 2);
  std::jthread ender = signal_soon(*agents_[0], SIGTERM);
  EXPECT_EQ(pool.map(slow_square, numbers(300)), squares(300));
  ender.join();
  EXPECT_EQ(agents_[0]->program().wait(), 0) << agents_[0]->program().describe();
  EXPECT_TRUE(agents_[0]->program().all_gone());
}

TEST_F(ClusterNats, AProgramAndItsAgents) {
  const AgentProcess one(server_->url(), {.program = "cluster_app"});
  const AgentProcess two(server_->url(), {.program = "cluster_app"});
  Program app("cluster_app", {.prepare = [url = server_->url()] {
                ::setenv("BROOD_CLUSTER_URL", url.c_str(), 1);
                ::setenv("BROOD_CLUSTER_KEY", "secret", 1);
                return true;
              }});
  EXPECT_EQ(app.wait(), 0) << app.describe();
  EXPECT_EQ(app.out(), "14.392727\n15.085874\n15.491339\n15.779021\n");
}

TEST_F(ClusterNats, AnotherBuildIsNoHelp) {
  agents_.push_back(std::make_unique<AgentProcess>(
      server_->url(), AgentProcess::Start{.program = "cluster_other_build"}));
  const ClusterPool pool = this->pool(3s);
  await(pool, 1);
  EXPECT_FALSE(pool.nodes().at(0).can_run);
  Future<int> task = pool.submit(slow_square, 1);
  EXPECT_THROW(task.get(20s), NoAgents);
}

TEST_F(ClusterNats, WhatIsWrongWithTheServerIsSaid) {
  const auto said = [](const ClusterOptions& options) -> std::string {
    try {
      const ClusterPool pool(options);
    } catch (const EngineError& e) {
      return e.what();
    }
    return "nothing";
  };
  EXPECT_NE(said({.url = "nats://127.0.0.1:1"}).find("is a nats-server running"),
            std::string::npos);
  const NatsServer plain(std::vector<std::string>{});
  EXPECT_NE(said({.url = plain.url()}).find("has no JetStream"), std::string::npos)
      << said({.url = plain.url()});
  const NatsServer closed({"-js", "--user", "u", "--pass", "p"});
  EXPECT_NE(said({.url = closed.url()}).find("other credentials"), std::string::npos)
      << said({.url = closed.url()});
  EXPECT_EQ(said({.url = "nats://u:p@" + closed.address()}), "nothing");
  EXPECT_THROW(ClusterPool({.url = server_->url(), .name = "a b"}), ArgumentError);
  EXPECT_THROW(ClusterPool({.url = server_->url(), .lease = 1ms}), ArgumentError);
}

}  // namespace
}  // namespace brood::testing::cluster_nats_test
