#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <brood/channel/thunk.hpp>
#include <brood/cluster/engine.hpp>
#include <brood/cluster/message.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

struct ClientSetup {
  std::string key;
  /// Without an agent of this build for so long, tasks fail with NoAgents.
  std::chrono::nanoseconds patience = std::chrono::seconds(10);
  /// An agent that has not been heard of for so long is gone.
  std::chrono::nanoseconds silence = std::chrono::seconds(5);
  /// How often it is looked whether tasks were lost, while no results come.
  std::chrono::nanoseconds audit = std::chrono::milliseconds(500);
  /// Tasks with the engine or agents at once, for each worker that agents have; more, where they
  /// are short.
  std::uint32_t window = 16;
};

/// Where the result of a task that was sent goes.
class ClusterTask {
 public:
  ClusterTask() = default;
  ClusterTask(const ClusterTask&) = delete;
  ClusterTask& operator=(const ClusterTask&) = delete;
  virtual ~ClusterTask() = default;
  /// Once, from a thread of the client's.
  virtual void finish(std::span<const std::byte> value) = 0;
  virtual void fail(std::exception_ptr error) = 0;
};

/// What tasks of one call have in common.
struct TaskKind {
  FunctionId function{};
  Bytes prefix;
  std::int64_t timeout = 0;
  std::int64_t cpu_time = 0;
  std::uint64_t memory = 0;
  std::uint32_t retries = 0;
  std::int64_t backoff = 0;
  bool at_most_once = false;
};

/// Figures of a client since it was made.
struct ClusterCounts {
  std::uint64_t tasks = 0;
  std::uint64_t messages = 0;    // with tasks, sent
  std::uint64_t resent = 0;      // tasks that the engine had lost
  std::uint64_t duplicates = 0;  // results that were there already
  std::uint64_t refused = 0;     // messages that were not signed, or made no sense
};

/// The source of truth about the tasks of one process: each is kept until its result is there,
/// whatever the engine and the agents lose meanwhile. A task may run more than once; its first
/// result counts, and the others are dropped.
///
/// Two threads: one sends, and looks whether something was lost; one receives. Private memory; any
/// threads of the process that made it may use it at once.
///
/// How a loss is noticed: if no result has come between two looks, and at both the engine had
/// nothing for this build, waiting or handed out, then what was sent before the first and has no
/// result is nowhere. It is sent again; what was to run at most once fails with TaskLost.
class ClusterClient {
 public:
  ClusterClient(std::unique_ptr<ClientEngine> engine, ClientSetup setup, ClientId id);
  ClusterClient(const ClusterClient&) = delete;
  ClusterClient& operator=(const ClusterClient&) = delete;
  /// Tasks without a result fail with TaskCancelled.
  ~ClusterClient();

  /// A number by which it can be forgotten. Throws ArgumentError when it is too large to send.
  std::uint64_t submit(const std::shared_ptr<const TaskKind>& kind, Bytes call,
                       std::shared_ptr<ClusterTask> task);
  /// Nobody wants it: if it has not been sent it is not, and its result is dropped.
  void forget(std::uint64_t number) noexcept;

  struct Node {
    std::string name;
    std::uint32_t slots = 0;
    std::uint32_t in_hand = 0;
    bool can_run = false;  // it is of this build
  };
  [[nodiscard]] std::vector<Node> nodes();
  [[nodiscard]] ClusterCounts counts();

 private:
  using Time = Deadline::Clock::time_point;
  struct Entry {
    std::shared_ptr<const TaskKind> kind;
    Bytes call;
    std::shared_ptr<ClusterTask> task;
    std::uint32_t attempt = 0;
    bool sent = false;
    Time sent_at{};
  };
  struct Heard {
    NodeBeat beat;
    Time at;
  };
  using Lock = std::unique_lock<std::mutex>;

  void run_sender();
  void run_receiver();
  /// The next message's tasks, taken off the queue; empty when there is no room.
  std::vector<std::uint64_t> take_next();
  void put_back(const std::vector<std::uint64_t>& numbers);
  bool send(const std::vector<std::uint64_t>& numbers);
  void hear(Time now);
  void measure(Time now);
  void look_for_losses(Time now);
  [[nodiscard]] bool idle();
  void accept(const ResultMessage& message);
  [[nodiscard]] std::uint32_t slots() const;
  /// Out of the table; null if it is not there. With the mutex held.
  std::shared_ptr<ClusterTask> take_out(std::uint64_t number) noexcept;
  void fail_all(const std::vector<std::uint64_t>& numbers, const std::exception_ptr& error);
  void wake() noexcept;

  const std::unique_ptr<ClientEngine> engine_;
  const ClientSetup setup_;
  const ClientId id_;
  const std::uint64_t build_;
  std::uint64_t next_message_ = 0;  // the sender's, as are the next four
  bool empty_ = false;              // the engine has nothing,
  Time empty_since_{};              // and had nothing since then
  std::uint64_t empty_received_ = 0;
  Time no_agents_since_;
  std::atomic<std::uint32_t> kick_{0};  // the sender sleeps on it
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::map<std::uint64_t, Entry> entries_;  // guarded by mutex_, as all below
  std::deque<std::uint64_t> queue_;         // to be sent
  std::uint64_t next_number_ = 1;
  std::uint64_t in_flight_ = 0;  // entries that are sent
  std::uint64_t received_ = 0;   // messages
  std::unordered_map<std::string, Heard> heard_;
  std::size_t together_ = 4;  // tasks in a message
  std::uint64_t finished_ = 0;
  std::uint64_t measured_ = 0;  // of them
  Time measured_at_ = Deadline::Clock::now();
  ClusterCounts counts_;
  std::thread sender_;
  std::thread receiver_;
};

}  // namespace brood::detail
