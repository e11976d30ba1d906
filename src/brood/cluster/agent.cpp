#include <brood/cluster/agent.hpp>

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/exception_data.hpp>
#include <brood/cluster/pace.hpp>
#include <brood/errors.hpp>
#include <brood/platform/quiet_thread.hpp>

namespace brood::detail {
namespace {

/// Numbers of cancelled tasks that are remembered for each client, in case that they come yet.
constexpr std::size_t kMostCancelled = 100'000;
constexpr std::size_t kReplyBytes = std::size_t{256} << 10U;
constexpr std::size_t kReplyOverhead = 4096;  // of a reply, at most

TaskResult failed(std::uint64_t number, std::uint32_t attempt) {
  TaskResult result{
      .number = number, .attempt = attempt, .kind = TaskResult::Kind::error, .bytes = {}};
  encode_error(result.bytes, record_exception(std::current_exception()));
  return result;
}

}  // namespace

Agent::Agent(AgentEngine& engine, std::shared_ptr<PoolCore> pool, AgentSetup setup)
    : engine_(engine), pool_(std::move(pool)), setup_(std::move(setup)), keys_(setup_.key) {}

Agent::~Agent() {
  end_.store(true);
  if (fetcher_.joinable()) fetcher_.join();
}

void Agent::run_fetcher() {
  const std::uint32_t most = kAgentAhead * setup_.workers;
  while (!stop_.load() && !end_.load()) {
    if (in_hand_.load() >= most) {
      std::this_thread::sleep_for(kAgentFull);
      continue;
    }
    std::optional<AgentEngine::Delivery> delivery = engine_.fetch(Deadline::after(kAgentFetch));
    if (!delivery) continue;
    // Counted from here on, or the next one would be fetched before this one is looked at.
    in_hand_.fetch_add(1);
    {
      const std::scoped_lock lock(mutex_);
      arrived_.push_back(*std::move(delivery));
    }
    completed_->push(kArrival);
  }
}

void Agent::run(std::chrono::nanoseconds grace) {
  fetcher_ = start_quiet_thread([this] { run_fetcher(); });
  Deadline end = Deadline::never();
  for (;;) {
    look_after(Deadline::Clock::now());
    const bool nothing = jobs_.empty() && !stop_.load();
    do_next(Deadline::after(nothing ? kAgentIdle : kAgentTick));
    if (!stop_.load()) continue;
    if (end.is_never()) end = Deadline::after(grace);
    const bool idle = jobs_.empty() && in_hand_.load() == 0;
    if (idle || end.passed()) break;
  }
  end_.store(true);
  fetcher_.join();
  const std::scoped_lock lock(mutex_);
  for (const AgentEngine::Delivery& delivery : arrived_) engine_.give_back(delivery.id);
  for (auto& [id, job] : jobs_) {
    // What has a result need not be run again, the rest is another's.
    hand_over(id, job);
    if (!job.acknowledged) engine_.give_back(id);
  }
  for (auto& [ticket, running] : running_) pool_->cancel(running.task);
}

void Agent::do_next(Deadline deadline) {
  const std::optional<std::size_t> ticket = completed_->pop(deadline);
  if (!ticket) return;
  if (*ticket != kArrival) {
    collect(*ticket);
    return;
  }
  AgentEngine::Delivery delivery;
  {
    const std::scoped_lock lock(mutex_);
    delivery = std::move(arrived_.front());
    arrived_.pop_front();
  }
  take_on(std::move(delivery));
}

void Agent::take_on(AgentEngine::Delivery delivery) {
  const std::uint64_t id = delivery.id;
  TaskMessage message;
  try {
    message = open_task(delivery.message, keys_);
  } catch (const Error& e) {
    static_cast<void>(e);
    // Nobody here or elsewhere can read it: handed out again it would come back for ever.
    in_hand_.fetch_sub(1);
    engine_.done(id);
    return;
  }
  in_hand_.fetch_add(static_cast<std::uint32_t>(message.items.size()));
  in_hand_.fetch_sub(1);
  Job& job = jobs_[id];
  job.client = message.client;
  clients_[message.client].heard = Deadline::Clock::now();
  job.left = message.items.size();
  if (delivery.times > setup_.most_deliveries) {
    const std::string why =
        fmt::format("the task was handed out {} times, and the node that had it was lost each time",
                    delivery.times - 1);
    for (const TaskItem& item : message.items) {
      const auto text = std::as_bytes(std::span(why));
      add(job, {.number = item.number,
                .attempt = item.attempt,
                .kind = TaskResult::Kind::lost,
                .bytes = Bytes(text.begin(), text.end())});
    }
  } else {
    if (message.kind.at_most_once) {
      // SUBTLE: it is here, but may be elsewhere too: this process was stopped or cut off since it
      // was handed out, or the engine has it twice. `done` would not tell.
      const AgentEngine::Claim claim = engine_.claim(fmt::format(
          "{}.{}.{}", message.client, message.items.at(0).number, message.items.at(0).attempt));
      if (claim != AgentEngine::Claim::mine) {
        in_hand_.fetch_sub(static_cast<std::uint32_t>(message.items.size()));
        jobs_.erase(id);
        if (claim == AgentEngine::Claim::taken) engine_.done(id);
        if (claim == AgentEngine::Claim::unknown) engine_.give_back(id);
        return;
      }
      engine_.done(id);
      job.acknowledged = true;
    }
    start(id, message);
  }
  if (job.left == 0 && hand_over(id, job)) jobs_.erase(id);
}

void Agent::start(std::uint64_t id, const TaskMessage& message) {
  const TaskKind& kind = message.kind;
  std::shared_ptr<CallLimits> limits;
  if (kind.timeout != 0 || kind.cpu_time != 0 || kind.memory != 0 || kind.retries != 0 ||
      kind.priority != 0) {
    limits = std::make_shared<CallLimits>();
    limits->timeout = std::chrono::nanoseconds(kind.timeout);
    limits->cpu_time = std::chrono::nanoseconds(kind.cpu_time);
    limits->memory = kind.memory;
    limits->retries = kind.retries;
    limits->backoff = std::chrono::nanoseconds(kind.backoff);
    limits->max_backoff = std::chrono::nanoseconds(kind.max_backoff);
    limits->jitter = kind.jitter;
    limits->priority = kind.priority;
  }
  Job& job = jobs_[id];
  const std::unordered_set<std::uint64_t>& cancelled = clients_[message.client].cancelled;
  for (const TaskItem& item : message.items) {
    if (cancelled.contains(item.number)) {
      leave_out(job);
      continue;
    }
    try {
      // Only what is in the table of functions: a number from outside names nothing else.
      static_cast<void>(resolve_thunk(kind.function, ThunkKind::task));
      Bytes call = kind.prefix;
      call.insert(call.end(), item.call.begin(), item.call.end());
      const std::size_t ticket = next_ticket_++;
      PoolCore::Task task = pool_->submit(kind.function, call, {}, limits);
      running_.emplace(
          ticket, Running{.job = id, .number = item.number, .attempt = item.attempt, .task = task});
      pool_->when_ready(task, [completed = completed_, ticket] { completed->push(ticket); });
    } catch (const std::exception& e) {
      static_cast<void>(e);
      add(job, failed(item.number, item.attempt));
    }
  }
}

void Agent::collect(std::size_t ticket) {
  const auto found = running_.find(ticket);
  if (found == running_.end()) return;
  const Running running = std::move(found->second);
  running_.erase(found);
  const auto job = jobs_.find(running.job);
  if (job != jobs_.end()) {
    if (running.unwanted) {
      leave_out(job->second);
    } else {
      add(job->second, result_of(running));
    }
    if (job->second.left == 0 && hand_over(job->first, job->second)) jobs_.erase(job);
  }
  pool_->release(running.task);
}

TaskResult Agent::result_of(const Running& running) {
  try {
    const std::span<const std::byte> bytes = pool_->result(running.task);
    if (bytes.size() + kReplyOverhead > engine_.most_bytes()) {
      throw MessageTooLarge(fmt::format(
          "a result of {} bytes: {} is the most that comes back from the cluster; write it where "
          "all nodes can read it, a file or a database, and return its name",
          bytes.size(), engine_.most_bytes() - kReplyOverhead));
    }
    return {.number = running.number,
            .attempt = running.attempt,
            .kind = TaskResult::Kind::value,
            .bytes = Bytes(bytes.begin(), bytes.end())};
  } catch (...) {
    return failed(running.number, running.attempt);
  }
}

void Agent::leave_out(Job& job) {
  --job.left;
  in_hand_.fetch_sub(1);
}

void Agent::add(Job& job, TaskResult result) {
  job.results.push_back(std::move(result));
  leave_out(job);
}

void Agent::read_notes(Time now) {
  for (const Bytes& bytes : engine_.notes()) {
    ClientNote note;
    try {
      note = open_note(bytes, keys_);
    } catch (const Error& e) {
      static_cast<void>(e);  // of another cluster's client, or a stranger
      continue;
    }
    if (note.ended) {
      drop_tasks(note.client, nullptr);
      clients_.erase(note.client);
      continue;
    }
    Client& client = clients_[note.client];
    client.heard = now;
    if (note.cancelled.empty()) continue;
    if (client.cancelled.size() > kMostCancelled) client.cancelled.clear();
    client.cancelled.insert(note.cancelled.begin(), note.cancelled.end());
    drop_tasks(note.client, &client.cancelled);
  }
  std::erase_if(clients_, [&](const auto& client) {
    if (now - client.second.heard <= setup_.client_silence) return false;
    drop_tasks(client.first, nullptr);
    return true;
  });
}

// Tasks end as cancelled ones do, and are left out then. Null: all of the client's.
void Agent::drop_tasks(const ClientId& client, const std::unordered_set<std::uint64_t>* numbers) {
  for (auto& [ticket, running] : running_) {
    const auto job = jobs_.find(running.job);
    if (job == jobs_.end() || job->second.client != client || running.unwanted) continue;
    if (numbers != nullptr && !numbers->contains(running.number)) continue;
    running.unwanted = true;
    pool_->cancel(running.task);
  }
  if (numbers != nullptr) return;
  for (auto& [id, job] : jobs_) {
    if (job.client == client) job.results.clear();
  }
}

bool Agent::hand_over(std::uint64_t id, Job& job) {
  while (!job.results.empty()) {
    ResultMessage message{.client = job.client, .node = setup_.node, .results = {}};
    std::size_t bytes = 0;
    std::size_t count = 0;
    while (count < job.results.size() &&
           (count == 0 || bytes + job.results[count].bytes.size() < kReplyBytes)) {
      bytes += job.results[count++].bytes.size();
    }
    const auto first = job.results.begin();
    message.results.assign(first, first + static_cast<std::ptrdiff_t>(count));
    if (!engine_.reply(job.client, sign(message, keys_))) return false;
    job.results.erase(first, first + static_cast<std::ptrdiff_t>(count));
  }
  // SUBTLE: the results first, then the tasks: killed in between, they are run again, not lost.
  if (job.left == 0 && !job.acknowledged) engine_.done(id);
  return job.left == 0;
}

void Agent::look_after(Time now) {
  if (now >= next_beat_) {
    next_beat_ = now + setup_.beat;
    engine_.beat(sign(NodeBeat{.node = setup_.node,
                               .build = setup_.build,
                               .slots = stop_.load() ? 0 : setup_.workers,
                               .in_hand = in_hand_.load()},
                      keys_));
  }
  read_notes(now);
  const bool partly = now >= next_partly_;
  if (partly) next_partly_ = now + kAgentTick;
  const bool extend = now >= next_extension_;
  if (extend) next_extension_ = now + engine_.lease() / 3;
  for (auto job = jobs_.begin(); job != jobs_.end();) {
    if (extend && !job->second.acknowledged) engine_.extend(job->first);
    // Those that the engine did not take before, and now and then those that wait for slower ones.
    const bool any = job->second.left == 0 || (partly && !job->second.results.empty());
    if (any && hand_over(job->first, job->second)) {
      job = jobs_.erase(job);
    } else {
      ++job;
    }
  }
}

}  // namespace brood::detail
