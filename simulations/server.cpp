#include <server.hpp>

#include <algorithm>
#include <utility>

#include <brood/cluster/pace.hpp>

#include <agents.hpp>
#include <client.hpp>

namespace brood::simulation {
namespace {

using namespace std::chrono_literals;

constexpr auto kLeaseScan = 100ms;
constexpr auto kReconnect = 100ms;
/// A server that has started looks at leases after this.
constexpr auto kFirstScan = 1s;

}  // namespace

void Server::connect(Agents& agents, Client& client) {
  agents_ = &agents;
  client_ = &client;
}

void Server::start() { end_leases(); }

Time Server::served(Duration cost, std::uint64_t messages, std::uint64_t bytes) {
  Second& second = world_.second();
  second.messages += messages;
  second.bytes += bytes;
  second.server_busy += in_seconds(cost);
  free_ = std::max(free_, world_.now()) + cost;
  return free_;
}

void Server::come_back(bool loses_store) {
  away_ = false;
  pulls_.clear();
  free_ = world_.now();
  if (loses_store) {
    tasks_.clear();
    again_.clear();
    waiting_.clear();
    leases_.clear();
    results_.clear();
    knows_ = false;
  }
  for (Lease& lease : leases_) lease.until = std::max(lease.until, world_.now() + kFirstScan);
  for (auto& [id, task] : tasks_) task.until = std::max(task.until, world_.now() + kFirstScan);
  world_.timeline.after(kReconnect, [this] {
    if (away_) return;
    client_->reconnected();
    agents_->reconnected();
  });
}

Server::Taken Server::store_tasks(const Lot& lot) {
  if (!knows_) return Taken::unknown;
  if (std::cmp_greater_equal(tasks_.size(), detail::kMostTaskMessages)) return Taken::full;
  if (world_.model.loss > 0 && !world_.over && world_.chance() < world_.model.loss) {
    ++world_.outcome.lost_messages;
    return Taken::yes;
  }
  const std::uint64_t id = ++last_;
  tasks_.emplace(id, Task{.lot = lot});
  waiting_.push_back(id);
  hand_out();
  return Taken::yes;
}

bool Server::pull(std::uint32_t agent, std::uint32_t life, std::uint32_t number, Time expires) {
  if (!knows_) return false;
  pulls_.push_back({agent, life, number, expires});
  hand_out();
  return true;
}

void Server::hand_out() {
  while (!pulls_.empty()) {
    const Pull pull = pulls_.front();
    if (pull.expires <= world_.now()) {
      pulls_.pop_front();  // it says so
      served(world_.model.costs.done, 1, Sizes::kSmall);
      continue;
    }
    std::deque<std::uint64_t>& queue = again_.empty() ? waiting_ : again_;
    if (queue.empty()) return;
    const std::uint64_t id = queue.front();
    queue.pop_front();
    const auto found = tasks_.find(id);
    if (found == tasks_.end()) continue;  // done meanwhile, by the one who had it before
    pulls_.pop_front();
    Task& task = found->second;
    ++task.times;
    task.handed_out = true;
    task.agent = pull.agent;
    task.life = pull.life;
    task.until = world_.now() + world_.model.lease;
    leases_.push_back({task.until, id});
    const std::uint64_t bytes =
        world_.sizes.task_message + task.lot->size() * world_.sizes.task + Sizes::kSmall;
    const Time left = served(world_.model.costs.hand_out, 2, bytes);
    agents_->deliver(left, pull.agent, pull.life, {.lot = task.lot, .id = id, .times = task.times});
  }
}

void Server::extend(std::uint64_t id) {
  served(world_.model.costs.done, 1, Sizes::kSmall);
  const auto found = tasks_.find(id);
  if (found == tasks_.end() || !found->second.handed_out) return;
  found->second.until = world_.now() + world_.model.lease;
  leases_.push_back({found->second.until, id});
}

void Server::done(std::uint64_t id) {
  served(world_.model.costs.done, 1, Sizes::kSmall);
  tasks_.erase(id);
}

void Server::end_leases() {
  world_.timeline.after(kLeaseScan, [this] { end_leases(); });
  if (away_) return;
  ClusterOutcome& outcome = world_.outcome;
  while (!leases_.empty() && leases_.front().until <= world_.now()) {
    const std::uint64_t id = leases_.front().id;
    leases_.pop_front();
    const auto found = tasks_.find(id);
    if (found == tasks_.end()) continue;
    Task& task = found->second;
    if (!task.handed_out || task.until > world_.now()) continue;  // extended
    task.handed_out = false;
    const Duration waited = world_.now() - agents_->in_trouble_since(task.agent, task.life);
    ++outcome.handed_out_again;
    outcome.lease_wait += waited;
    outcome.longest_lease_wait = std::max(outcome.longest_lease_wait, waited);
    again_.push_back(id);
  }
  hand_out();
}

bool Server::store_results(Parcel parcel) {
  if (!knows_) return false;
  if (world_.model.loss > 0 && !world_.over && world_.chance() < world_.model.loss) {
    ++world_.outcome.lost_messages;
    return true;
  }
  results_.push_back(std::move(parcel));
  client_->results_are_there();
  return true;
}

std::vector<Parcel> Server::take_results(std::size_t most) {
  std::vector<Parcel> taken;
  while (!results_.empty() && taken.size() < most) {
    const std::uint64_t bytes =
        world_.sizes.result_message + results_.front().lot->size() * world_.sizes.result;
    served(world_.model.costs.hand_out_more, taken.empty() ? 2 : 1, bytes);
    taken.push_back(std::move(results_.front()));
    results_.pop_front();
  }
  return taken;
}

}  // namespace brood::simulation
