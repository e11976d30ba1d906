#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <brood/cluster/message.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/retry.hpp>

namespace brood::detail {

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

/// A call of a ClusterPool: what its tasks have in common, here and far away. Never changed.
struct ClusterCall {
  TaskKind kind;
  /// Failures that the caller is asked about come back and are sent again from here; without a
  /// predicate the agents see to `kind.retries`.
  std::uint32_t retries = 0;
  RetryIf retry_if;
  /// From the call on; of its tasks what has no result then fails with TaskTimeout. 0: none.
  std::chrono::nanoseconds deadline{0};
  Deadline::Clock::time_point made{};
};

/// What a client knows of its tasks and of the nodes, and what it decides: what to send next, what
/// was lost, what has taken too long. It has no threads, no clock and no engine: times are
/// parameters, so that it can be run in virtual time. Not for several threads at once.
///
/// A task is in the table from add() until its first result, its cancellation, or until it is
/// given up; whatever comes for a task that is not there is dropped.
class TaskTable {
 public:
  using Time = Deadline::Clock::time_point;

  struct Setup {
    /// Without an agent of this build for so long, tasks fail with NoAgents.
    std::chrono::nanoseconds patience = std::chrono::seconds(10);
    /// An agent that has not been heard of for so long is gone.
    std::chrono::nanoseconds silence = std::chrono::seconds(5);
    /// How long a look must have found nothing, without results in between.
    std::chrono::nanoseconds audit = std::chrono::milliseconds(500);
    /// Tasks with the engine or agents at once, for each worker that agents have; more, where they
    /// are short.
    std::uint32_t window = 16;
    /// Their bytes, together; one goes in any case.
    std::size_t window_bytes = std::size_t{256} << 20U;
  };

  TaskTable(Setup setup, std::uint64_t build, Time now)
      : setup_(setup), build_(build), no_agents_since_(now), measured_at_(now) {}

  /// Its number.
  std::uint64_t add(std::shared_ptr<const ClusterCall> call, Bytes bytes,
                    std::shared_ptr<ClusterTask> task, Time now);
  /// Nobody wants it: the agents are to be told, if it was sent. Null if it is not there.
  std::shared_ptr<ClusterTask> drop(std::uint64_t number) noexcept;
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  /// Something may be there to be sent.
  [[nodiscard]] bool waiting() const { return !queues_.empty(); }
  [[nodiscard]] std::uint64_t in_flight() const { return in_flight_; }

  /// Tasks of one call that go together now; none when there is no room.
  struct Batch {
    std::shared_ptr<const ClusterCall> call;
    std::vector<TaskItem> items;
  };
  [[nodiscard]] Batch next(Time now);
  /// The engine did not take it.
  void put_back(const Batch& batch);

  /// What has ended, and why. It has left the table.
  using Failed = std::vector<std::pair<std::shared_ptr<ClusterTask>, std::exception_ptr>>;

  void hear(NodeBeat beat, Time now);
  /// The engine is away: who is not heard of may be there all the same, so tasks are patient.
  void unreachable(Time now);
  /// What the time brings: nodes that are gone, deadlines, attempts that are due. Now and then.
  [[nodiscard]] Failed tick(Time now);
  /// Whether the engine is to be asked if it has anything: nothing has come for a while.
  [[nodiscard]] bool wants_look(Time now);
  /// What it said.
  [[nodiscard]] Failed looked(bool nothing, Time now);
  /// Numbers of tasks that agents have and nobody wants, since the last call.
  [[nodiscard]] std::vector<std::uint64_t> take_dropped() { return std::exchange(dropped_, {}); }
  /// All that is left.
  [[nodiscard]] std::vector<std::shared_ptr<ClusterTask>> take_all();
  [[nodiscard]] Failed fail_everything(const std::exception_ptr& error);

  /// What a result means.
  struct Verdict {
    enum class What : std::uint8_t { old, final, question } what = What::old;
    std::shared_ptr<ClusterTask> task = {};        // final: it has left the table
    std::shared_ptr<const ClusterCall> call = {};  // question: is it worth another attempt?
  };
  [[nodiscard]] Verdict accept(const TaskResult& result, Time now);
  /// A message of results was read to its end.
  void accepted() { ++received_; }
  /// The answer to a question: again, after a pause. `chance`: 0 to 1.
  void try_again(std::uint64_t number, Time now, double chance);

  struct Node {
    std::string name;
    std::uint32_t slots = 0;
    std::uint32_t in_hand = 0;
    bool can_run = false;  // it is of this build
  };
  [[nodiscard]] std::vector<Node> nodes() const;
  /// Of those that can run its tasks.
  [[nodiscard]] std::uint32_t workers() const { return slots_; }

  /// Figures since it was made.
  struct Counts {
    std::uint64_t tasks = 0;
    std::uint64_t messages = 0;    // with tasks, sent
    std::uint64_t resent = 0;      // tasks that the engine had lost
    std::uint64_t duplicates = 0;  // results that were there already
    std::uint64_t refused = 0;     // messages that were not signed, or made no sense
    std::uint64_t retries = 0;     // attempts after a failure that the caller was asked about
    std::uint64_t cancelled = 0;   // tasks that agents had been sent
  };
  Counts counts;
  /// Told of each task that gets a result: how long it waited to be sent, how long it was away.
  std::function<void(std::chrono::nanoseconds, std::chrono::nanoseconds)> on_result;

 private:
  enum class State : std::uint8_t { queued, sent, asked, pausing };
  struct Entry {
    std::shared_ptr<const ClusterCall> call;
    Bytes bytes;
    std::shared_ptr<ClusterTask> task;
    State state = State::queued;
    std::uint32_t attempt = 1;
    Time added{};
    Time sent{};
  };
  using Entries = std::map<std::uint64_t, Entry>;
  struct Heard {
    NodeBeat beat;
    Time at;
  };

  void count(const NodeBeat& beat, bool there);
  void queue(std::uint64_t number, const Entry& entry, bool first);
  void set_state(Entry& entry, State state);
  std::shared_ptr<ClusterTask> take_out(Entries::iterator at) noexcept;
  void fail_all(Failed& failed, const std::vector<std::uint64_t>& numbers,
                const std::exception_ptr& error);
  void see_to_nodes(Failed& failed, Time now);
  void see_to_deadlines(Failed& failed, Time now);
  void measure(Time now);

  const Setup setup_;
  const std::uint64_t build_;
  Entries entries_;
  /// To be sent: by priority, the highest first, then as they came.
  std::map<std::int32_t, std::deque<std::uint64_t>, std::greater<>> queues_;
  std::multimap<Time, std::uint64_t> pausing_;
  std::multimap<Time, std::uint64_t> deadlines_;
  std::unordered_map<std::string, Heard> heard_;
  std::uint32_t slots_ = 0;  // of those that can run them,
  std::size_t able_ = 0;     // who are so many
  std::vector<std::uint64_t> dropped_;
  std::uint64_t next_number_ = 1;
  std::uint64_t in_flight_ = 0;      // entries that are sent
  std::size_t in_flight_bytes_ = 0;  // of theirs
  std::uint64_t received_ = 0;       // messages of results
  bool nothing_ = false;             // the engine has nothing,
  Time nothing_since_{};             // and had nothing since then,
  std::uint64_t nothing_received_ = 0;
  Time no_agents_since_;
  std::size_t together_ = 1;  // tasks in a message, as far as was measured
  std::uint64_t finished_ = 0;
  std::uint64_t measured_ = 0;  // of them
  Time measured_at_;
};

}  // namespace brood::detail
