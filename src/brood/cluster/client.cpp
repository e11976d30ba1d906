#include <brood/cluster/client.hpp>

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/callback_threads.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/cluster/pace.hpp>
#include <brood/errors.hpp>
#include <brood/platform/futex.hpp>
#include <brood/platform/quiet_thread.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr auto kReceive = 200ms;  // between two looks at whether it is to end
constexpr auto kDeaf = 1s;        // more than a look may take
/// What a message has beside its calls, at most.
constexpr std::size_t kCallOverhead = 4096;

std::exception_ptr error_of(const TaskResult& result, const std::string& node) {
  try {
    if (result.kind == TaskResult::Kind::lost) {
      throw TaskLost(
          std::string(reinterpret_cast<const char*>(result.bytes.data()), result.bytes.size()));
    }
    ErrorRecord record = decode_error(result.bytes);
    if (record.process.empty()) record.process = node;
    throw_error(record);
  } catch (...) {
    return std::current_exception();
  }
}

bool worth_it(const RetryIf& retry_if, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    try {
      return retry_if(e);
    } catch (...) {  // counts as no
      return false;
    }
  } catch (...) {
    return false;
  }
}

}  // namespace

ClusterClient::ClusterClient(std::unique_ptr<ClientEngine> engine, ClientSetup setup, ClientId id)
    : engine_(std::move(engine)),
      setup_(std::move(setup)),
      keys_(setup_.key),
      id_(std::move(id)),
      build_(own_build()),
      heard_at_(Deadline::Clock::now()),
      table_(setup_.table, build_, Deadline::Clock::now()),
      waiting_(std::make_unique<DurationHistogram>()),
      away_(std::make_unique<DurationHistogram>()) {
  table_.on_result = [this](std::chrono::nanoseconds waited, std::chrono::nanoseconds away) {
    waiting_->add(waited.count(), 1);
    away_->add(away.count(), 1);
  };
  sender_ = start_quiet_thread([this] { run_sender(); });
  receiver_ = start_quiet_thread([this] { run_receiver(); });
}

ClusterClient::~ClusterClient() {
  stop_.store(true);
  wake();
  sender_.join();
  receiver_.join();
  std::vector<std::shared_ptr<ClusterTask>> left;
  {
    const Lock lock(mutex_);
    told_ = told_ || table_.in_flight() > 0;
    left = table_.take_all();
  }
  if (told_) {
    engine_->note(sign(ClientNote{.client = id_, .ended = true, .cancelled = {}}, keys_));
  }
  const auto error =
      std::make_exception_ptr(TaskCancelled("the pool of the cluster ended before the task had"));
  for (const auto& task : left) task->fail(error);
}

void ClusterClient::wake() noexcept {
  kick_.fetch_add(1);
  futex_wake_all(kick_);
}

std::uint64_t ClusterClient::submit(const std::shared_ptr<const ClusterCall>& call, Bytes bytes,
                                    std::shared_ptr<ClusterTask> task) {
  const std::size_t all = call->kind.prefix.size() + bytes.size() + kCallOverhead;
  if (all > engine_->most_bytes()) {
    throw ArgumentError(fmt::format(
        "a task of {} bytes: {} is the most that goes to the cluster; put the data where all nodes "
        "can read it, a file or a database, and send its name",
        all - kCallOverhead, engine_->most_bytes() - kCallOverhead));
  }
  std::uint64_t number = 0;
  bool first = false;
  {
    const Lock lock(mutex_);
    if (closed_) throw PoolClosed("the pool of the cluster was closed: it takes no more tasks");
    first = !table_.waiting();
    number = table_.add(call, std::move(bytes), std::move(task), Deadline::Clock::now());
  }
  if (first) wake();
  return number;
}

void ClusterClient::forget(std::uint64_t number) noexcept {
  std::shared_ptr<ClusterTask> task;  // ends without the mutex
  {
    const Lock lock(mutex_);
    task = table_.drop(number);
    begin_handing_over();
  }
  end_handing_over();
}

ClusterClient::Sent ClusterClient::send_until(Time end) {
  for (;;) {
    const Time now = Deadline::Clock::now();
    if (now >= end) return Sent::some;
    TaskTable::Batch batch;
    {
      const Lock lock(mutex_);
      batch = table_.next(now);
    }
    if (!batch.call) return Sent::all;
    TaskMessage message{.client = id_, .kind = batch.call->kind, .items = std::move(batch.items)};
    const std::string name = fmt::format("{}.{}", id_, ++next_message_);
    bool taken = false;
    try {
      taken = engine_->send(build_, name, sign(message, keys_));
    } catch (const std::exception& e) {
      static_cast<void>(e);  // no memory: later
    }
    const Lock lock(mutex_);
    if (taken) {
      ++table_.counts.messages;
      continue;
    }
    // What is to run once is not sent twice: the look tells whether it is there.
    if (batch.call->kind.at_most_once && engine_->may_have_arrived()) {
      return Sent::no_room;
    }
    batch.items = std::move(message.items);
    table_.put_back(batch);
    return Sent::no_room;
  }
}

void ClusterClient::refuse() {
  const Lock lock(mutex_);
  ++table_.counts.refused;
}

void ClusterClient::hear(Time now) {
  for (const Bytes& bytes : engine_->beats()) {
    try {
      NodeBeat beat = open_beat(bytes, keys_);
      const Lock lock(mutex_);
      table_.hear(std::move(beat), now);
    } catch (const Error& e) {
      static_cast<void>(e);  // a stranger, who may be right in a cluster of his own
      refuse();
    }
  }
  // That no agent is heard of says nothing while the engine is away, or does not answer what this
  // thread asked it.
  const bool deaf = !engine_->reachable() || now - std::exchange(heard_at_, now) > kDeaf;
  TaskTable::Failed failed;
  {
    const Lock lock(mutex_);
    if (deaf) table_.unreachable(now);
    failed = table_.tick(now);
    begin_handing_over();
  }
  fail(std::move(failed));
}

void ClusterClient::look(Time now) {
  {
    const Lock lock(mutex_);
    if (!table_.wants_look(now)) return;
  }
  const bool nothing = engine_->empty(build_);
  TaskTable::Failed failed;
  {
    const Lock lock(mutex_);
    failed = table_.looked(nothing, now);
    begin_handing_over();
  }
  fail(std::move(failed));
}

// Agents do what they have for a client that they hear of, and stop what it does not want.
void ClusterClient::tell_agents(Time now) {
  ClientNote note{.client = id_, .cancelled = {}};
  {
    const Lock lock(mutex_);
    note.cancelled = table_.take_dropped();
    if (note.cancelled.empty() && (now < next_note_ || table_.in_flight() == 0)) return;
  }
  next_note_ = now + kClientNote;
  told_ = true;
  // A million numbers make no message.
  constexpr std::size_t kMost = 4096;
  std::vector<std::uint64_t> all = std::move(note.cancelled);
  do {
    const std::size_t count = std::min(kMost, all.size());
    const auto from = all.end() - static_cast<std::ptrdiff_t>(count);
    note.cancelled.assign(from, all.end());
    all.erase(from, all.end());
    engine_->note(sign(note, keys_));
  } while (!all.empty());
}

void ClusterClient::run_sender() {
  Time next_look = Deadline::Clock::now();
  while (!stop_.load()) {
    const std::uint32_t kick = kick_.load();
    Sent sent = Sent::all;
    try {
      const Time now = Deadline::Clock::now();
      if (now >= next_look) {
        hear(now);
        look(now);
        tell_agents(now);
        next_look = now + kClientTick;
      }
      // Who has much to send hears, looks and tells in between.
      sent = send_until(next_look);
    } catch (const std::exception& e) {
      static_cast<void>(e);  // no memory: what is not sent stays in the queue, or is found lost
      sent = Sent::no_room;
    }
    if (sent == Sent::some) continue;
    const bool full = sent == Sent::no_room;
    futex_wait({&kick_, kick}, Deadline::after(full     ? kClientFull
                                               : idle() ? kClientIdle
                                                        : kClientTick));
  }
}

void ClusterClient::run_receiver() {
  while (!stop_.load()) {
    const std::optional<Bytes> bytes = engine_->receive(Deadline::after(kReceive));
    if (!bytes) continue;
    try {
      accept(open_result(*bytes, keys_));
    } catch (const Error& e) {
      static_cast<void>(e);
      refuse();
    }
  }
}

void ClusterClient::accept(const ResultMessage& message) {
  using What = TaskTable::Verdict::What;
  if (message.client != id_) throw DecodeError("a result for another client");
  bool room = false;
  {
    const Lock lock(mutex_);
    begin_handing_over();
  }
  for (const TaskResult& result : message.results) {
    const bool good = result.kind == TaskResult::Kind::value;
    TaskTable::Verdict verdict;
    {
      const Lock lock(mutex_);
      verdict = table_.accept(result, Deadline::Clock::now());
      if (verdict.what == What::final) {
        ClusterStats::Node& node = by_node_[message.node];
        ++node.results;
        if (!good) ++node.failures;
      }
      room = room || table_.waiting();
    }
    if (verdict.what == What::final) {
      if (good) {
        verdict.task->finish(result.bytes);
      } else {
        verdict.task->fail(error_of(result, message.node));
      }
    } else if (verdict.what == What::question) {
      ask(verdict.call, result.number, error_of(result, message.node));
    }
  }
  {
    const Lock lock(mutex_);
    table_.accepted();
  }
  end_handing_over();
  if (room) wake();
}

// The caller's predicate may take its time, which is not the receiver's.
void ClusterClient::ask(const std::shared_ptr<const ClusterCall>& call, std::uint64_t number,
                        std::exception_ptr error) {
  post_callback([weak = weak_from_this(), call, number, error = std::move(error)]() mutable {
    const bool again = worth_it(call->retry_if, error);
    const std::shared_ptr<ClusterClient> client = weak.lock();
    if (!client) return;  // its tasks have failed
    std::shared_ptr<ClusterTask> task;
    {
      const Lock lock(client->mutex_);
      if (again) {
        const double chance = std::uniform_real_distribution<double>(0, 1)(client->random_);
        client->table_.try_again(number, Deadline::Clock::now(), chance);
      } else {
        task = client->table_.drop(number);
      }
      client->begin_handing_over();
    }
    if (task) task->fail(std::move(error));
    client->end_handing_over();
  });
}

void ClusterClient::fail(TaskTable::Failed failed) {
  for (auto& each : failed) each.first->fail(std::move(each.second));
  end_handing_over();
}

void ClusterClient::end_handing_over() {
  {
    const Lock lock(mutex_);
    if (--handing_over_ > 0 || !table_.empty() || !closed_) return;
  }
  ended_.fetch_add(1);
  futex_wake_all(ended_);
}

void ClusterClient::close() {
  const Lock lock(mutex_);
  closed_ = true;
}

void ClusterClient::terminate() {
  TaskTable::Failed failed;
  {
    const Lock lock(mutex_);
    closed_ = true;
    failed = table_.fail_everything(std::make_exception_ptr(
        TaskCancelled("the pool of the cluster was terminated before the task had ended")));
    begin_handing_over();
  }
  fail(std::move(failed));
  wake();
}

void ClusterClient::join() {
  for (;;) {
    const std::uint32_t ended = ended_.load();
    {
      const Lock lock(mutex_);
      if (!closed_) throw StateError("join: close or terminate the pool first");
      if (table_.empty() && handing_over_ == 0) return;
    }
    futex_wait({&ended_, ended}, Deadline::never());
  }
}

bool ClusterClient::idle() {
  const Lock lock(mutex_);
  return table_.empty();
}

std::vector<TaskTable::Node> ClusterClient::nodes() {
  const Lock lock(mutex_);
  return table_.nodes();
}

std::uint32_t ClusterClient::workers() {
  const Lock lock(mutex_);
  return table_.workers();
}

ClusterCounts ClusterClient::counts() {
  const Lock lock(mutex_);
  return table_.counts;
}

ClusterStats ClusterClient::stats() {
  ClusterStats stats;
  const Lock lock(mutex_);
  stats.counts = table_.counts;
  waiting_->add_to(stats.waiting);
  away_->add_to(stats.away);
  for (const auto& [name, node] : by_node_) {
    stats.nodes.push_back(node);
    stats.nodes.back().name = name;
  }
  std::ranges::sort(stats.nodes, {}, &ClusterStats::Node::name);
  return stats;
}

}  // namespace brood::detail
