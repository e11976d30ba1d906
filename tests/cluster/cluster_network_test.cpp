// Three nodes, one server: what the network does to them.
// Not for ThreadSanitizer: it does not know libnats' locks.
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/errors.hpp>

#include "cluster/on_machines.hpp"
#include "support/eventually.hpp"

namespace brood::testing::cluster_network_test {
namespace {

using namespace std::chrono_literals;

/// The server is machine 4, agents are on 1 to 3, the pool is here, on machine 0.
class ClusterNetwork : public OnMachines {
 protected:
  static constexpr int kServer = 4;

  void SetUp() override {
    make_machines(kServer);
    if (IsSkipped()) return;
    servers_.push_back(std::make_unique<NatsServer>(
        NatsServer::Place{
            .address = network_->address(kServer), .port = "4222", .enter = on(kServer)},
        std::vector<std::string>{"-js"}));
    start_agents(1, 3, servers_.front()->url());
  }
  [[nodiscard]] ClusterPool pool(std::chrono::nanoseconds patience = 20s) const {
    return ClusterPool(
        {.url = servers_.front()->url(), .key = "secret", .patience = patience, .lease = 1s});
  }
  /// A node has a part in the work, sooner or later.
  void expect_work_on(const ClusterPool& pool, int machine) {
    EXPECT_TRUE(eventually([&] {
      const auto ran = pool.map(&work_and_note, std::vector<int>(20, -1));
      return std::ranges::count(ran, machine, &Ran::machine) > 0;
    })) << "nothing runs on "
        << machine;
  }
};

TEST_F(ClusterNetwork, WithoutALossAMapTakesSoLong) {
  const ClusterPool pool = this->pool();
  await(pool, 3);
  map(pool, "nothing");
  EXPECT_EQ(pool.counts().duplicates, 0U);
}

TEST_F(ClusterNetwork, TheTasksOfANodeThatIsCutOffAreRunByOthersAndItComesBack) {
  const ClusterPool pool = this->pool();
  await(pool, 3);
  map(pool, "a node is cut off", [&] { network_->cut(1); });
  await(pool, 2);
  network_->heal(1);
  await(pool, 3);
  expect_work_on(pool, 1);
  // What it had finished by then came too late: each result was there already.
  EXPECT_TRUE(eventually([&] { return pool.counts().duplicates > 0; }));
}

TEST_F(ClusterNetwork, AProgramThatIsCutOffGetsItsResultsWhenItIsBack) {
  const ClusterPool pool = this->pool(3s);
  await(pool, 3);
  auto healed = Clock::now();
  map(pool, "the program is cut off until it notices", [&] {
    network_->cut(0);
    await(pool, 0);
    // Longer than tasks wait for agents: that none is heard of says nothing about them.
    std::this_thread::sleep_for(4s);
    network_->heal(0);
    healed = Clock::now();
  });
  cost("from the end of that cut", healed);
  await(pool, 3);
  map(pool, "the program was cut off");
}

TEST_F(ClusterNetwork, APoolThatIsCutOffEndsThoughItHasMuchToSend) {
  std::optional<ClusterPool> pool(this->pool());
  await(*pool, 3);
  const auto length = [](const std::string& text) { return text.size(); };
  std::vector<Future<std::size_t>> tasks;
  network_->cut(0);
  for (int i = 0; i < 30; ++i) tasks.push_back(pool->submit(length, std::string(900'000, 'x')));
  await(*pool, 0);  // by now it has more to send than the kernel keeps for it
  auto end = std::async(std::launch::async, [&] { pool.reset(); });
  const bool ended = end.wait_for(30s) == std::future_status::ready;
  EXPECT_TRUE(ended) << "it waits for the network";
  network_->heal(0);
  end.get();
  EXPECT_THROW(static_cast<void>(tasks.back().get(10s)), TaskCancelled);
}

TEST_F(ClusterNetwork, WhatIsSubmittedWhileCutOffIsSentOnce) {
  const ClusterPool pool = this->pool();
  await(pool, 3);
  network_->cut(0);
  auto call = std::async(std::launch::async, [&] { return pool.map(&work_and_note, numbers(20)); });
  await(pool, 0);
  std::this_thread::sleep_for(8s);  // in which it tries again and again
  network_->heal(0);
  EXPECT_EQ(call.get().size(), 20U);
  await(pool, 3);
  // What was sent before comes before these.
  static_cast<void>(pool.map(&work_and_note, std::vector<int>(100, 1000)));
  for (const auto& [number, machines] : runs()) {
    if (number < 20) {
      EXPECT_EQ(machines.size(), 1U) << "task " << number;
    }
  }
}

TEST_F(ClusterNetwork, AShortCutIsNotNoticed) {
  const ClusterPool pool = this->pool();
  await(pool, 3);
  map(pool, "everybody is cut off for half a second", [&] {
    network_->cut(kServer);
    std::this_thread::sleep_for(500ms);
    network_->heal(kServer);
  });
}

TEST_F(ClusterNetwork, TheTasksOfAKilledNodeAreRunByOthers) {
  const ClusterPool pool = this->pool();
  await(pool, 3);
  map(pool, "a node is killed", [&] { network_->kill(1); });
}

TEST_F(ClusterNetwork, WhatMayRunOnceIsLostWithANodeThatIsCutOffAndRunsNowhereElse) {
  const ClusterPool pool = this->pool();
  await(pool, 3);
  auto call = std::async(std::launch::async, [&] {
    return pool.at_most_once().try_map(&work_and_note, numbers(kTasks));
  });
  await_runs(kTasks / 5);
  network_->cut(1);
  const auto outcomes = call.get();
  int lost = 0;
  for (int n = 0; n < kTasks; ++n) {
    const auto& outcome = outcomes.at(static_cast<std::size_t>(n));
    if (outcome.has_value()) {
      EXPECT_EQ(outcome.value().square, n * n);
    } else {
      EXPECT_THROW(static_cast<void>(outcome.value()), TaskLost);
      ++lost;
    }
  }
  EXPECT_GT(lost, 0) << "it was cut off with nothing in hand";
  network_->heal(1);
  await(pool, 3);
  expect_work_on(pool, 1);
  const auto runs = this->runs();
  for (int n = 0; n < kTasks; ++n) {
    const auto found = runs.find(n);
    const std::size_t times = found == runs.end() ? 0 : found->second.size();
    EXPECT_LE(times, 1U) << "task " << n;
    if (outcomes.at(static_cast<std::size_t>(n)).has_value()) {
      EXPECT_EQ(times, 1U) << "task " << n;
    }
  }
}

TEST_F(ClusterNetwork, WhatMayRunOnceDoesNotRunOnANodeThatWasStoppedWhenItGotIt) {
  const ClusterPool pool = this->pool();
  await(pool, 3);
  // Stopped, it is handed tasks yet: it had asked for them.
  for (int round = 0; round < 5; ++round) {
    for (const int pid : network_->processes(1)) ::kill(pid, SIGSTOP);
    std::vector<int> mine;
    for (int n = 0; n < 20; ++n) mine.push_back(1000 * round + n);
    for (const auto& outcome : pool.at_most_once().try_map(&work_and_note, mine)) {
      if (!outcome.has_value()) {
        EXPECT_THROW(static_cast<void>(outcome.value()), TaskLost);
      }
    }
    for (const int pid : network_->processes(1)) ::kill(pid, SIGCONT);
    static_cast<void>(pool.map(&work_and_note, std::vector<int>(20, -1)));
  }
  await(pool, 3);
  expect_work_on(pool, 1);
  for (const auto& [number, machines] : runs()) {
    if (number < 0) continue;
    EXPECT_EQ(machines.size(), 1U)
        << "task " << number << " ran on " << machines.front() << " and " << machines.back();
  }
}

}  // namespace
}  // namespace brood::testing::cluster_network_test
