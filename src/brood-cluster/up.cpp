#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <brood/cluster/hex_digits.hpp>
#include <brood/platform/stop_signals.hpp>

#include "commands.hpp"
#include "down.hpp"
#include "failure.hpp"
#include "hosts.hpp"
#include "server.hpp"
#include "state.hpp"
#include "watch.hpp"

namespace tool {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

std::vector<std::string> agent_command(const Options& options) {
  std::vector<std::string> command = options.app;
  if (command.empty()) return command;
  // On other hosts it is looked for there.
  const fs::path program = find_program(command.front());
  if (options.hosts.empty() && program.empty()) {
    throw Failure(fmt::format("{} is no program that can be executed", command.front()));
  }
  command.front() =
      (program.empty() ? fs::absolute(command.front()).lexically_normal() : program).string();
  command.emplace_back("--brood-agent");
  return command;
}

void start_agents(State& state, const StateFolder& folder, const Options& options,
                  const std::vector<std::string>& command) {
  std::vector<std::string> environment = agent_environment(state);
  if (options.workers != 0) {
    environment.push_back(fmt::format("BROOD_AGENT_WORKERS={}", options.workers));
  }
  if (!options.hosts.empty()) {
    start_on_hosts(state, options.hosts, command, environment, options.agents);
    folder.save(state);
    return;
  }
  for (std::uint32_t i = 1; i <= options.agents; ++i) {
    const fs::path log = folder.file(fmt::format("agent-{}.log", i));
    const ProcessId process = start_detached(command, environment, log);
    state.agents.push_back({.host = {},
                            .process = process,
                            .node = fmt::format("{}.{}", brood::detail::host_name(), process.pid),
                            .log = log.string()});
    folder.save(state);
  }
}

[[noreturn]] void fail_for(const AgentRecord& agent, const std::string& what,
                           const std::string& log) {
  throw Failure(
      fmt::format("the agent{}{}, process {}, {}:{}\n"
                  "  is it a program that uses brood::cluster, and begins main with brood::Runtime "
                  "runtime(argc, argv)?",
                  agent.host.empty() ? "" : " on ", agent.host, agent.process.pid, what, log));
}

std::string log_of(const State& state, const AgentRecord& agent) {
  return agent.host.empty() ? end_of(agent.log) : remote_end_of_log(state, agent);
}

/// Until each has been heard of.
const std::map<std::string, Node>& await_agents(Watch& watch, const State& state,
                                                const Options& options) {
  const auto end = Clock::now() + std::chrono::seconds(options.wait);
  auto next_look = Clock::now() + 500ms;  // at other hosts
  for (;;) {
    check_interrupt();
    const std::map<std::string, Node>& nodes = watch.hear(100ms);
    std::vector<AgentRecord> missing;
    std::ranges::copy_if(state.agents, std::back_inserter(missing),
                         [&](const AgentRecord& agent) { return !nodes.contains(agent.node); });
    if (missing.empty()) return nodes;
    for (const AgentRecord& agent : missing) {
      if (!agent.host.empty()) continue;
      const std::string how = how_it_ended(agent.process);
      if (!how.empty()) fail_for(agent, how, log_of(state, agent));
    }
    if (!options.hosts.empty() && Clock::now() > next_look) {
      const std::vector<Life> lives = look_at_hosts(state, missing);
      for (std::size_t i = 0; i != missing.size(); ++i) {
        if (lives[i] == Life::gone) fail_for(missing[i], "ended", log_of(state, missing[i]));
      }
      next_look = Clock::now() + 2s;
    }
    if (Clock::now() > end) {
      fail_for(missing.front(),
               fmt::format("was not heard of for {} s; of {} agents, {} were", options.wait,
                           state.agents.size(), state.agents.size() - missing.size()),
               log_of(state, missing.front()));
    }
  }
}

}  // namespace

int up(const Options& options) {
  const StateFolder folder(options);
  const std::vector<std::string> command = agent_command(options);
  State state{.name = options.name,
              .key = brood::detail::random_hex_digits(32),
              .ca = options.ca.string(),
              .lease = options.lease,
              .store = options.store.empty() ? folder.file("store")
                                             : options.store / (options.name + ".brood-cluster"),
              .ssh = options.ssh};
  if (!options.store.empty() && fs::exists(state.store)) {
    throw Failure(
        fmt::format("{} is there already, of a cluster of this name", state.store.string()));
  }
  check_interrupt();
  folder.create();
  std::uint32_t workers = 0;
  try {
    start_server(state, folder, options);
    Watch watch(state);
    start_agents(state, folder, options, command);
    for (const auto& [name, node] : await_agents(watch, state, options)) workers += node.workers;
  } catch (const std::exception& e) {
    const std::string left = take_down(state, folder, 2s);
    throw Failure(
        fmt::format("{}{}{}", e.what(), left.empty() ? "" : "\nand was left running:", left));
  }
  const std::size_t at = state.url.find('@') + 1;
  fmt::print(
      "# cluster {} is up at {}: {} agents with {} workers; programs need\n"
      "eval \"$(brood-cluster env{})\"\n",
      state.name, state.url.substr(at), state.agents.size(), workers, folder.options());
  return 0;
}

int env(const Options& options) {
  fmt::print("{}", exports(client_environment(StateFolder(options).load())));
  return 0;
}

}  // namespace tool
