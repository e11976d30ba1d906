#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include <brood/cluster/message.hpp>

#include <agents.hpp>
#include <client.hpp>
#include <cluster_model.hpp>
#include <server.hpp>
#include <world.hpp>

namespace brood::simulation {
namespace {

using namespace std::chrono_literals;

/// Well mixed bits of a number: the finalizer of MurmurHash3.
std::uint64_t mixed(std::uint64_t n) {
  n ^= n >> 33U;
  n *= 0xff51afd7ed558ccdU;
  n ^= n >> 33U;
  n *= 0xc4ceb9fe1a85ec53U;
  return n ^ (n >> 33U);
}

double fraction(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11U) + 0.5) / static_cast<double>(std::uint64_t{1} << 53U);
}

constexpr std::string_view kKey = "the length of a signature is that of any key";

}  // namespace

Sizes::Sizes(const ClusterModel& model) {
  using namespace detail;
  const MessageKeys keys(kKey);
  const ClientId client(32, '0');
  const std::string node = "node123.4567";
  const auto task_bytes = [&](std::size_t n) {
    TaskMessage message{.client = client, .kind = {}, .items = {}};
    message.kind.prefix.resize(64);
    message.items.resize(n, {.number = 1, .attempt = 1, .call = Bytes(model.argument_bytes)});
    return sign(message, keys).size();
  };
  const auto result_bytes = [&](std::size_t n) {
    ResultMessage message{.client = client, .node = node, .results = {}};
    message.results.resize(n, {.number = 1, .bytes = Bytes(model.result_bytes)});
    return sign(message, keys).size();
  };
  task = task_bytes(2) - task_bytes(1);
  task_message = task_bytes(0) + kEnvelope;
  result = result_bytes(2) - result_bytes(1);
  result_message = result_bytes(0) + kEnvelope;
  beat = sign(NodeBeat{.node = node}, keys).size() + kEnvelope;
  note = sign(ClientNote{.client = client, .cancelled = {}}, keys).size() + kEnvelope;
}

Duration World::duration_of(std::uint32_t task) const {
  const std::uint64_t first = mixed(model.seed * 0x9e3779b97f4a7c15U + 2 * std::uint64_t{task});
  const double radius = std::sqrt(-2 * std::log(fraction(first)));
  const double normal = radius * std::cos(2 * std::numbers::pi * fraction(mixed(first + 1)));
  const double factor = std::exp(model.sigma * normal);
  return Duration(static_cast<std::int64_t>(static_cast<double>(model.median.count()) * factor));
}

namespace {

class Simulation {
 public:
  explicit Simulation(const ClusterModel& model)
      : world_(model), server_(world_), agents_(world_), client_(world_) {
    server_.connect(agents_, client_);
    agents_.connect(server_, client_);
    client_.connect(server_, agents_);
  }

  ClusterOutcome run() {
    const ClusterModel& model = world_.model;
    for (const Outage& outage : model.outages) {
      world_.timeline.at(outage.at, [this, outage] { begin(outage); });
    }
    for (const Partition& partition : model.partitions) {
      world_.timeline.at(partition.at, [this, partition] { begin(partition); });
    }
    world_.timeline.at(1s, [this] { end_second(); });
    server_.start();
    agents_.start();
    client_.start();
    while (!client_.finished() && world_.now() < model.at_most && world_.timeline.step()) {
    }
    sum_up();
    let_it_end();
    return std::move(world_.outcome);
  }

 private:
  void begin(const Outage& outage) {
    if (world_.over) return;
    agents_.account();
    server_.go_away();
    world_.timeline.after(outage.length, [this, loses = outage.loses_store] {
      agents_.account();
      server_.come_back(loses);
    });
  }
  void begin(const Partition& partition) {
    if (world_.over) return;
    agents_.cut_off(partition.share);
    world_.timeline.after(partition.length, [this] { agents_.heal(); });
  }

  void end_second() {
    auto at = static_cast<std::size_t>(world_.now() / 1s) - 1;
    world_.second();  // the one that begins
    Second& second = world_.outcome.seconds.at(at);
    second.in_flight = client_.in_flight();
    second.held = server_.held();
    second.present = agents_.present();
    world_.timeline.after(1s, [this] {
      if (!world_.over) end_second();
    });
  }

  void sum_up() {
    agents_.account();
    world_.over = true;
    ClusterOutcome& outcome = world_.outcome;
    const ClusterModel& model = world_.model;
    outcome.took = world_.now();
    for (std::uint64_t task = 1; task <= model.tasks; ++task) {
      outcome.ideal += world_.duration_of(static_cast<std::uint32_t>(task));
    }
    outcome.ideal /= static_cast<std::int64_t>(model.agents) * model.workers;
    outcome.spent.twice =
        std::max(0.0, outcome.spent.twice + agents_.begun() - outcome.spent.useful);
    if (!client_.finished()) {
      outcome.broken =
          fmt::format("after {:.0f} s {} of {} tasks had no result", in_seconds(outcome.took),
                      model.tasks - outcome.results, model.tasks);
    }
    for (const Second& second : outcome.seconds) {
      outcome.server_messages += second.messages;
      outcome.server_bytes += second.bytes;
      outcome.server_infos += second.infos;
      outcome.server_busy += second.server_busy / in_seconds(outcome.took);
    }
    outcome.task_messages = client_.counts().messages;
    outcome.resent = client_.counts().resent;
    if (outcome.handed_out_again > 0) {
      outcome.lease_wait /= static_cast<std::int64_t>(outcome.handed_out_again);
    }
    outcome.events = world_.timeline.added();
  }

  // Late results come, and are dropped; in the end nobody has anything.
  void let_it_end() {
    ClusterOutcome& outcome = world_.outcome;
    const ClusterOutcome until_then = outcome;
    const auto broken = [&] { return !outcome.broken.empty(); };
    const Time until = world_.now() + 20 * world_.model.lease;
    while (!broken() && !(server_.empty() && agents_.idle())) {
      const Time next = world_.now() + 1s;
      while (world_.now() < next && world_.timeline.step()) {
      }
      if (world_.now() > until) {
        outcome.broken =
            fmt::format("{} messages of tasks are left with the server", server_.held());
      }
    }
    if (!broken() && !client_.finished()) outcome.broken = "a task came back";
    const std::string what = outcome.broken;
    outcome = until_then;
    outcome.broken = what;
    outcome.duplicates = client_.counts().duplicates;
  }

  World world_;
  Server server_;
  Agents agents_;
  Client client_;
};

}  // namespace

ClusterOutcome simulate(const ClusterModel& model) { return Simulation(model).run(); }

}  // namespace brood::simulation
