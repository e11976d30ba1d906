#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

#include "failure.hpp"

namespace tool {
namespace {

constexpr std::string_view kAll = R"end(usage: brood-cluster up|down|status|env|slurm [OPTION...]

  up APP [ARGUMENT...]   starts a NATS server, and agents of the program APP, here or on other hosts
  env                    prints what programs must have in their environment:
                         eval "$(brood-cluster env)"
  status                 shows whether all of it is there, and what it does
  slurm APP [ARGUMENT...]
                         prints a script for sbatch that starts agents
  down                   ends all of it, agents after what they have in hand

brood-cluster COMMAND --help tells more. --version
)end";

constexpr std::string_view kWhich = R"(
  --name NAME       which cluster: letters, digits, - and _; brood if not given
  --state FOLDER    where its state is; ~/.cache/brood-cluster/NAME if not given
)";

constexpr std::string_view kUp = R"(usage: brood-cluster up [OPTION...] APP [ARGUMENT...]

Starts a NATS server on this machine and agents of APP, a program that uses brood::cluster, as
`APP ARGUMENT... --brood-agent`; makes a key and passwords; waits until all of them are there. They
live on when this program has ended, until `brood-cluster down`. If something does not come up, it
says why and ends what it has started. Without APP, and with --agents 0, the server alone.

  --agents N        on each machine; 1 if not given
  --workers N       of each agent; one for each CPU if not given
  --hosts A,B,...   agents on these machines, by ssh, instead of on this one
  --hosts-file F    the same from a file: names with blanks or line ends between them, # for comments
  --ssh COMMAND     instead of ssh -o BatchMode=yes -o ConnectTimeout=10; gets host and command
  --address NAME    of this machine, as the others reach it; with --hosts its host name, else
                    127.0.0.1, where no other machine gets in
  --port N          of the server; a free one if not given
  --tls CERT,KEY,CA files: the server's certificate and key, and who has signed it, which clients and
                    agents must have, too, under the same name
  --trust-agents    they may do what clients may: tasks can use a ClusterQueue or ClusterDict then, but
                    who takes an agent over can submit tasks
  --lease SECONDS   how long an agent that is not heard of keeps its tasks; 15 if not given
  --store FOLDER    for what the server holds; in the state's folder if not given
  --server PROGRAM  nats-server if not given
  --wait SECONDS    how long all of it may take to be there; 30 if not given
)";

constexpr std::string_view kDown = R"(usage: brood-cluster down [OPTION...]

Ends agents, which finish what they have in hand, then the server, and removes the state. Does nothing
if there is no such cluster.

  --grace SECONDS   how long agents may take before they are killed; 35 if not given
)";

constexpr std::string_view kStatus = R"(usage: brood-cluster status [OPTION...]

Shows the server, what waits in its streams, and each agent with its workers and the tasks that it has
in hand. Exit status 0: all that was started is there; 1: something is not.

  --json            the same as one JSON object
)";

constexpr std::string_view kEnv = R"end(usage: brood-cluster env [OPTION...]

Prints shell commands that put into the environment what programs need to use the cluster, secrets
included: eval "$(brood-cluster env)"
)end";

constexpr std::string_view kSlurm = R"(usage: brood-cluster slurm [OPTION...] APP [ARGUMENT...]

Prints a script for sbatch: an array of agents of APP for the cluster that `brood-cluster up --agents 0
--address HOST` has started, whose state must be in a folder that the nodes see, too. Agents that a
time limit ends give back what they have; those of a lost node are queued again by Slurm.

  --array N         agents; 4 if not given
  --cpus N          of each agent, and so its workers; 1 if not given
  --partition NAME
  --time LIMIT      as sbatch takes it: 2:00:00
)";

std::uint32_t number(std::string_view option, std::string_view text, std::uint32_t least,
                     std::uint32_t most) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    throw UsageError(
        fmt::format("{}: a number from {} to {}, not '{}'", option, least, most, text));
  }
  return value;
}

std::vector<std::string> split(const std::string& text, std::string_view option, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) {
    if (!part.empty()) parts.push_back(part);
  }
  if (parts.empty()) throw UsageError(fmt::format("{}: nothing is in '{}'", option, text));
  return parts;
}

std::vector<std::string> read_hosts(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw UsageError(fmt::format("--hosts-file: {} cannot be read", path));
  std::vector<std::string> hosts;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    for (std::string word; words >> word;) hosts.push_back(word);
  }
  if (hosts.empty()) throw UsageError(fmt::format("--hosts-file: there is no host in {}", path));
  return hosts;
}

/// They become words of a command line and parts of files' names.
void check_hosts(const std::vector<std::string>& hosts) {
  for (const std::string& host : hosts) {
    if (host.starts_with('-') || host.find_first_of("/ \t'\"\\") != std::string::npos) {
      throw UsageError(fmt::format("'{}' is no name of a host", host));
    }
    if (std::ranges::count(hosts, host) > 1) {
      throw UsageError(
          fmt::format("host {} is there twice: --agents starts several on each machine", host));
    }
  }
}

void check_name(const std::string& name) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_';
  };
  if (name.empty() || name.starts_with('-') || !std::ranges::all_of(name, allowed)) {
    throw UsageError(fmt::format("--name: letters, digits, - and _ are possible, not '{}'", name));
  }
}

/// Which commands take an option.
const std::map<std::string, std::string, std::less<>> kTakenBy{
    {"--name", "up down status env slurm"},
    {"--state", "up down status env slurm"},
    {"--agents", "up"},
    {"--workers", "up"},
    {"--hosts", "up"},
    {"--hosts-file", "up"},
    {"--ssh", "up"},
    {"--address", "up"},
    {"--port", "up"},
    {"--tls", "up"},
    {"--lease", "up"},
    {"--store", "up"},
    {"--server", "up"},
    {"--wait", "up"},
    {"--grace", "down"},
    {"--array", "slurm"},
    {"--cpus", "slurm"},
    {"--partition", "slurm"},
    {"--time", "slurm"},
};

void set_tls(Options& options, const std::string& value) {
  const std::vector<std::string> files = split(value, "--tls", ',');
  if (files.size() != 3) {
    throw UsageError(fmt::format("--tls: three files, CERT,KEY,CA, not '{}'", value));
  }
  options.certificate = std::filesystem::absolute(files[0]);
  options.certificate_key = std::filesystem::absolute(files[1]);
  options.ca = std::filesystem::absolute(files[2]);
  for (const auto& file : {options.certificate, options.certificate_key, options.ca}) {
    if (!std::ifstream(file)) {
      throw UsageError(fmt::format("--tls: {} cannot be read", file.string()));
    }
  }
}

/// Of a line in a script for sbatch.
void check_word(std::string_view option, const std::string& value) {
  if (value.empty() || value.find_first_of(" \t\n'\"\\$") != std::string::npos) {
    throw UsageError(fmt::format("{}: one word, not '{}'", option, value));
  }
}

void set(Options& options, const std::string& option, const std::string& value) {
  constexpr std::uint32_t kMany = 100'000;
  constexpr std::uint32_t kDay = 86'400;
  constexpr std::uint32_t kMostPort = std::numeric_limits<std::uint16_t>::max();
  if (option == "--name") check_name(options.name = value);
  if (option == "--state") options.state = std::filesystem::absolute(value);
  if (option == "--agents") options.agents = number(option, value, 0, 1024);
  if (option == "--workers") options.workers = number(option, value, 1, 1024);
  if (option == "--hosts") options.hosts = split(value, option, ',');
  if (option == "--hosts-file") options.hosts = read_hosts(value);
  if (option == "--ssh") options.ssh = split(value, option, ' ');
  if (option == "--address") check_word(option, options.address = value);
  if (option == "--port") options.port = number(option, value, 1, kMostPort);
  if (option == "--tls") set_tls(options, value);
  if (option == "--lease") options.lease = number(option, value, 1, kDay);
  if (option == "--store") options.store = std::filesystem::absolute(value);
  if (option == "--server") options.server = value;
  if (option == "--wait") options.wait = number(option, value, 1, kDay);
  if (option == "--grace") options.grace = number(option, value, 0, kDay);
  if (option == "--array") options.array = number(option, value, 1, kMany);
  if (option == "--cpus") options.cpus = number(option, value, 1, 1024);
  if (option == "--partition") check_word(option, options.partition = value);
  if (option == "--time") check_word(option, options.time = value);
}

}  // namespace

Options parse(const std::vector<std::string>& words) {
  Options options;
  if (words.empty()) throw UsageError("a command is missing: up, down, status, env or slurm");
  options.command = words.front();
  if (usage(options.command).empty()) {
    throw UsageError(
        fmt::format("there is no command '{}': up, down, status, env or slurm", options.command));
  }
  const bool takes_app = options.command == "up" || options.command == "slurm";
  std::size_t i = 1;
  for (; i != words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help") {
      options.help = true;
      return options;
    }
    if (word == "--json" && options.command == "status") {
      options.json = true;
      continue;
    }
    if (word == "--trust-agents" && options.command == "up") {
      options.trust_agents = true;
      continue;
    }
    if (!word.starts_with('-')) break;
    const auto taken = kTakenBy.find(word);
    if (taken == kTakenBy.end() || taken->second.find(options.command) == std::string::npos) {
      throw UsageError(fmt::format("brood-cluster {} has no option {}", options.command, word));
    }
    if (i + 1 == words.size()) throw UsageError(fmt::format("{} needs a value", word));
    set(options, word, words[++i]);
  }
  options.app.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
  if (!takes_app && !options.app.empty()) {
    throw UsageError(
        fmt::format("brood-cluster {} takes no '{}'", options.command, options.app.front()));
  }
  check_hosts(options.hosts);
  const bool server_alone = options.command == "up" && options.agents == 0;
  if (server_alone && !options.app.empty()) {
    throw UsageError("--agents 0 starts no agents: leave the program away");
  }
  if (takes_app && !server_alone && options.app.empty()) {
    throw UsageError("the program is missing whose agents are to be started");
  }
  return options;
}

std::string usage(const std::string& command) {
  if (command.empty()) return std::string(kAll);
  if (command == "up") return fmt::format("{}{}", kUp, kWhich.substr(1));
  if (command == "down") return fmt::format("{}{}", kDown, kWhich.substr(1));
  if (command == "status") return fmt::format("{}{}", kStatus, kWhich.substr(1));
  if (command == "env") return fmt::format("{}{}", kEnv, kWhich);
  if (command == "slurm") return fmt::format("{}{}", kSlurm, kWhich.substr(1));
  return {};
}

}  // namespace tool
