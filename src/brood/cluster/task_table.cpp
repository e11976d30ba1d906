#include <brood/cluster/task_table.hpp>

#include <algorithm>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include <brood/cluster/pace.hpp>
#include <brood/errors.hpp>
#include <brood/pool/call_limits.hpp>

namespace brood::detail {
namespace {

constexpr std::uint64_t kAhead = 4;  // messages for each worker at once
constexpr std::size_t kShares = 4;   // the same for each node, of all that there is
constexpr std::size_t kMostItems = 256;
constexpr std::size_t kMessageBytes = std::size_t{256} << 10U;
constexpr std::size_t kFewDeadlines = 1000;

double in_seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

std::uint64_t TaskTable::add(std::shared_ptr<const ClusterCall> call, Bytes bytes,
                             std::shared_ptr<ClusterTask> task, Time now) {
  const std::uint64_t number = next_number_++;
  if (call->deadline.count() != 0) deadlines_.emplace(call->made + call->deadline, number);
  const auto at = entries_
                      .emplace(number, Entry{.call = std::move(call),
                                             .bytes = std::move(bytes),
                                             .task = std::move(task),
                                             .added = now})
                      .first;
  queue(number, at->second, false);
  ++counts.tasks;
  return number;
}

void TaskTable::queue(std::uint64_t number, const Entry& entry, bool first) {
  std::deque<std::uint64_t>& queue = queues_[entry.call->kind.priority];
  if (first) {
    queue.push_front(number);
  } else {
    queue.push_back(number);
  }
}

void TaskTable::set_state(Entry& entry, State state) {
  if (entry.state == State::sent) {
    --in_flight_;
    in_flight_bytes_ -= entry.bytes.size();
  }
  entry.state = state;
  if (state == State::sent) {
    ++in_flight_;
    in_flight_bytes_ += entry.bytes.size();
  }
}

// From the queue, and the times at which something is due, it goes when its turn comes.
std::shared_ptr<ClusterTask> TaskTable::take_out(Entries::iterator at) noexcept {
  std::shared_ptr<ClusterTask> task = std::move(at->second.task);
  set_state(at->second, State::queued);
  entries_.erase(at);
  return task;
}

std::shared_ptr<ClusterTask> TaskTable::drop(std::uint64_t number) noexcept {
  const auto found = entries_.find(number);
  if (found == entries_.end()) return nullptr;
  if (found->second.state == State::sent) {
    ++counts.cancelled;
    try {
      dropped_.push_back(number);
    } catch (const std::bad_alloc& e) {
      static_cast<void>(e);  // it runs to its end, and its result is dropped
    }
  }
  return take_out(found);
}

std::vector<std::shared_ptr<ClusterTask>> TaskTable::take_all() {
  std::vector<std::shared_ptr<ClusterTask>> tasks;
  tasks.reserve(entries_.size());
  while (!entries_.empty()) tasks.push_back(take_out(entries_.begin()));
  return tasks;
}

// A cluster of thousands of nodes is not walked for each message.
void TaskTable::count(const NodeBeat& beat, bool there) {
  if (beat.build != build_ || beat.slots == 0) return;
  slots_ = there ? slots_ + beat.slots : slots_ - beat.slots;
  able_ = there ? able_ + 1 : able_ - 1;
}

TaskTable::Batch TaskTable::next(Time now) {
  Batch batch;
  // Before agents are known a few go out: whoever comes finds them.
  const std::uint64_t workers = std::max(slots_, 1U);
  // What the engine has room for, with other clients.
  const std::uint64_t most = static_cast<std::uint64_t>(kMostTaskMessages) / 2 * together_;
  const std::uint64_t room =
      std::min(workers * std::max<std::uint64_t>(setup_.window, kAhead * together_), most);
  std::size_t bytes = 0;
  while (!queues_.empty()) {
    auto& [priority, queue] = *queues_.begin();
    if (queue.empty()) {
      queues_.erase(queues_.begin());
      continue;
    }
    const auto found = entries_.find(queue.front());
    if (found == entries_.end() || found->second.state != State::queued) {  // it has gone
      queue.pop_front();
      continue;
    }
    Entry& entry = found->second;
    if (in_flight_ >= room) break;
    if (in_flight_ > 0 && in_flight_bytes_ + entry.bytes.size() > setup_.window_bytes) break;
    // Some messages for each node, at least, so that all of them get some; what is away counts, or
    // a caller who refills a window would have his tasks sent one by one.
    const std::size_t left = queue.size() + in_flight_;
    const std::size_t fair =
        std::min<std::size_t>(left / (kShares * std::max(able_, std::size_t{1})) + 1, together_);
    if (batch.call) {
      if (batch.items.size() >= fair || batch.call != entry.call) break;
      if (bytes + entry.bytes.size() > kMessageBytes) break;
    } else {
      // SUBTLE: what a small message leaves free when it comes back would make the next as small,
      // and so on for ever: so there is none before there is room for a whole one.
      if (in_flight_ > 0 && in_flight_ + std::min(fair, queue.size()) > room) break;
      batch.call = entry.call;
      bytes = entry.call->kind.prefix.size();
    }
    bytes += entry.bytes.size();
    set_state(entry, State::sent);
    entry.sent = now;
    batch.items.push_back({.number = found->first, .attempt = entry.attempt, .call = entry.bytes});
    queue.pop_front();
  }
  return batch;
}

void TaskTable::put_back(const Batch& batch) {
  for (const TaskItem& item : batch.items | std::views::reverse) {
    const auto found = entries_.find(item.number);
    if (found == entries_.end() || found->second.state != State::sent) continue;
    set_state(found->second, State::queued);
    queue(item.number, found->second, true);
  }
}

void TaskTable::fail_all(Failed& failed, const std::vector<std::uint64_t>& numbers,
                         const std::exception_ptr& error) {
  for (const std::uint64_t number : numbers) {
    if (auto task = drop(number)) failed.emplace_back(std::move(task), error);
  }
}

void TaskTable::hear(NodeBeat beat, Time now) {
  std::string name = beat.node;
  const auto known = heard_.find(name);
  if (known != heard_.end()) count(known->second.beat, false);
  count(beat, true);
  heard_.insert_or_assign(std::move(name), Heard{.beat = std::move(beat), .at = now});
}

void TaskTable::unreachable(Time now) { no_agents_since_ = now; }

TaskTable::Failed TaskTable::tick(Time now) {
  Failed failed;
  see_to_nodes(failed, now);
  see_to_deadlines(failed, now);
  while (!pausing_.empty() && pausing_.begin()->first <= now) {
    const std::uint64_t number = pausing_.extract(pausing_.begin()).mapped();
    const auto found = entries_.find(number);
    if (found == entries_.end() || found->second.state != State::pausing) continue;
    set_state(found->second, State::queued);
    queue(number, found->second, false);
  }
  measure(now);
  return failed;
}

void TaskTable::see_to_nodes(Failed& failed, Time now) {
  std::erase_if(heard_, [&](const auto& node) {
    if (now - node.second.at <= setup_.silence) return false;
    count(node.second.beat, false);
    return true;
  });
  if (slots_ > 0 || entries_.empty()) no_agents_since_ = now;
  if (now - no_agents_since_ <= setup_.patience) return;
  no_agents_since_ = now;
  failed = fail_everything(std::make_exception_ptr(NoAgents(fmt::format(
      "no agent of this build has been heard of for {} s{}: start this program "
      "with --brood-agent",
      in_seconds(setup_.patience), heard_.empty() ? "" : ", only agents of other builds"))));
}

TaskTable::Failed TaskTable::fail_everything(const std::exception_ptr& error) {
  Failed failed;
  failed.reserve(entries_.size());
  while (!entries_.empty()) failed.emplace_back(drop(entries_.begin()->first), error);
  return failed;
}

void TaskTable::see_to_deadlines(Failed& failed, Time now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const std::uint64_t number = deadlines_.extract(deadlines_.begin()).mapped();
    const auto found = entries_.find(number);
    if (found == entries_.end()) continue;
    const double allowed = in_seconds(found->second.call->deadline);
    fail_all(failed, {number},
             std::make_exception_ptr(TaskTimeout(fmt::format(
                 "the task had not ended {} s after its call, which is the deadline", allowed))));
  }
  // Of tasks that ended in time they would stay till then.
  if (deadlines_.size() > 2 * entries_.size() + kFewDeadlines) {
    std::erase_if(deadlines_, [&](const auto& due) { return !entries_.contains(due.second); });
  }
}

// So many tasks go together as a worker does in the time that a message is worth: one of a long
// kind, many of a short one. With many workers, as all of them do in the time that a message may
// take: it is confirmed before the next one goes.
void TaskTable::measure(Time now) {
  constexpr double kWorth = 0.02;  // seconds
  constexpr double kPace = 0.001;
  const double seconds = in_seconds(now - measured_at_);
  const auto done = static_cast<double>(finished_ - std::exchange(measured_, finished_));
  measured_at_ = now;
  if (done == 0 || seconds <= 0) return;
  const double worth = std::max(kWorth / std::max(slots_, 1U), kPace);
  together_ = static_cast<std::size_t>(std::clamp(worth * done / seconds, 1.0, double{kMostItems}));
}

bool TaskTable::wants_look(Time /*now*/) {
  if (in_flight_ == 0 || received_ != nothing_received_) {
    // Nothing is away, or something goes on: the engine need not be asked.
    nothing_received_ = received_;
    nothing_ = false;
    return false;
  }
  return true;
}

TaskTable::Failed TaskTable::looked(bool nothing, Time now) {
  Failed failed;
  // A result that came meanwhile makes it worthless.
  if (!nothing || received_ != nothing_received_) {
    nothing_ = false;
    return failed;
  }
  if (!std::exchange(nothing_, true)) {
    nothing_since_ = now;
    return failed;
  }
  if (now - nothing_since_ < setup_.audit) return failed;
  nothing_ = false;
  std::vector<std::uint64_t> lost;
  std::vector<std::uint64_t> given_up;
  for (const auto& [number, entry] : entries_) {
    if (entry.state != State::sent || entry.sent > nothing_since_) continue;
    (entry.call->kind.at_most_once ? given_up : lost).push_back(number);
  }
  counts.resent += lost.size();
  for (const std::uint64_t number : lost | std::views::reverse) {
    Entry& entry = entries_.at(number);
    set_state(entry, State::queued);
    queue(number, entry, true);
  }
  fail_all(failed, given_up,
           std::make_exception_ptr(TaskLost(
               "the task, which was to run at most once, was lost with its node or on its way: it "
               "has run, or has not")));
  return failed;
}

TaskTable::Verdict TaskTable::accept(const TaskResult& result, Time now) {
  const auto found = entries_.find(result.number);
  const auto old = [&](const Entry& entry) {
    // A failure that was seen already, or that the caller is just being asked about.
    return result.kind != TaskResult::Kind::value &&
           (result.attempt != entry.attempt || entry.state == State::asked ||
            entry.state == State::pausing);
  };
  if (found == entries_.end() || old(found->second)) {
    ++counts.duplicates;
    return {};
  }
  Entry& entry = found->second;
  if (result.kind == TaskResult::Kind::error && static_cast<bool>(entry.call->retry_if) &&
      entry.attempt <= entry.call->retries) {
    set_state(entry, State::asked);
    return {.what = Verdict::What::question, .call = entry.call};
  }
  ++finished_;
  if (on_result) on_result(entry.sent - entry.added, now - entry.sent);
  return {.what = Verdict::What::final, .task = take_out(found)};
}

void TaskTable::try_again(std::uint64_t number, Time now, double chance) {
  const auto found = entries_.find(number);
  if (found == entries_.end() || found->second.state != State::asked) return;
  Entry& entry = found->second;
  const TaskKind& kind = entry.call->kind;
  CallLimits limits;
  limits.backoff = std::chrono::nanoseconds(kind.backoff);
  limits.max_backoff = std::chrono::nanoseconds(kind.max_backoff);
  limits.jitter = kind.jitter;
  const auto pause = limits.pause(entry.attempt, chance);
  ++entry.attempt;
  ++counts.retries;
  set_state(entry, State::pausing);
  pausing_.emplace(now + pause, number);
}

std::vector<TaskTable::Node> TaskTable::nodes() const {
  std::vector<Node> nodes;
  nodes.reserve(heard_.size());
  for (const auto& [name, heard] : heard_) {
    nodes.push_back({.name = name,
                     .slots = heard.beat.slots,
                     .in_hand = heard.beat.in_hand,
                     .can_run = heard.beat.build == build_});
  }
  std::ranges::sort(nodes, {}, &Node::name);
  return nodes;
}

}  // namespace brood::detail
