// Layer: cluster
// The pool whose workers are on other machines.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <brood/cluster/cluster_calls.hpp>
#include <brood/cluster_options.hpp>
#include <brood/pool/pool_calls.hpp>
#include <brood/pool_options.hpp>

namespace brood {

/// How a cluster's pool is doing: ClusterPool::counts(). A plain value.
using ClusterCounts = detail::ClusterCounts;

/// Times, and what came from which node: ClusterPool::stats(). A plain value.
using ClusterStats = detail::ClusterStats;

/// An agent that was heard of lately.
using ClusterNode = detail::TaskTable::Node;

class ClusterCaller;

/// A pool whose workers are on other machines, with the calls of every pool: see PoolCalls.
///
///     brood::ClusterPool pool;  // the environment says where: brood-cluster up
///     const auto results = pool.map(simulate, inputs);
///
/// The nodes run this very program, started there as `./app --brood-agent nats://head:4222`, by
/// hand or by whatever starts programs: see agents in the guide. Each has a pool of its own, so a
/// task that crashes or hangs costs itself alone there, as it does in a Pool.
///
/// What holds: every task has one result, as long as this process lives. A task may run more than
/// once: when its node is lost, or the server with what it had; side effects should bear that, or
/// say `at_most_once`. Nothing is promised about the order in which tasks run. Arguments and
/// results are bytes: a handle to shared memory among them is refused with ArgumentError.
///
/// At once: any threads of the process that made it; it has two threads, and NATS some, so
///   StartMethod::fork is refused while it lives.
/// Bytes: private memory here, the server's store, and the agents' shared memory.
/// Death: of a node, its tasks go to others when its lease has ended, and after four nodes the task
///   fails with TaskLost; of the server, all wait until it is back; if it has lost what it had,
///   tasks are sent again; of this process, its tasks are stopped when the agents have not heard of
///   it for half a minute, at once if it ends in order.
/// Across fork: not there.
/// Errors: of the constructor ArgumentError, EngineError when the server cannot be reached or has
/// no
///   JetStream; of calls what the tasks throw, NoAgents, TaskLost, ArgumentError for what is too
///   large or does not make sense far away.
class ClusterPool : public PoolCalls<ClusterPool> {
 public:
  explicit ClusterPool(ClusterOptions options = {});
  /// The same over an engine of the caller's, for tests.
  ClusterPool(std::unique_ptr<detail::ClientEngine> engine, detail::ClientSetup setup,
              detail::ClientId id);

  /// The same calls with limits, as of every pool: CallOptions says what they mean. The agents see
  /// to timeout, cpu_time, memory, and to retries of crashes; this process to retries that
  /// `retry_if` decides about, which come back and are sent again, to the deadline, within a tenth
  /// of a second, and to the priority: what has the higher one is sent first. `chunk` is chosen by
  /// itself, and not looked at.
  [[nodiscard]] ClusterCaller with(CallOptions options) const;
  /// The same calls for tasks that shall not run twice: one that was lost fails with TaskLost.
  [[nodiscard]] ClusterCaller at_most_once() const;

  /// Workers of all agents that can run this program, as far as they have been heard of.
  [[nodiscard]] int workers() const;
  [[nodiscard]] std::vector<ClusterNode> nodes() const;
  [[nodiscard]] ClusterCounts counts() const;
  [[nodiscard]] ClusterStats stats() const;

  /// No more tasks are taken. The agents are nobody's, and stay.
  void close();
  /// After close() or terminate(): waits until every task has its result. Throws StateError.
  void join();
  /// What has no result fails with TaskCancelled, and the agents stop it; no more is taken.
  void terminate();

 private:
  friend PoolCalls<ClusterPool>;
  [[nodiscard]] detail::ClusterCalls how() const {
    return detail::ClusterCalls(client_, {}, false);
  }

  std::shared_ptr<detail::ClusterClient> client_;
};

/// What ClusterPool::with() returns: the calls of a pool with options. Refers to the pool, and
/// keeps it going.
class ClusterCaller : public PoolCalls<ClusterCaller> {
 public:
  explicit ClusterCaller(detail::ClusterCalls calls) : calls_(std::move(calls)) {}

 private:
  friend PoolCalls<ClusterCaller>;
  [[nodiscard]] const detail::ClusterCalls& how() const { return calls_; }

  detail::ClusterCalls calls_;
};

}  // namespace brood
