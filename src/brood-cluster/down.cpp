#include "down.hpp"

#include <signal.h>

#include <algorithm>
#include <future>
#include <iterator>
#include <vector>

#include <fmt/format.h>

#include "commands.hpp"
#include "failure.hpp"
#include "hosts.hpp"

namespace tool {
namespace {

constexpr auto kServerGrace = std::chrono::seconds(10);
constexpr auto kAfterKill = std::chrono::seconds(10);

void end_here(const std::vector<ProcessId>& processes, std::chrono::seconds grace) {
  for (const ProcessId& process : processes) send_signal(process, SIGTERM);
  if (await_end(processes, grace)) return;
  for (const ProcessId& process : processes) send_signal(process, SIGKILL);
  static_cast<void>(await_end(processes, kAfterKill));
}

}  // namespace

std::string take_down(State state, const StateFolder& folder, std::chrono::seconds grace) {
  auto unreached = std::async(std::launch::async, [&] { return end_on_hosts(state, grace); });
  std::vector<ProcessId> here;
  for (const AgentRecord& agent : state.agents) {
    if (agent.host.empty()) here.push_back(agent.process);
  }
  end_here(here, grace);
  std::string left;
  std::vector<AgentRecord> there;
  for (const auto& [host, why] : unreached.get()) {
    left += fmt::format("\n  {}: {}", host, why);
    std::ranges::copy_if(state.agents, std::back_inserter(there),
                         [&](const AgentRecord& agent) { return agent.host == host; });
  }
  end_here({state.server}, kServerGrace);
  if (left.empty()) {
    folder.remove(state);
  } else {
    state.agents = std::move(there);
    folder.save(state);
  }
  return left;
}

int down(const Options& options) {
  const StateFolder folder(options);
  if (!folder.exists()) {
    fmt::print("there is no cluster {} in {}\n", options.name, folder.path().string());
    return 0;
  }
  const std::string left = take_down(folder.load(), folder, std::chrono::seconds(options.grace));
  if (!left.empty()) {
    throw Failure(fmt::format(
        "the server has ended, but agents may be left on hosts that cannot be reached:{}\n"
        "brood-cluster down{} tries again; remove {} to forget them",
        left, folder.options(), folder.path().string()));
  }
  fmt::print("cluster {} is down\n", options.name);
  return 0;
}

}  // namespace tool
