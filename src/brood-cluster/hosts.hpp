// Agents on other machines, by ssh: small scripts of sh go in by standard input, where nobody sees
// the secrets that are in them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "state.hpp"

namespace tool {

struct Said {
  int status = 0;      // of ssh; 255 when it could not get there
  std::string output;  // with what went to stderr
};

/// Runs a script on each host, all at once; `ssh` with "HOST sh -s" behind it is what is executed.
struct HostScript {
  std::string host;
  std::string script;
};
std::vector<Said> run_on_hosts(const std::vector<std::string>& ssh,
                               const std::vector<HostScript>& scripts);

/// Starts `count` agents on each host. Those that were started before something failed are in the
/// state, too. Throws Failure, which names the host.
void start_on_hosts(State& state, const std::vector<std::string>& hosts,
                    const std::vector<std::string>& command,
                    const std::vector<std::string>& environment, std::uint32_t count);

enum class Life : std::uint8_t { lives, gone, unknown };
/// Of each of the agents, which are on other hosts; `unknown` where ssh does not get there.
std::vector<Life> look_at_hosts(const State& state, const std::vector<AgentRecord>& agents);

/// Why an agent on another host may have ended: the end of its log.
std::string remote_end_of_log(const State& state, const AgentRecord& agent);

/// Ends agents on other hosts: SIGTERM, and SIGKILL after `grace`; removes their logs. Returns what
/// ssh said where it did not get there; their agents may live.
std::vector<std::pair<std::string, std::string>> end_on_hosts(const State& state,
                                                              std::chrono::seconds grace);

}  // namespace tool
