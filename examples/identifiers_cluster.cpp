// The demo on a cluster: counts the identifiers in every file below a folder in this process alone,
// and on the agents of a cluster, one of which is killed in the middle if you like. The totals must
// be equal. The agents read the same files, so they are on this machine or see the same folder.
//
//     brood-cluster up --agents 3 ./identifiers_cluster
//     eval "$(brood-cluster env)"
//     ./identifiers_cluster --kill /usr/include
//     brood-cluster down
#include <brood/brood.hpp>
#include <brood/cluster_pool.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "identifiers.hpp"

namespace {

using namespace identifiers;
using namespace std::chrono_literals;

constexpr std::string_view kUsage = R"(usage: identifiers_cluster [--kill] [--quiet] [DIR]

Counts the identifiers in every file below DIR (default: /usr/include) in this process alone, and on
the cluster that the environment tells of (see brood-cluster), and checks that both agree.

  --kill    kills one of the agents of this machine when half of it is done
  --quiet   no progress

Ends with 0 when both agree, 1 when they do not, 2 when it could not be tried.
)";

struct Options {
  fs::path folder = "/usr/include";
  bool kill = false;
  bool quiet = false;
};

// Agents are called "host.pid". Kills that of this host which has most to do.
bool kill_an_agent(const brood::ClusterPool& pool) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string here = std::string(host.data()) + '.';
  std::vector<brood::ClusterNode> nodes = pool.nodes();
  std::erase_if(nodes, [&](const auto& node) { return !node.name.starts_with(here); });
  const auto busiest =
      std::max_element(nodes.begin(), nodes.end(),
                       [](const auto& a, const auto& b) { return a.in_hand < b.in_hand; });
  return busiest != nodes.end() &&
         ::kill(std::stoi(busiest->name.substr(here.size())), SIGKILL) == 0;
}

int run(const Options& options) {
  const Tree tree = list_tree(options.folder);
  warm_up(tree);
  const Timed alone = count_sequentially(tree, {"one process", options.quiet});

  brood::ClusterPool pool;  // where a Pool was: all else is the same
  // Each agent is heard of once a second; only the line below needs to know of all.
  const auto start = Clock::now();
  while (pool.nodes().empty() && Clock::now() < start + 10s) std::this_thread::sleep_for(10ms);
  std::this_thread::sleep_for(1200ms);
  const std::size_t agents = pool.nodes().size();

  bool killed = false;
  const Timed counted = count_in(pool, tree, {"cluster", options.quiet}, [&](std::size_t done) {
    if (options.kill && !killed && done >= tree.batches.size() / 2) killed = kill_an_agent(pool);
  });

  const bool equal = counted.totals == alone.totals;
  fmt::print("{:<18} {:8.3f} s   {:.2f} times as fast as one process, {} agents{}, totals {}\n",
             options.kill ? "cluster under fire" : "cluster", counted.seconds,
             alone.seconds / counted.seconds, agents, killed ? ", 1 killed" : "",
             equal ? "equal" : "DIFFERENT");
  return equal ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);  // an agent's life is in here
  try {
    Options options;
    for (const std::string_view argument : std::vector<std::string_view>(argv + 1, argv + argc)) {
      if (argument == "--help") {
        fmt::print("{}", kUsage);
        return 0;
      }
      if (argument == "--kill") {
        options.kill = true;
      } else if (argument == "--quiet") {
        options.quiet = true;
      } else if (argument.starts_with('-') || !fs::is_directory(argument)) {
        throw std::invalid_argument(
            fmt::format("'{}' is neither an option nor a folder; --help tells", argument));
      } else {
        options.folder = argument;
      }
    }
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "identifiers_cluster: {}\n", error.what());
    return 2;
  }
}
