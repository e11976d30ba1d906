// Three servers that are one cluster, each on a machine of its own: what of them may be lost.
// Not for ThreadSanitizer: it does not know libnats' locks.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <brood/errors.hpp>

#include "cluster/on_machines.hpp"
#include "support/eventually.hpp"

namespace brood::testing::cluster_servers_test {
namespace {

using namespace std::chrono_literals;

/// The servers are machines 1 to 3, agents are on 4 to 6, the pool is here, on machine 0.
class ClusterServers : public OnMachines {
 protected:
  static constexpr int kServers = 3;
  static constexpr int kMachines = 6;

  void SetUp() override {
    make_machines(kMachines);
    if (IsSkipped()) return;
    std::string routes;
    for (int server = 1; server <= kServers; ++server) {
      routes += fmt::format("{}nats://{}:6222", server == 1 ? "" : ",", network_->address(server));
    }
    for (int server = 1; server <= kServers; ++server) {
      servers_.push_back(std::make_unique<NatsServer>(
          NatsServer::Place{
              .address = network_->address(server), .port = "4222", .enter = on(server)},
          std::vector<std::string>{"-js", "--server_name", std::to_string(server), "--cluster_name",
                                   "three", "--cluster",
                                   fmt::format("nats://{}:6222", network_->address(server)),
                                   "--routes", routes}));
      url_ += (server == 1 ? "" : ",") + servers_.back()->url();
    }
    start_agents(kServers + 1, kMachines, url_);
  }
  /// As soon as the servers have found each other.
  [[nodiscard]] ClusterPool pool() {
    std::optional<ClusterPool> made;
    std::string said;
    EXPECT_TRUE(eventually([&] {
      try {
        made.emplace(ClusterOptions{
            .url = url_, .key = "secret", .patience = 10s, .lease = 1s, .replicas = kServers});
      } catch (const EngineError& e) {
        said = e.what();
      }
      return made.has_value();
    })) << said;
    await(made.value(), kMachines - kServers);
    return std::move(made).value();
  }
  /// The machine of the server that leads what is done with the tasks: it said so last.
  [[nodiscard]] int leader() const {
    int leader = 0;
    std::string last;
    for (int server = 1; server <= kServers; ++server) {
      const std::string log = servers_.at(static_cast<std::size_t>(server - 1))->log();
      const std::size_t said = log.rfind("new stream leader for '$G > brood_tasks'");
      if (said == std::string::npos) continue;
      const std::size_t line = log.rfind('\n', said) + 1;
      const std::string when = log.substr(log.find(']', line), said - line);
      if (when > last) {
        last = when;
        leader = server;
      }
    }
    EXPECT_NE(leader, 0) << "nobody leads";
    return leader;
  }
  NatsServer& server(int machine) { return *servers_.at(static_cast<std::size_t>(machine - 1)); }

  std::string url_;
};

TEST_F(ClusterServers, WithoutALossAMapTakesSoLong) {
  const ClusterPool pool = this->pool();
  map(pool, "nothing, three servers");
}

TEST_F(ClusterServers, TheLeaderIsKilledAndComesBack) {
  const ClusterPool pool = this->pool();
  const int leader = this->leader();
  map(pool, "of three servers the leader is killed", [&] { server(leader).kill(); });
  map(pool, "of three servers one is away");
  server(leader).restart();
  map(pool, "of three servers one is back");
  // It counts again: another may go.
  const int next = leader % kServers + 1;
  map(pool, "of three servers another one is killed", [&] { server(next).kill(); });
}

TEST_F(ClusterServers, TheLeaderIsCutOffFromAllAndComesBack) {
  const ClusterPool pool = this->pool();
  const int leader = this->leader();
  map(pool, "of three servers the leader is cut off", [&] { network_->cut(leader); });
  network_->heal(leader);
  map(pool, "of three servers the leader is not cut off any more");
}

// The pool stays with the leader, who goes on to answer for some seconds, and knows nothing new.
TEST_F(ClusterServers, APoolWithALeaderWhomTheOthersHaveLeftGetsEachResultOnce) {
  const ClusterPool first = this->pool();
  const int leader = this->leader();
  const ClusterPool pool({.url = server(leader).url(),
                          .key = "secret",
                          .patience = 10s,
                          .lease = 1s,
                          .replicas = kServers});
  await(pool, kMachines - kServers);
  const auto others = [&](const auto& what) {
    for (int other = 1; other <= kServers; ++other) {
      if (other != leader) what(other);
    }
  };
  auto rejoined = Clock::now();
  map(pool, "the leader is without the others for 20 s", [&] {
    others([&](int other) { network_->separate(leader, other); });
    std::this_thread::sleep_for(20s);
    others([&](int other) { network_->rejoin(leader, other); });
    rejoined = Clock::now();
  });
  cost("from when it is with them again", rejoined);
  map(pool, "the leader was without the others");
}

TEST_F(ClusterServers, WhatMayRunOnceDoesNotRunTwiceWhenTheLeaderIsLeft) {
  const ClusterPool pool = this->pool();
  const int leader = this->leader();
  auto call = std::async(std::launch::async, [&] {
    return pool.at_most_once().try_map(&work_and_note, numbers(kTasks));
  });
  await_runs(kTasks / 5);
  for (int other = 1; other <= kServers; ++other) {
    if (other != leader) network_->separate(leader, other);
  }
  std::this_thread::sleep_for(15s);
  for (int other = 1; other <= kServers; ++other) {
    if (other != leader) network_->rejoin(leader, other);
  }
  int lost = 0;
  for (const auto& outcome : call.get()) {
    if (outcome.has_value()) continue;
    ++lost;
    EXPECT_THROW(static_cast<void>(outcome.value()), TaskLost);
  }
  EXPECT_LT(lost, kTasks / 2);
  // What the leader who was left had handed out comes before these.
  static_cast<void>(pool.map(&work_and_note, std::vector<int>(100, -1)));
  for (const auto& [number, machines] : runs()) {
    if (number < 0) continue;
    EXPECT_EQ(machines.size(), 1U) << "task " << number;
  }
}

TEST_F(ClusterServers, EachServerHasEverything) {
  const ClusterPool pool = this->pool();
  for (const auto& server : servers_) {
    const std::string streams = server->store() + "/jetstream/$G/streams";
    EXPECT_TRUE(eventually([&] {
      for (const char* stream : {"brood_tasks", "brood_results"}) {
        const std::filesystem::path consumers = streams + "/" + stream + "/obs";
        std::error_code error;
        if (std::filesystem::directory_iterator(consumers, error) ==
            std::filesystem::directory_iterator()) {
          return false;
        }
      }
      return true;
    })) << "no consumers in "
        << streams;
  }
}

TEST_F(ClusterServers, AllAreKilledAndComeBackWithWhatTheyHad) {
  const ClusterPool pool = this->pool();
  map(pool, "three servers are killed and restarted", [&] {
    for (const auto& server : servers_) server->kill();
    for (const auto& server : servers_) server->restart();
  });
}

TEST_F(ClusterServers, WithoutTwoOfThreeEverybodyWaits) {
  const ClusterPool pool = this->pool();
  auto healed = Clock::now();
  map(pool, "two of three servers are away for 20 s", [&] {
    server(1).kill();
    server(2).kill();
    // Longer than the silence after which a node is gone, and the patience without any.
    std::this_thread::sleep_for(20s);
    server(1).restart();
    healed = Clock::now();
  });
  cost("from when one of them is back", healed);
}

}  // namespace
}  // namespace brood::testing::cluster_servers_test
