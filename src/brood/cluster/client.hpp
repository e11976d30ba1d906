#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <brood/cluster/engine.hpp>
#include <brood/cluster/message.hpp>
#include <brood/cluster/task_table.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/pool/duration_histogram.hpp>
#include <brood/pool_stats.hpp>

namespace brood::detail {

struct ClientSetup {
  std::string key;
  TaskTable::Setup table = {};
};

using ClusterCounts = TaskTable::Counts;

/// What a client can tell of its tasks' times; of what had a result.
struct ClusterStats {
  ClusterCounts counts;
  DurationStats waiting;  ///< from the call until it was sent the last time
  DurationStats away;     ///< from then until its result was here
  struct Node {
    std::string name;            ///< "host.pid"
    std::uint64_t results = 0;   ///< that came from it first
    std::uint64_t failures = 0;  ///< of them
  };
  std::vector<Node> nodes;  ///< by name, those that have gone included
};

/// The source of truth about the tasks of one process: each is kept until its result is there,
/// whatever the engine and the agents lose meanwhile. A task may run more than once; its first
/// result counts, and the others are dropped.
///
/// Two threads: one sends, and looks whether something was lost; one receives. Private memory; any
/// threads of the process that made it may use it at once. What is decided is TaskTable's.
///
/// How a loss is noticed: if no result has come between two looks, and at both the engine had
/// nothing for this build, waiting or handed out, then what was sent before the first and has no
/// result is nowhere. It is sent again; what was to run at most once fails with TaskLost.
class ClusterClient : public std::enable_shared_from_this<ClusterClient> {
 public:
  ClusterClient(std::unique_ptr<ClientEngine> engine, ClientSetup setup, ClientId id);
  ClusterClient(const ClusterClient&) = delete;
  ClusterClient& operator=(const ClusterClient&) = delete;
  /// Tasks without a result fail with TaskCancelled, and the agents are told.
  ~ClusterClient();

  /// A number by which it can be forgotten. Throws ArgumentError when it is too large to send,
  /// PoolClosed.
  std::uint64_t submit(const std::shared_ptr<const ClusterCall>& call, Bytes bytes,
                       std::shared_ptr<ClusterTask> task);
  /// Nobody wants it: if it has not been sent it is not, else the agents are told, who stop it; its
  /// result is dropped.
  void forget(std::uint64_t number) noexcept;

  /// Nothing more is taken.
  void close();
  /// The same, and what has no result fails with TaskCancelled; agents stop it.
  void terminate();
  /// After one of these: waits until every task has its result. Throws StateError.
  void join();

  [[nodiscard]] std::vector<TaskTable::Node> nodes();
  /// Of all nodes that can run its tasks.
  [[nodiscard]] std::uint32_t workers();
  [[nodiscard]] ClusterCounts counts();
  [[nodiscard]] ClusterStats stats();

 private:
  using Time = Deadline::Clock::time_point;
  using Lock = std::unique_lock<std::mutex>;

  void run_sender();
  void run_receiver();
  enum class Sent : std::uint8_t { all, some, no_room };
  /// All that there is room for, until then; or until the engine has none.
  Sent send_until(Time end);
  void hear(Time now);
  void look(Time now);
  void tell_agents(Time now);
  void accept(const ResultMessage& message);
  void ask(const std::shared_ptr<const ClusterCall>& call, std::uint64_t number,
           std::exception_ptr error);
  void fail(TaskTable::Failed failed);
  [[nodiscard]] bool idle();
  /// What was begun with begin_handing_over(), with the mutex held, has been done.
  void begin_handing_over() { ++handing_over_; }
  void end_handing_over();
  void refuse();
  void wake() noexcept;

  const std::unique_ptr<ClientEngine> engine_;
  const ClientSetup setup_;
  const MessageKeys keys_;
  const ClientId id_;
  const std::uint64_t build_;
  std::uint64_t next_message_ = 0;  // the sender's, as are the next three
  Time next_note_{};
  Time heard_at_;                       // the last time that it listened
  bool told_ = false;                   // agents know of this client
  std::atomic<std::uint32_t> kick_{0};  // the sender sleeps on it
  std::atomic<bool> stop_{false};
  std::atomic<std::uint32_t> ended_{0};  // joiners sleep on it: tasks have ended
  std::mutex mutex_;
  TaskTable table_;  // guarded by mutex_, as all below
  std::unordered_map<std::string, ClusterStats::Node> by_node_;
  const std::unique_ptr<DurationHistogram> waiting_;
  const std::unique_ptr<DurationHistogram> away_;
  std::minstd_rand random_{std::random_device()()};
  bool closed_ = false;
  unsigned handing_over_ = 0;  // threads that give tasks their results
  std::thread sender_;
  std::thread receiver_;
};

}  // namespace brood::detail
