#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <brood/channel/completion_queue.hpp>
#include <brood/cluster/engine.hpp>
#include <brood/cluster/message.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/pool/pool_core.hpp>

namespace brood::detail {

struct AgentSetup {
  std::string key;
  std::string node;           // its name
  std::uint64_t build = 0;    // own_build(), but for tests
  std::uint32_t workers = 1;  // of its pool
  /// A task that was handed out more often is given up: its nodes were lost each time.
  std::uint32_t most_deliveries = 4;
  std::chrono::nanoseconds beat = std::chrono::seconds(1);
  /// Nothing is done for a client that has not been heard of for so long: it has ended, or will
  /// find its tasks lost and send them again.
  std::chrono::nanoseconds client_silence = std::chrono::seconds(30);
};

/// Tasks that an agent takes on for each worker: one that runs, and some, so that it need not wait
/// for the next.
constexpr std::uint32_t kAgentAhead = 4;

/// Takes tasks from an engine as far as there is room, runs them in a pool of this machine, and
/// hands results back. It runs nothing itself, so no task hurts it, and renews leases from its own
/// thread, so no task loses its lease by taking long. What clients do not want any more it stops.
///
/// The pool is made before the agent: an engine has threads. run() is for one thread, which it
/// keeps; stop() for any, signal handlers included.
///
/// What happens when the agent is killed: nothing of its deliveries is done; the engine hands them
/// out again when their leases end. Results that it had handed over count, so a task may run twice
/// and have one result. When it is stopped: the same; going on, it hands over results that nobody
/// needs any more.
class Agent {
 public:
  Agent(AgentEngine& engine, std::shared_ptr<PoolCore> pool, AgentSetup setup);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  ~Agent();

  /// Until stop(): then it takes no more, finishes what it has for at most `grace`, and gives the
  /// rest back. Throws what makes the pool of no use.
  void run(std::chrono::nanoseconds grace = std::chrono::seconds(30));
  void stop() noexcept { stop_.store(true); }

 private:
  using Time = Deadline::Clock::time_point;
  /// A message of tasks in hand.
  struct Job {
    ClientId client;
    std::size_t left = 0;  // tasks without a result
    bool acknowledged = false;
    std::vector<TaskResult> results = {};
  };
  struct Running {
    std::uint64_t job;
    std::uint64_t number;
    std::uint32_t attempt;
    PoolCore::Task task;
    bool unwanted = false;
  };
  /// A client of whose tasks there are some, or were lately.
  struct Client {
    Time heard;
    std::unordered_set<std::uint64_t> cancelled = {};
  };
  static constexpr std::size_t kArrival = ~std::size_t{0};

  void run_fetcher();
  /// What comes first: a delivery, or a task that has ended.
  void do_next(Deadline deadline);
  void take_on(AgentEngine::Delivery delivery);
  void start(std::uint64_t id, const TaskMessage& message);
  void collect(std::size_t ticket);
  [[nodiscard]] TaskResult result_of(const Running& running);
  void add(Job& job, TaskResult result);
  /// One of its tasks less, without a result.
  void leave_out(Job& job);
  void read_notes(Time now);
  void drop_tasks(const ClientId& client, const std::unordered_set<std::uint64_t>* numbers);
  /// False: the engine did not take all of them.
  bool hand_over(std::uint64_t id, Job& job);
  void look_after(Time now);

  AgentEngine& engine_;
  const std::shared_ptr<PoolCore> pool_;
  const AgentSetup setup_;
  const MessageKeys keys_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> end_{false};
  std::atomic<std::uint32_t> in_hand_{0};  // tasks
  std::mutex mutex_;
  std::deque<AgentEngine::Delivery> arrived_;  // guarded by mutex_
  std::shared_ptr<CompletionQueue> completed_ = std::make_shared<CompletionQueue>();
  // Of the thread that runs:
  std::unordered_map<std::uint64_t, Job> jobs_;  // by delivery
  std::unordered_map<std::size_t, Running> running_;
  std::unordered_map<ClientId, Client> clients_;
  std::size_t next_ticket_ = 0;
  Time next_beat_{};
  Time next_extension_{};
  Time next_partly_{};
  std::thread fetcher_;
};

}  // namespace brood::detail
