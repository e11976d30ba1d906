#include <agents.hpp>

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include <brood/cluster/agent.hpp>
#include <brood/cluster/pace.hpp>

#include <client.hpp>
#include <server.hpp>

namespace brood::simulation {

Agents::Agents(World& world) : world_(world), agents_(world.model.agents) {}

void Agents::connect(Server& server, Client& client) {
  server_ = &server;
  client_ = &client;
}

void Agents::start() {
  for (std::uint32_t who = 0; who < agents_.size(); ++who) {
    count(agents_[who], 1);
    be_born(who);
  }
}

bool Agents::connected(const Agent& agent) const { return !agent.cut && !server_->away(); }

template <class Action>
void Agents::at(Time time, std::uint32_t who, Action action) {
  world_.timeline.at(time,
                     [this, who, life = agents_[who].life, action] { fire(who, life, action); });
}

template <class Action>
void Agents::fire(std::uint32_t who, std::uint32_t life, Action action) {
  const Agent& agent = agents_[who];
  if (!agent.alive || agent.life != life) return;
  if (hangs(agent)) {
    world_.timeline.at(agent.hangs_until, [this, who, life, action] { fire(who, life, action); });
    return;
  }
  action();
}

void Agents::count(const Agent& agent, int sign) {
  const auto workers = static_cast<std::int64_t>(world_.model.workers) * sign;
  const auto busy = static_cast<std::int64_t>(agent.busy) * sign;
  if (!agent.alive) {
    dead_ += workers;
  } else if (hangs(agent)) {
    hanging_ += workers;
  } else {
    present_ += static_cast<std::uint32_t>(sign);
    (agent.cut ? idle_cut_ : idle_) += workers - busy;
  }
}

void Agents::account() {
  const double seconds = in_seconds(world_.now() - std::exchange(accounted_, world_.now()));
  ClusterOutcome::Spent& spent = world_.outcome.spent;
  spent.dead += static_cast<double>(dead_) * seconds;
  spent.hanging += static_cast<double>(hanging_) * seconds;
  spent.cut_off += static_cast<double>(idle_cut_) * seconds;
  double& idle = server_->away() ? spent.server_away : client_->has_more() ? spent.idle : spent.end;
  idle += static_cast<double>(idle_) * seconds;
}

void Agents::be_born(std::uint32_t who) {
  Agent& agent = agents_[who];
  account();
  count(agent, -1);
  const std::uint32_t life = agent.life;
  const bool cut = agent.cut;
  agent = Agent{};
  agent.alive = true;
  agent.cut = cut;
  agent.life = life;
  agent.trouble = world_.now();
  agent.name = fmt::format("node{}.{}", who, life);
  agent.workers.resize(world_.model.workers);
  agent.heard = world_.now();
  count(agent, 1);

  const auto phase = [&](Duration most) {
    return world_.now() + std::chrono::duration_cast<Duration>(most * world_.chance());
  };
  agent.next_beat = phase(detail::AgentSetup{}.beat);
  at(phase(detail::kAgentTick), who, [this, who] { look_after(who); });
  at(phase(detail::kAgentFull), who, [this, who] { fetch(who); });
  const ClusterModel& model = world_.model;
  if (model.between_deaths.count() > 0) {
    const Time dies = world_.now() + world_.exponential(model.between_deaths);
    world_.timeline.at(dies, [this, who, life] {
      if (agents_[who].life == life && !world_.over) die(who);
    });
  }
  if (model.between_hangs.count() > 0) {
    at(world_.now() + world_.exponential(model.between_hangs), who, [this, who] { hang(who); });
  }
}

void Agents::die(std::uint32_t who) {
  Agent& agent = agents_[who];
  account();
  count(agent, -1);
  ++world_.outcome.deaths;
  for (const Worker& worker : agent.workers) {
    if (!worker.busy) continue;
    world_.outcome.spent.unfinished += ran(agent, worker);
  }
  ++agent.life;
  agent.alive = false;
  agent.busy = 0;
  agent.jobs.clear();
  agent.queue.clear();
  agent.trouble = world_.now();
  count(agent, 1);
  world_.timeline.after(world_.model.replaced_after, [this, who] { be_born(who); });
}

void Agents::hang(std::uint32_t who) {
  Agent& agent = agents_[who];
  if (world_.over) return;
  account();
  count(agent, -1);
  ++world_.outcome.hangs;
  const auto length =
      std::chrono::duration_cast<Duration>(world_.model.lease * (1 + 2 * world_.chance()));
  agent.hangs_until = world_.now() + length;
  agent.stood_still += length;
  agent.trouble = world_.now();
  count(agent, 1);
  world_.timeline.at(agent.hangs_until, [this, who, life = agent.life] {
    Agent& awake = agents_[who];
    if (!awake.alive || awake.life != life) return;
    account();
    // Since now it counts as awake.
    hanging_ -= world_.model.workers;
    awake.hangs_until = Time(0);
    count(awake, 1);
    const Time next = world_.now() + world_.exponential(world_.model.between_hangs);
    at(next, who, [this, who] { hang(who); });
  });
}

Time Agents::in_trouble_since(std::uint32_t who, std::uint32_t life) const {
  const Agent& agent = agents_[who];
  const bool well = agent.alive && agent.life == life && !hangs(agent) && !agent.cut;
  return well ? world_.now() : agent.trouble;
}

void Agents::cut_off(double share) {
  account();
  for (Agent& agent : agents_) {
    if (world_.chance() >= share) continue;
    count(agent, -1);
    agent.cut = true;
    if (agent.alive && !hangs(agent)) agent.trouble = world_.now();
    count(agent, 1);
  }
}

void Agents::heal() {
  account();
  for (std::uint32_t who = 0; who < agents_.size(); ++who) {
    Agent& agent = agents_[who];
    if (!agent.cut) continue;
    count(agent, -1);
    agent.cut = false;
    count(agent, 1);
    if (agent.alive) reconnect(who);
  }
}

void Agents::reconnected() {
  for (std::uint32_t who = 0; who < agents_.size(); ++who) {
    if (agents_[who].alive && !agents_[who].cut) reconnect(who);
  }
}

// What it said meanwhile goes now, in one go.
void Agents::reconnect(std::uint32_t who) {
  at(world_.now(), who, [this, who] {
    Agent& agent = agents_[who];
    if (!connected(agent)) return;
    if (std::exchange(agent.extensions, false)) extend(who);
    for (Reply& said : std::exchange(agent.replies, {})) {
      reply(who, agent.life, said.attempt, std::move(said.parcel));
    }
    for (const std::uint64_t id : std::exchange(agent.dones, {})) server_->done(id);
  });
}

bool Agents::idle() const {
  return std::ranges::all_of(agents_, [](const Agent& agent) { return agent.jobs.empty(); });
}

double Agents::begun() const {
  double seconds = 0;
  for (const Agent& agent : agents_) {
    if (!agent.alive) continue;
    for (const Worker& worker : agent.workers) {
      if (worker.busy) seconds += ran(agent, worker);
    }
  }
  return seconds;
}

double Agents::ran(const Agent& agent, const Worker& worker) const {
  // Of a hang that has begun only what has passed.
  const Duration ahead = std::max(Duration(0), agent.hangs_until - world_.now());
  return in_seconds(world_.now() - worker.began - (agent.stood_still - ahead - worker.stood_still));
}

void Agents::fetch(std::uint32_t who) {
  Agent& agent = agents_[who];
  if (agent.in_hand >= detail::kAgentAhead * world_.model.workers) {
    agent.full = true;
    agent.full_since = world_.now();
    return;
  }
  const std::uint32_t number = ++agent.pull;
  const Time expires = world_.now() + detail::kAgentFetch;
  at(expires, who, [this, who, number] {
    if (agents_[who].pull == number) fetch(who);  // nothing came
  });
  if (!connected(agent)) return;
  world_.timeline.after(world_.model.costs.latency,
                        [this, who, life = agent.life, number, expires] {
                          if (!connected(agents_[who]) || server_->pull(who, life, number, expires))
                            return;
                          server_->served(world_.model.costs.done, 2, 2 * Sizes::kSmall);
                          // A server that has lost all knows nothing of tasks until the client has
                          // been there.
                          at(world_.now() + detail::kServerUnknown, who, [this, who, number] {
                            if (agents_[who].pull == number) fetch(who);
                          });
                        });
}

void Agents::has_room(std::uint32_t who) {
  Agent& agent = agents_[who];
  if (!agent.full || agent.in_hand >= detail::kAgentAhead * world_.model.workers) return;
  agent.full = false;
  // It looks now and then.
  const Duration tick = detail::kAgentFull;
  const auto ticks = (world_.now() - agent.full_since) / tick + 1;
  at(agent.full_since + ticks * tick, who, [this, who] { fetch(who); });
}

void Agents::deliver(Time left, std::uint32_t who, std::uint32_t life, Parcel parcel) {
  const std::uint32_t held = world_.parcels.put(std::move(parcel));
  world_.timeline.at(left + world_.model.costs.latency, [this, who, life, held] {
    const Agent& agent = agents_[who];
    // To a machine that has gone, it is lost.
    if (!agent.alive || agent.life != life || agent.cut) {
      world_.parcels.take(held);
      return;
    }
    fire(who, life, [this, who, held] { take_on(who, world_.parcels.take(held)); });
  });
}

void Agents::take_on(std::uint32_t who, Parcel parcel) {
  Agent& agent = agents_[who];
  agent.heard = world_.now();
  const std::uint64_t number = ++last_job_;
  Job& job = agent.jobs[number];
  job.lot = std::move(parcel.lot);
  job.id = parcel.id;
  if (parcel.times > detail::AgentSetup{}.most_deliveries) {
    job.given_up = true;
    hand_over(who, number);
  } else {
    job.left = job.lot->size();
    agent.in_hand += static_cast<std::uint32_t>(job.left);
    for (const std::uint32_t task : *job.lot) agent.queue.push_back({number, task});
    start_tasks(who);
  }
  fetch(who);
}

void Agents::start_tasks(std::uint32_t who) {
  Agent& agent = agents_[who];
  if (agent.queue.empty() || agent.busy == agent.workers.size()) return;
  account();
  count(agent, -1);
  for (std::uint32_t at = 0; at < agent.workers.size() && !agent.queue.empty(); ++at) {
    Worker& worker = agent.workers[at];
    if (worker.busy) continue;
    const Queued next = agent.queue.front();
    agent.queue.pop_front();
    worker = {.busy = true,
              .job = next.job,
              .task = next.task,
              .stood_still = agent.stood_still,
              .allowed = agent.stood_still,
              .began = world_.now(),
              .turn = worker.turn + 1};
    ++agent.busy;
    world_.timeline.after(
        world_.duration_of(next.task),
        [this, who, life = agent.life, at, turn = worker.turn] { finish(who, life, at, turn); });
  }
  count(agent, 1);
}

void Agents::finish(std::uint32_t who, std::uint32_t life, std::uint32_t at, std::uint32_t turn) {
  Agent& agent = agents_[who];
  if (!agent.alive || agent.life != life) return;
  Worker& worker = agent.workers[at];
  if (!worker.busy || worker.turn != turn) return;
  if (worker.allowed < agent.stood_still) {  // it takes longer by so much
    const Duration more = agent.stood_still - std::exchange(worker.allowed, agent.stood_still);
    world_.timeline.after(more, [this, who, life, at, turn] { finish(who, life, at, turn); });
    return;
  }
  account();
  count(agent, -1);
  worker.busy = false;
  --agent.busy;
  count(agent, 1);
  world_.outcome.spent.twice += in_seconds(world_.duration_of(worker.task));
  --agent.in_hand;
  const std::uint64_t number = worker.job;
  start_tasks(who);
  if (--agent.jobs.at(number).left == 0) hand_over(who, number);
  has_room(who);
}

void Agents::hear_client() {
  for (Agent& agent : agents_) {
    if (agent.alive && !agent.cut) agent.heard = std::max(world_.now(), agent.hangs_until);
  }
}

void Agents::look_after(std::uint32_t who) {
  Agent& agent = agents_[who];
  if (agent.replying && !connected(agent)) {  // its thread waits for an answer
    agent.look_waits = true;
    return;
  }
  const Time now = world_.now();
  const detail::AgentSetup setup;
  if (now >= agent.next_beat) {
    agent.next_beat = now + setup.beat;
    if (connected(agent)) {
      const std::uint64_t bytes = 2 * world_.sizes.beat;
      const Time passed = server_->served(world_.model.costs.pass_on, 2, bytes);
      world_.timeline.at(passed + world_.model.costs.latency, [this, who, life = agent.life] {
        const Agent& from = agents_[who];
        if (from.life != life) return;
        client_->hear({.node = from.name,
                       .build = Client::kBuild,
                       .slots = world_.model.workers,
                       .in_hand = from.in_hand});
      });
    }
  }
  if (!agent.jobs.empty() && now - agent.heard > setup.client_silence) drop_all(who);
  if (now >= agent.next_extension) {
    agent.next_extension = now + world_.model.lease / 3;
    if (connected(agent)) {
      extend(who);
    } else {
      agent.extensions = true;
    }
  }
  for (const std::uint64_t number : std::exchange(agent.refused, {})) hand_over(who, number);
  const Duration next = agent.jobs.empty() ? detail::kAgentIdle : detail::kAgentTick;
  at(now + next, who, [this, who] { look_after(who); });
}

void Agents::extend(std::uint32_t who) {
  for (const auto& [number, job] : agents_[who].jobs) server_->extend(job.id);
}

// It has heard of no client for too long: what runs is stopped, what waits is left out.
void Agents::drop_all(std::uint32_t who) {
  Agent& agent = agents_[who];
  account();
  count(agent, -1);
  for (Worker& worker : agent.workers) {
    if (!worker.busy) continue;
    worker.busy = false;
    world_.outcome.spent.unfinished += ran(agent, worker);
  }
  agent.busy = 0;
  agent.in_hand = 0;
  agent.queue.clear();
  count(agent, 1);
  std::vector<std::uint64_t> ended;
  for (auto& [number, job] : agent.jobs) {
    job.dropped = true;
    if (std::exchange(job.left, 0) > 0) ended.push_back(number);
  }
  for (const std::uint64_t number : ended) hand_over(who, number);
  has_room(who);
}

void Agents::hand_over(std::uint32_t who, std::uint64_t job) {
  agents_[who].to_reply.push_back(job);
  if (!agents_[who].replying) reply_next(who);
}

// One after the other: each waits for its confirmation.
void Agents::reply_next(std::uint32_t who) {
  Agent& agent = agents_[who];
  agent.replying = false;
  while (!agent.to_reply.empty()) {
    const std::uint64_t number = agent.to_reply.front();
    const Job& job = agent.jobs.at(number);
    if (job.dropped) {
      say_done(who, job.id);
      agent.to_reply.pop_front();
      agent.jobs.erase(number);
      continue;
    }
    agent.replying = true;
    const std::uint32_t attempt = ++agent.attempt;
    Parcel parcel{.lot = job.lot, .given_up = job.given_up};
    if (!connected(agent)) {
      agent.replies.push_back({attempt, std::move(parcel)});
      at(world_.now() + detail::kServerAnswer, who,
         [this, who, attempt] { replied(who, attempt, false); });
      return;
    }
    const std::uint32_t held = world_.parcels.put(std::move(parcel));
    world_.timeline.after(world_.model.costs.latency,
                          [this, who, life = agent.life, attempt, held] {
                            reply(who, life, attempt, world_.parcels.take(held));
                          });
    return;
  }
  if (std::exchange(agent.look_waits, false)) look_after(who);
}

void Agents::reply(std::uint32_t who, std::uint32_t life, std::uint32_t attempt, Parcel parcel) {
  const Agent& agent = agents_[who];
  if (server_->away() || agent.cut) {  // it was on its way
    if (agent.life != life) return;
    at(world_.now() + detail::kServerAnswer, who,
       [this, who, attempt] { replied(who, attempt, false); });
    return;
  }
  const std::uint64_t bytes =
      world_.sizes.result_message + parcel.lot->size() * world_.sizes.result + Sizes::kSmall;
  const Time stored = server_->served(world_.model.costs.store, 2, bytes);
  const bool taken = server_->store_results(std::move(parcel));
  if (agent.life != life) return;
  at(stored + world_.model.costs.latency, who,
     [this, who, attempt, taken] { replied(who, attempt, taken); });
}

void Agents::replied(std::uint32_t who, std::uint32_t attempt, bool taken) {
  Agent& agent = agents_[who];
  if (!agent.replying || attempt != agent.attempt) return;  // it was not waited for so long
  const std::uint64_t number = agent.to_reply.front();
  agent.to_reply.pop_front();
  if (taken || agent.jobs.at(number).dropped) {
    say_done(who, agent.jobs.at(number).id);
    agent.jobs.erase(number);
  } else {
    agent.refused.push_back(number);
  }
  reply_next(who);
}

void Agents::say_done(std::uint32_t who, std::uint64_t id) {
  Agent& agent = agents_[who];
  if (!connected(agent)) {
    agent.dones.push_back(id);
    return;
  }
  world_.timeline.after(world_.model.costs.latency, [this, who, id] {
    if (connected(agents_[who])) server_->done(id);
  });
}

}  // namespace brood::simulation
