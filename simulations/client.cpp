#include <client.hpp>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <brood/cluster/pace.hpp>

#include <agents.hpp>
#include <server.hpp>

namespace brood::simulation {

using detail::TaskTable;

struct Client::Task final : detail::ClusterTask {
  Task(Client& c, std::uint32_t n) : client(c), number(n) {}
  void finish(std::span<const std::byte> /*value*/) override { client.ended(number, false); }
  void fail(std::exception_ptr error) override { client.failed(number, error); }
  Client& client;
  const std::uint32_t number;
};

Client::Client(World& world)
    : world_(world),
      table_(TaskTable::Setup{}, kBuild, table_time()),
      call_(std::make_shared<detail::ClusterCall>()),
      ended_(world.model.tasks) {}

void Client::connect(Server& server, Agents& agents) {
  server_ = &server;
  agents_ = &agents;
}

void Client::start() {
  submit();
  turn();
  receive();
}

TaskTable::Time Client::table_time() const {
  return TaskTable::Time(std::chrono::hours(1)) + world_.now();
}

void Client::submit() {
  const bool first = !table_.waiting();
  const std::uint64_t before = added_;
  const std::uint64_t at_once = world_.model.at_once;
  while (added_ < ended_.size()) {
    if (added_ >= (world_.model.ordered ? first_without_ : ended_count_) + at_once) break;
    const auto number = static_cast<std::uint32_t>(added_ + 1);
    const std::uint64_t given = table_.add(call_, detail::Bytes(world_.model.argument_bytes),
                                           std::make_shared<Task>(*this, number), table_time());
    if (given != number) world_.outcome.broken = "tasks are not numbered as they come";
    ++added_;
  }
  if (first && added_ > before) wake();
}

void Client::ended(std::uint32_t number, bool failed) {
  std::uint8_t& times = ended_[number - 1];
  if (++times != 1) {
    world_.outcome.broken = fmt::format("task {} ended {} times", number, times);
    return;
  }
  ++ended_count_;
  while (first_without_ < ended_.size() && ended_[first_without_] != 0) ++first_without_;
  ++world_.outcome.results;
  ++world_.second().results;
  if (failed) {
    ++world_.outcome.failures;
  } else {
    world_.outcome.spent.useful += in_seconds(world_.duration_of(number));
  }
}

// That its nodes were lost one after the other, an agent may say; nothing else may come of it.
void Client::failed(std::uint32_t number, const std::exception_ptr& error) {
  ended(number, true);
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    world_.outcome.broken = fmt::format("task {} failed: {}", number, e.what());
  }
}

void Client::fail(const TaskTable::Failed& failed) {
  for (const auto& [task, error] : failed) task->fail(error);
}

void Client::turn() {
  sleeping_ = false;
  if (world_.now() < next_look_) {
    send();
    return;
  }
  next_look_ = world_.now() + detail::kClientTick;
  for (detail::NodeBeat& beat : std::exchange(beats_, {})) {
    table_.hear(std::move(beat), table_time());
  }
  if (server_->away()) table_.unreachable(table_time());
  fail(table_.tick(table_time()));
  submit();
  if (table_.wants_look(table_time())) {
    look();
  } else {
    go_on();
  }
}

// Three questions, one after the other: what the two consumers have, and whether the stream of
// parts is there.
void Client::look() {
  static constexpr int kQuestions = 3;
  if (server_->away()) {
    // Two go unanswered, then the attempt to make what is not there.
    world_.timeline.after(kQuestions * detail::kServerAnswer, [this] { looked(false); });
    return;
  }
  world_.timeline.after(world_.model.costs.latency, [this] {
    if (server_->away()) {
      world_.timeline.after(kQuestions * detail::kServerAnswer, [this] { looked(false); });
      return;
    }
    const Costs& costs = world_.model.costs;
    server_->count_infos(kQuestions);
    const Time answered = server_->served(kQuestions * costs.inform, 2 * kQuestions,
                                          kQuestions * (Sizes::kSmall + Sizes::kInfo));
    const bool nothing = server_->knows() && server_->empty();
    if (!server_->knows()) server_->make();
    world_.timeline.at(answered + (2 * kQuestions - 1) * costs.latency,
                       [this, nothing] { looked(nothing); });
  });
}

void Client::looked(bool nothing) {
  fail(table_.looked(nothing, table_time()));
  submit();
  go_on();
}

void Client::go_on() {
  if (world_.now() >= next_note_ && table_.in_flight() > 0) {
    next_note_ = world_.now() + detail::kClientNote;
    world_.timeline.after(world_.model.costs.latency, [this] {
      if (server_->away()) return;
      const std::uint64_t all = world_.model.agents;
      const Time passed =
          server_->served(static_cast<std::int64_t>(all) * world_.model.costs.pass_on, all + 1,
                          (all + 1) * world_.sizes.note);
      world_.timeline.at(passed + world_.model.costs.latency, [this] { agents_->hear_client(); });
    });
  }
  send();
}

void Client::send() {
  batch_ = table_.next(table_time());
  if (!batch_.call) {
    sleep(detail::kClientTick);
    return;
  }
  std::vector<std::uint32_t> numbers;
  numbers.reserve(batch_.items.size());
  for (const detail::TaskItem& item : batch_.items) {
    numbers.push_back(static_cast<std::uint32_t>(item.number));
  }
  const Costs& costs = world_.model.costs;
  const Duration made =
      costs.client_message + static_cast<std::int64_t>(numbers.size()) * costs.client_task;
  const std::uint32_t parcel = world_.parcels.put(
      {.lot = std::make_shared<const std::vector<std::uint32_t>>(std::move(numbers))});
  world_.timeline.after(made + costs.latency,
                        [this, parcel, attempt = ++attempt_, connected = !server_->away()] {
                          publish(parcel, attempt, connected);
                        });
}

void Client::publish(std::uint32_t parcel, std::uint64_t attempt, bool connected) {
  const Lot lot = world_.parcels.take(parcel).lot;
  const Costs& costs = world_.model.costs;
  if (server_->away()) {
    // What was on its way is lost; what is said without a connection goes when there is one.
    if (!connected) buffered_.push_back({attempt, lot});
    world_.timeline.after(detail::kServerAnswer, [this, attempt] { answered(attempt, false); });
    return;
  }
  const Time stored = server_->served(
      costs.store, 2, world_.sizes.task_message + lot->size() * world_.sizes.task + Sizes::kSmall);
  const bool taken = server_->store_tasks(lot) == Server::Taken::yes;
  world_.timeline.at(stored + costs.latency, [this, attempt, taken] { answered(attempt, taken); });
}

void Client::answered(std::uint64_t attempt, bool taken) {
  if (attempt != attempt_ || !batch_.call) return;  // too late
  ++attempt_;
  if (!taken) {
    table_.put_back(std::exchange(batch_, {}));
    ensure();
    return;
  }
  ++table_.counts.messages;
  batch_ = {};
  // Between two messages, or who has much to send would hear nothing.
  if (world_.now() >= next_look_) {
    turn();
  } else {
    send();
  }
}

void Client::ensure() {
  constexpr int kRequests = 5;  // three streams, two consumers
  if (server_->away()) {
    world_.timeline.after(detail::kServerAnswer, [this] { sleep(detail::kClientFull); });
    return;
  }
  const Costs& costs = world_.model.costs;
  server_->make();
  server_->count_infos(kRequests);
  const Time made = server_->served(kRequests * costs.inform, 2 * kRequests,
                                    kRequests * (Sizes::kSmall + Sizes::kInfo));
  world_.timeline.at(made + 2 * kRequests * costs.latency, [this] { sleep(detail::kClientFull); });
}

void Client::sleep(Duration most) {
  sleeping_ = true;
  world_.timeline.after(most, [this, mine = ++sleep_] {
    if (sleeping_ && sleep_ == mine) turn();
  });
}

void Client::wake() {
  if (!sleeping_) return;
  sleeping_ = false;
  world_.timeline.after(Duration(0), [this] { turn(); });
}

void Client::reconnected() {
  const Costs& costs = world_.model.costs;
  for (const Publish& publish : std::exchange(buffered_, {})) {
    const Time stored = server_->served(costs.store, 2, world_.sizes.task_message + Sizes::kSmall);
    const bool taken = server_->store_tasks(publish.lot) == Server::Taken::yes;
    world_.timeline.at(stored + costs.latency,
                       [this, attempt = publish.attempt, taken] { answered(attempt, taken); });
  }
  if (waiting_ && server_->has_results()) results_are_there();
}

void Client::receive() {
  world_.timeline.after(world_.model.costs.latency, [this] {
    if (server_->away() || !server_->has_results()) {
      waiting_ = true;
    } else {
      fetch();
    }
  });
}

void Client::results_are_there() {
  if (!std::exchange(waiting_, false)) return;
  fetch();
}

void Client::fetch() {
  received_ = server_->take_results(detail::kResultsAtOnce);
  world_.timeline.at(server_->served(Duration(0), 0, 0) + world_.model.costs.latency,
                     [this] { accept(); });
}

void Client::accept() {
  using What = TaskTable::Verdict::What;
  const Costs& costs = world_.model.costs;
  Duration cost{0};
  bool room = false;
  for (const Parcel& parcel : received_) {
    cost += costs.client_message;
    for (const std::uint32_t number : *parcel.lot) {
      cost += costs.client_task;
      const auto kind =
          parcel.given_up ? detail::TaskResult::Kind::lost : detail::TaskResult::Kind::value;
      const TaskTable::Verdict verdict =
          table_.accept({.number = number, .attempt = 1, .kind = kind, .bytes = {}}, table_time());
      if (verdict.what == What::final) {
        if (parcel.given_up) {
          verdict.task->fail(nullptr);
        } else {
          verdict.task->finish({});
        }
      }
      room = room || table_.waiting();
    }
    table_.accepted();
  }
  const auto count = static_cast<std::int64_t>(received_.size());
  if (!server_->away()) {
    server_->served(count * costs.done, received_.size(), received_.size() * Sizes::kSmall);
  }
  received_.clear();
  submit();
  if (room) wake();
  world_.timeline.after(cost, [this] { receive(); });
}

}  // namespace brood::simulation
