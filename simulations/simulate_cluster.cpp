// A cluster in virtual time, with failures. Usage: see --help.
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <cluster_model.hpp>

namespace {

using namespace std::chrono_literals;
using brood::simulation::ClusterModel;
using brood::simulation::ClusterOutcome;
using brood::simulation::Duration;

constexpr const char* kUsage = R"(simulate_cluster [OPTION...]: a cluster in virtual time

  --agents N          1000           --seed N            1
  --workers N         of an agent; 4
  --tasks N           10000000       --at-once N         tasks that the caller has out; 100000
  --ordered           it waits for results in their order
  --median SECONDS    of a task; 0.1, lognormal          --sigma X   1
  --bytes N           of arguments, and of a result; 100
  --lease SECONDS     15
  --no-failures       else, by default:
  --deaths SECONDS    between two of an agent; 3600      --replaced SECONDS  after a death; 30
  --hangs SECONDS     between two of an agent; 14400
  --outage SECONDS    of the server, at a fifth of the time; 10
  --wiped SECONDS     the same, and it loses all, at two fifths; 20
  --partition SECONDS of a third of the agents, at three fifths; 40
  --loss P            of a message that was confirmed; 0.000001
  --store-us, --hand-out-us, --done-us, --pass-on-us, --inform-us, --latency-us,
  --client-message-us, --client-task-us X    what things take, in microseconds
  --json FILE         what came out, second by second
)";

struct Options {
  ClusterModel model;
  bool failures = true;
  double deaths = 3600;
  double hangs = 14400;
  double outage = 10;
  double wiped = 20;
  double partition = 40;
  double loss = 1e-6;
  std::string json;
};

double number(std::string_view name, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0)) {
    throw std::invalid_argument(fmt::format("{} '{}': not a number of at least 0", name, text));
  }
  return value;
}

Duration seconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

Options options_of(int argc, char** argv) {
  Options options;
  ClusterModel& model = options.model;
  brood::simulation::Costs& costs = model.costs;
  using Set = std::function<void(double)>;
  const auto count = [](auto& to) -> Set {
    return [&to](double value) {
      if (value < 1 || value > 4e9) throw std::invalid_argument("1 to 4000000000 are allowed");
      to = static_cast<std::remove_reference_t<decltype(to)>>(value);
    };
  };
  const auto in = [](Duration& to, double unit) -> Set {
    return [&to, unit](double value) { to = seconds(value * unit); };
  };
  const auto plain = [](double& to) -> Set { return [&to](double value) { to = value; }; };
  const std::map<std::string_view, Set> known{
      {"--agents", count(model.agents)},
      {"--workers", count(model.workers)},
      {"--tasks", count(model.tasks)},
      {"--at-once", count(model.at_once)},
      {"--seed", count(model.seed)},
      {"--median", in(model.median, 1)},
      {"--sigma", plain(model.sigma)},
      {"--bytes",
       [&](double value) {
         model.argument_bytes = static_cast<std::uint32_t>(value);
         model.result_bytes = model.argument_bytes;
       }},
      {"--lease", in(model.lease, 1)},
      {"--deaths", plain(options.deaths)},
      {"--replaced", in(model.replaced_after, 1)},
      {"--hangs", plain(options.hangs)},
      {"--outage", plain(options.outage)},
      {"--wiped", plain(options.wiped)},
      {"--partition", plain(options.partition)},
      {"--loss", plain(options.loss)},
      {"--latency-us", in(costs.latency, 1e-6)},
      {"--store-us", in(costs.store, 1e-6)},
      {"--hand-out-us", in(costs.hand_out, 1e-6)},
      {"--done-us", in(costs.done, 1e-6)},
      {"--pass-on-us", in(costs.pass_on, 1e-6)},
      {"--inform-us", in(costs.inform, 1e-6)},
      {"--client-message-us", in(costs.client_message, 1e-6)},
      {"--client-task-us", in(costs.client_task, 1e-6)},
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--help" || name == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (name == "--ordered") {
      model.ordered = true;
      continue;
    }
    if (name == "--no-failures") {
      options.failures = false;
      continue;
    }
    if (i + 1 == argc) throw std::invalid_argument(fmt::format("{}: no value", name));
    const std::string_view value = argv[++i];
    if (name == "--json") {
      options.json = value;
    } else if (const auto found = known.find(name); found != known.end()) {
      found->second(number(name, value));
    } else {
      throw std::invalid_argument(fmt::format("{}: no such option; --help tells", name));
    }
  }
  if (!options.failures) return options;
  model.between_deaths = seconds(options.deaths);
  model.between_hangs = seconds(options.hangs);
  model.loss = options.loss;
  const double each =
      std::chrono::duration<double>(model.median).count() * std::exp(model.sigma * model.sigma / 2);
  const double all = each * static_cast<double>(model.tasks) / model.agents / model.workers;
  if (options.outage > 0) model.outages.push_back({seconds(all / 5), seconds(options.outage)});
  if (options.wiped > 0) {
    model.outages.push_back({seconds(all * 2 / 5), seconds(options.wiped), true});
  }
  if (options.partition > 0) {
    model.partitions.push_back({seconds(all * 3 / 5), seconds(options.partition)});
  }
  return options;
}

double in_seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

void print(const ClusterModel& model, const ClusterOutcome& outcome) {
  const double took = in_seconds(outcome.took);
  const double ideal = in_seconds(outcome.ideal);
  const auto workers = static_cast<double>(model.agents) * model.workers;
  const ClusterOutcome::Spent& spent = outcome.spent;
  fmt::print("{} agents with {} workers each, {} tasks: {:.1f} s, ideally {:.1f} s\n", model.agents,
             model.workers, model.tasks, took, ideal);
  fmt::print("  {} results, {} of them failures; {} deaths, {} hangs, {} messages lost\n",
             outcome.results, outcome.failures, outcome.deaths, outcome.hangs,
             outcome.lost_messages);
  fmt::print(
      "  {} messages of tasks, {} handed out again {:.1f} s after the mishap (at most {:.1f} "
      "s); {} tasks resent, {} results too many\n",
      outcome.task_messages, outcome.handed_out_again, in_seconds(outcome.lease_wait),
      in_seconds(outcome.longest_lease_wait), outcome.resent, outcome.duplicates);
  fmt::print(
      "  server: {:.0f} messages/s, {:.1f} MB/s, busy {:.0f} %, {} requests about consumers\n",
      static_cast<double>(outcome.server_messages) / took,
      static_cast<double>(outcome.server_bytes) / took / 1e6, 100 * outcome.server_busy,
      outcome.server_infos);
  fmt::print("  of the workers' time, in %:\n");
  for (const auto& [what, part] : std::initializer_list<std::pair<const char*, double>>{
           {"useful", spent.useful},
           {"run twice", spent.twice},
           {"cut short", spent.unfinished},
           {"agent dead", spent.dead},
           {"agent hanging", spent.hanging},
           {"idle: agent cut off", spent.cut_off},
           {"idle: server away", spent.server_away},
           {"idle: the last tasks", spent.end},
           {"idle: nothing there", spent.idle}}) {
    fmt::print("    {:<22} {:6.2f}\n", what, 100 * part / took / workers);
  }
}

void write_json(const std::string& path, const ClusterModel& model, const ClusterOutcome& outcome) {
  std::ofstream file(path);
  const auto workers = static_cast<double>(model.agents) * model.workers;
  const double all = in_seconds(outcome.took) * workers / 100;
  const ClusterOutcome::Spent& spent = outcome.spent;
  file << fmt::format(
      R"({{"agents": {}, "workers": {}, "tasks": {}, "took": {:.3f}, "ideal": {:.3f},
"spent": {{"useful": {:.3f}, "run twice": {:.3f}, "cut short": {:.3f}, "agent dead": {:.3f},
"agent hanging": {:.3f}, "agent cut off": {:.3f}, "server away": {:.3f}, "the last tasks": {:.3f},
"nothing there": {:.3f}}},
)",
      model.agents, model.workers, model.tasks, in_seconds(outcome.took), in_seconds(outcome.ideal),
      spent.useful / all, spent.twice / all, spent.unfinished / all, spent.dead / all,
      spent.hanging / all, spent.cut_off / all, spent.server_away / all, spent.end / all,
      spent.idle / all);
  const auto list = [&](const char* name, auto value) {
    file << '"' << name << "\": [";
    const char* comma = "";
    for (const auto& second : outcome.seconds) {
      file << std::exchange(comma, ",") << value(second);
    }
    file << "]";
  };
  using brood::simulation::Second;
  list("messages", [](const Second& s) { return s.messages; });
  file << ",\n";
  list("bytes", [](const Second& s) { return s.bytes; });
  file << ",\n";
  list("infos", [](const Second& s) { return s.infos; });
  file << ",\n";
  list("results", [](const Second& s) { return s.results; });
  file << ",\n";
  list("server_busy", [](const Second& s) { return s.server_busy; });
  file << ",\n";
  list("in_flight", [](const Second& s) { return s.in_flight; });
  file << ",\n";
  list("present", [](const Second& s) { return s.present; });
  file << "}\n";
  if (!file.flush()) throw std::runtime_error(fmt::format("cannot write {}", path));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = options_of(argc, argv);
    const auto begin = std::chrono::steady_clock::now();
    const ClusterOutcome outcome = simulate(options.model);
    const double real = in_seconds(std::chrono::steady_clock::now() - begin);
    print(options.model, outcome);
    fmt::print("  {} events, simulated in {:.1f} s\n", outcome.events, real);
    if (!options.json.empty()) write_json(options.json, options.model, outcome);
    if (!outcome.broken.empty()) {
      fmt::print(stderr, "simulate_cluster: a promise is broken: {}\n", outcome.broken);
      return 1;
    }
    return 0;
  } catch (const std::exception& e) {
    fmt::print(stderr, "simulate_cluster: {}\n", e.what());
    return 2;
  }
}
