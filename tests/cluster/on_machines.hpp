// What the tests have in common whose cluster is on several machines.
#pragma once

#include <gtest/gtest.h>

#include <signal.h>
#include <sys/prctl.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <brood/cluster_pool.hpp>

#include "cluster/agent_process.hpp"
#include "cluster/nats_server.hpp"
#include "cluster/network.hpp"

namespace brood::testing {

/// What a task has returned, and where it ran.
struct Ran {
  int square = 0;
  int machine = 0;
};
/// 10 ms of work. Notes in the journal that it begins.
Ran work_and_note(int n);

/// Machines, agents on some of them, and the journal that all tasks write: who ran which of them.
class OnMachines : public ::testing::Test {
 protected:
  using Clock = std::chrono::steady_clock;
  static constexpr int kTasks = 200;

  /// Skips the test where there can be no machines.
  void make_machines(int count);
  void TearDown() override;

  /// On machines `first` to `last`, one worker each.
  void start_agents(int first, int last, const std::string& url);
  /// Waits until so many agents have been heard of.
  void await(const ClusterPool& pool, std::size_t agents);
  /// Waits until the tasks were begun so often, all together.
  void await_runs(std::size_t count);

  /// Runs kTasks tasks, does something in their midst, expects all results to be right, and prints
  /// how long it took: see docs/design/cluster.md.
  std::vector<Ran> map(const ClusterPool& pool, const std::string& what,
                       const std::function<void()>& disturb = {});

  /// Prints the time since then.
  static void cost(const std::string& what, Clock::time_point since);

  /// How often each task was begun, on which machine.
  [[nodiscard]] std::map<int, std::vector<int>> runs() const;
  /// For Program::Start::prepare, and the servers: dies with this program, runs on that machine.
  [[nodiscard]] std::function<bool()> on(int machine) const;

  TempDir dir_;
  std::optional<Network> network_;
  std::vector<std::unique_ptr<NatsServer>> servers_;
  std::vector<std::unique_ptr<AgentProcess>> agents_;
};

std::vector<int> numbers(int count);

}  // namespace brood::testing
