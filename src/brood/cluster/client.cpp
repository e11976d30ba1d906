#include <brood/cluster/client.hpp>

#include <algorithm>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/platform/futex.hpp>
#include <brood/platform/quiet_thread.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr auto kReceive = 200ms;     // between two looks at whether it is to end
constexpr auto kTick = 50ms;         // between two looks at the engine
constexpr auto kIdle = 500ms;        // the same while there are no tasks
constexpr std::uint64_t kAhead = 4;  // messages for each worker at once
constexpr auto kNoRoom = 5ms;        // before an engine that took nothing is asked again
constexpr std::size_t kMostItems = 256;
constexpr std::size_t kMessageBytes = std::size_t{256} << 10U;
/// What a message has beside its calls, at most.
constexpr std::size_t kOverhead = 4096;

}  // namespace

ClusterClient::ClusterClient(std::unique_ptr<ClientEngine> engine, ClientSetup setup, ClientId id)
    : engine_(std::move(engine)),
      setup_(std::move(setup)),
      id_(std::move(id)),
      build_(own_build()),
      no_agents_since_(Deadline::Clock::now()) {
  sender_ = start_quiet_thread([this] { run_sender(); });
  receiver_ = start_quiet_thread([this] { run_receiver(); });
}

ClusterClient::~ClusterClient() {
  stop_.store(true);
  wake();
  sender_.join();
  receiver_.join();
  std::vector<std::uint64_t> left;
  {
    const Lock lock(mutex_);
    for (const auto& [number, entry] : entries_) left.push_back(number);
  }
  fail_all(left, std::make_exception_ptr(
                     TaskCancelled("the pool of the cluster ended before the task had")));
}

void ClusterClient::wake() noexcept {
  kick_.fetch_add(1);
  futex_wake_all(kick_);
}

std::uint64_t ClusterClient::submit(const std::shared_ptr<const TaskKind>& kind, Bytes call,
                                    std::shared_ptr<ClusterTask> task) {
  const std::size_t bytes = kind->prefix.size() + call.size() + kOverhead;
  if (bytes > engine_->most_bytes()) {
    throw ArgumentError(fmt::format(
        "a task of {} bytes: {} is the most that goes to the cluster; put the data where all nodes "
        "can read it, a file or a database, and send its name",
        bytes - kOverhead, engine_->most_bytes() - kOverhead));
  }
  std::uint64_t number = 0;
  bool first = false;
  {
    const Lock lock(mutex_);
    number = next_number_++;
    entries_.emplace(number, Entry{.kind = kind, .call = std::move(call), .task = std::move(task)});
    first = queue_.empty();
    queue_.push_back(number);
    ++counts_.tasks;
  }
  if (first) wake();
  return number;
}

void ClusterClient::forget(std::uint64_t number) noexcept {
  const Lock lock(mutex_);
  static_cast<void>(take_out(number));
}

std::shared_ptr<ClusterTask> ClusterClient::take_out(std::uint64_t number) noexcept {
  const auto found = entries_.find(number);
  if (found == entries_.end()) return nullptr;
  std::shared_ptr<ClusterTask> task = std::move(found->second.task);
  if (found->second.sent) --in_flight_;
  entries_.erase(found);  // from the queue it goes when its turn comes
  return task;
}

std::uint32_t ClusterClient::slots() const {
  std::uint32_t slots = 0;
  for (const auto& [name, heard] : heard_) {
    if (heard.beat.build == build_) slots += heard.beat.slots;
  }
  return slots;
}

std::vector<std::uint64_t> ClusterClient::take_next() {
  const Lock lock(mutex_);
  std::vector<std::uint64_t> numbers;
  // Before agents are known a few go out: whoever comes finds them.
  const std::uint64_t workers = std::max(slots(), 1U);
  const std::uint64_t room = workers * std::max<std::uint64_t>(setup_.window, kAhead * together_);
  // As many messages as there are workers, at least, so that all of them get some.
  const std::size_t fair = std::min<std::size_t>(queue_.size() / (2 * workers) + 1, together_);
  const TaskKind* kind = nullptr;
  std::size_t bytes = 0;
  while (!queue_.empty() && in_flight_ < room && numbers.size() < fair) {
    const auto found = entries_.find(queue_.front());
    if (found == entries_.end()) {  // forgotten
      queue_.pop_front();
      continue;
    }
    Entry& entry = found->second;
    if (kind != nullptr && kind != entry.kind.get()) break;
    if (kind != nullptr && bytes + entry.call.size() > kMessageBytes) break;
    if (kind == nullptr) bytes = entry.kind->prefix.size();
    kind = entry.kind.get();
    bytes += entry.call.size();
    entry.sent = true;
    entry.sent_at = Deadline::Clock::now();
    ++entry.attempt;
    ++in_flight_;
    numbers.push_back(queue_.front());
    queue_.pop_front();
  }
  return numbers;
}

void ClusterClient::put_back(const std::vector<std::uint64_t>& numbers) {
  const Lock lock(mutex_);
  for (const std::uint64_t number : numbers | std::views::reverse) {
    const auto found = entries_.find(number);
    if (found == entries_.end()) continue;
    if (std::exchange(found->second.sent, false)) --in_flight_;
    queue_.push_front(number);
  }
}

bool ClusterClient::send(const std::vector<std::uint64_t>& numbers) {
  TaskMessage message;
  {
    const Lock lock(mutex_);
    for (const std::uint64_t number : numbers) {
      const auto found = entries_.find(number);
      if (found == entries_.end()) continue;
      const Entry& entry = found->second;
      if (message.items.empty()) {
        const TaskKind& kind = *entry.kind;
        message.module = kind.function.module;
        message.offset = kind.function.offset;
        message.timeout = kind.timeout;
        message.cpu_time = kind.cpu_time;
        message.memory = kind.memory;
        message.retries = kind.retries;
        message.backoff = kind.backoff;
        message.at_most_once = kind.at_most_once;
        message.prefix = kind.prefix;
      }
      message.items.push_back({.number = number, .attempt = entry.attempt, .call = entry.call});
    }
  }
  if (message.items.empty()) return true;
  message.client = id_;
  const std::string name = fmt::format("{}.{}", id_, ++next_message_);
  if (!engine_->send(build_, name, sign(message, setup_.key))) return false;
  const Lock lock(mutex_);
  ++counts_.messages;
  return true;
}

void ClusterClient::hear(Time now) {
  for (const Bytes& bytes : engine_->beats()) {
    try {
      NodeBeat beat = open_beat(bytes, setup_.key);
      const Lock lock(mutex_);
      std::string name = beat.node;
      heard_.insert_or_assign(std::move(name), Heard{.beat = std::move(beat), .at = now});
    } catch (const Error& e) {
      static_cast<void>(e);  // a stranger, who may be right in a cluster of his own
      const Lock lock(mutex_);
      ++counts_.refused;
    }
  }
  std::vector<std::uint64_t> all;
  bool others = false;
  {
    const Lock lock(mutex_);
    std::erase_if(heard_, [&](const auto& node) { return now - node.second.at > setup_.silence; });
    if (slots() > 0 || entries_.empty()) no_agents_since_ = now;
    if (now - no_agents_since_ <= setup_.patience) return;
    for (const auto& [number, entry] : entries_) all.push_back(number);
    others = !heard_.empty();
    no_agents_since_ = now;
  }
  fail_all(all, std::make_exception_ptr(NoAgents(fmt::format(
                    "no agent of this build has been heard of for {} s{}: start this program "
                    "with --brood-agent",
                    std::chrono::duration<double>(setup_.patience).count(),
                    others ? ", only agents of other builds" : ""))));
}

// So many tasks go together as a worker does in the time that a message is worth: one of a long
// kind, many of a short one.
void ClusterClient::measure(Time now) {
  constexpr double kWorth = 0.02;  // seconds
  const Lock lock(mutex_);
  const double seconds = std::chrono::duration<double>(now - measured_at_).count();
  const auto done = static_cast<double>(finished_ - std::exchange(measured_, finished_));
  measured_at_ = now;
  if (done == 0 || seconds <= 0) return;
  const double each = seconds * std::max(slots(), 1U) / done;
  together_ = static_cast<std::size_t>(std::clamp(kWorth / each, 1.0, double{kMostItems}));
}

void ClusterClient::look_for_losses(Time now) {
  std::uint64_t received = 0;
  {
    const Lock lock(mutex_);
    if (in_flight_ == 0) {
      empty_ = false;
      return;
    }
    received = received_;
  }
  if (received != empty_received_) {
    // Something goes on: the engine need not be asked.
    empty_received_ = received;
    empty_ = false;
    return;
  }
  if (!engine_->empty(build_)) {
    empty_ = false;
    return;
  }
  if (!std::exchange(empty_, true)) {
    empty_since_ = now;
    return;
  }
  if (now - empty_since_ < setup_.audit) return;
  std::vector<std::uint64_t> lost;
  std::vector<std::uint64_t> given_up;
  {
    const Lock lock(mutex_);
    if (received != received_) return;
    for (auto& [number, entry] : entries_) {
      if (!entry.sent || entry.sent_at > empty_since_) continue;
      (entry.kind->at_most_once ? given_up : lost).push_back(number);
    }
    counts_.resent += lost.size();
  }
  empty_ = false;
  put_back(lost);
  fail_all(given_up, std::make_exception_ptr(TaskLost(
                         "the task, which was to run at most once, was lost with its node or on "
                         "its way: it has run, or has not")));
}

void ClusterClient::run_sender() {
  Time next_look = Deadline::Clock::now();
  while (!stop_.load()) {
    const std::uint32_t kick = kick_.load();
    bool full = false;
    try {
      const Time now = Deadline::Clock::now();
      if (now >= next_look) {
        hear(now);
        measure(now);
        look_for_losses(now);
        next_look = now + kTick;
      }
      for (;;) {
        const std::vector<std::uint64_t> numbers = take_next();
        if (numbers.empty()) break;
        if (!send(numbers)) {
          put_back(numbers);
          full = true;
          break;
        }
      }
    } catch (const std::exception& e) {
      static_cast<void>(e);  // no memory: what is not sent stays in the queue, or is found lost
      full = true;
    }
    futex_wait({&kick_, kick}, Deadline::after(full ? kNoRoom : idle() ? kIdle : kTick));
  }
}

void ClusterClient::run_receiver() {
  while (!stop_.load()) {
    const std::optional<Bytes> bytes = engine_->receive(Deadline::after(kReceive));
    if (!bytes) continue;
    try {
      accept(open_result(*bytes, setup_.key));
    } catch (const Error& e) {
      static_cast<void>(e);
      const Lock lock(mutex_);
      ++counts_.refused;
    }
  }
}

void ClusterClient::accept(const ResultMessage& message) {
  if (message.client != id_) throw DecodeError("a result for another client");
  bool room = false;
  for (const TaskResult& result : message.results) {
    std::shared_ptr<ClusterTask> task;
    {
      const Lock lock(mutex_);
      task = take_out(result.number);
      if (!task) {
        ++counts_.duplicates;  // or forgotten
        continue;
      }
      ++finished_;
      room = room || !queue_.empty();
    }
    if (result.kind == TaskResult::Kind::value) {
      task->finish(result.bytes);
      continue;
    }
    std::exception_ptr error;
    try {
      if (result.kind == TaskResult::Kind::lost) {
        throw TaskLost(
            std::string(reinterpret_cast<const char*>(result.bytes.data()), result.bytes.size()));
      }
      ErrorRecord record = decode_error(result.bytes);
      if (record.process.empty()) record.process = message.node;
      throw_error(record);
    } catch (...) {
      error = std::current_exception();
    }
    task->fail(error);
  }
  {
    const Lock lock(mutex_);
    ++received_;
  }
  if (room) wake();
}

void ClusterClient::fail_all(const std::vector<std::uint64_t>& numbers,
                             const std::exception_ptr& error) {
  for (const std::uint64_t number : numbers) {
    std::shared_ptr<ClusterTask> task;
    {
      const Lock lock(mutex_);
      task = take_out(number);
    }
    if (task) task->fail(error);
  }
}

std::vector<ClusterClient::Node> ClusterClient::nodes() {
  const Lock lock(mutex_);
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

bool ClusterClient::idle() {
  const Lock lock(mutex_);
  return entries_.empty();
}

ClusterCounts ClusterClient::counts() {
  const Lock lock(mutex_);
  return counts_;
}

}  // namespace brood::detail
