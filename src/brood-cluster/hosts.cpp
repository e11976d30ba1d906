#include "hosts.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "failure.hpp"

namespace tool {
namespace {

constexpr int kNotThere = 255;  // of ssh
constexpr std::string_view kMark = "brood-agent-at ";

/// Of the scripts: whether process $1, started at $2, lives; $1's place in /proc has more
/// processes.
constexpr std::string_view kLives = R"(fields() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null; }
lives() { set -- "$1" "$2" $(fields "$1"); [ $# -gt 22 ] && [ "$3" != Z ] && [ "${22}" = "$2" ]; }
)";

int as_file(std::string_view text) {
  const int fd = ::memfd_create("brood-cluster", MFD_CLOEXEC);
  if (fd < 0) throw Failure(fmt::format("memfd_create: {}", std::strerror(errno)));
  while (!text.empty()) {
    const ssize_t size = ::write(fd, text.data(), text.size());
    if (size < 0) {
      ::close(fd);
      throw Failure(fmt::format("write: {}", std::strerror(errno)));
    }
    text.remove_prefix(static_cast<std::size_t>(size));
  }
  ::lseek(fd, 0, SEEK_SET);
  return fd;
}

Said run(std::vector<std::string> command, std::string_view script) {
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int input = as_file(script);
  int output[2] = {-1, -1};
  if (::pipe2(output, O_CLOEXEC) != 0) {
    ::close(input);
    throw Failure(fmt::format("pipe2: {}", std::strerror(errno)));
  }
  const int pid = ::fork();
  if (pid == 0) {
    ::dup2(input, 0);
    ::dup2(output[1], 1);
    ::dup2(output[1], 2);
    ::execvp(argv[0], argv.data());
    ::_exit(kNotThere);
  }
  ::close(input);
  ::close(output[1]);
  Said said{.status = kNotThere, .output = {}};
  std::array<char, 4096> bytes{};
  for (ssize_t size = 1; size > 0 || (size < 0 && errno == EINTR);) {
    size = ::read(output[0], bytes.data(), bytes.size());
    if (size > 0) said.output.append(bytes.data(), static_cast<std::size_t>(size));
  }
  ::close(output[0]);
  int status = 0;
  if (pid > 0) {
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    said.status = WIFEXITED(status) ? WEXITSTATUS(status) : kNotThere;
  }
  while (said.output.ends_with('\n')) said.output.pop_back();
  if (said.status == kNotThere && said.output.empty()) {
    said.output = command.front() + " cannot be executed, or ended without a word";
  }
  return said;
}

/// What is on other hosts, by host.
std::map<std::string, std::vector<AgentRecord>> by_host(const std::vector<AgentRecord>& agents) {
  std::map<std::string, std::vector<AgentRecord>> hosts;
  for (const AgentRecord& agent : agents) {
    if (!agent.host.empty()) hosts[agent.host].push_back(agent);
  }
  return hosts;
}

}  // namespace

std::vector<Said> run_on_hosts(const std::vector<std::string>& ssh,
                               const std::vector<HostScript>& scripts) {
  constexpr std::size_t kAtOnce = 32;
  std::vector<Said> all(scripts.size());
  for (std::size_t begin = 0; begin < scripts.size(); begin += kAtOnce) {
    std::vector<std::jthread> threads;
    for (std::size_t i = begin; i < std::min(begin + kAtOnce, scripts.size()); ++i) {
      threads.emplace_back([&, i] {
        std::vector<std::string> command = ssh;
        command.insert(command.end(), {scripts[i].host, "sh", "-s"});
        try {
          all[i] = run(std::move(command), scripts[i].script);
        } catch (const Failure& e) {
          all[i] = {.status = kNotThere, .output = e.what()};
        }
      });
    }
  }
  return all;
}

void start_on_hosts(State& state, const std::vector<std::string>& hosts,
                    const std::vector<std::string>& command,
                    const std::vector<std::string>& environment, std::uint32_t count) {
  std::string words;
  for (const std::string& word : command) words += shell_word(word) + ' ';
  const std::string folder = shell_word(std::filesystem::current_path().string());
  std::vector<HostScript> scripts;
  for (const std::string& host : hosts) {
    // The folder is that of a state there; it may be this one, in a home that all have.
    std::string script = fmt::format(
        "{}umask 077\n{}"
        "logs=\"${{XDG_CACHE_HOME:-$HOME/.cache}}/brood-cluster/{}\"\n"
        "mkdir -p \"$logs\" || exit 1\n"
        "[ -x {} ] || {{ echo {} is not there, or cannot be executed; exit 1; }}\n"
        "cd {} 2>/dev/null || cd\n",
        kLives, exports(environment), state.name, shell_word(command.front()),
        shell_word(command.front()), folder);
    for (std::uint32_t i = 1; i <= count; ++i) {
      script += fmt::format(
          "setsid {}</dev/null >\"$logs/agent-{}-{}.log\" 2>&1 &\n"
          "start=$(fields $! | cut -d' ' -f20)\n"
          "echo {}$! \"${{start:-0}}\" \"$(uname -n)\" \"$logs/agent-{}-{}.log\"\n",
          words, host, i, kMark, host, i);
    }
    scripts.push_back({.host = host, .script = std::move(script)});
  }
  std::string failure;
  const std::vector<Said> all = run_on_hosts(state.ssh, scripts);
  for (std::size_t i = 0; i != all.size(); ++i) {
    std::istringstream lines(all[i].output);
    std::uint32_t started = 0;
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with(kMark)) continue;
      std::istringstream parts(line.substr(kMark.size()));
      AgentRecord agent{.host = hosts[i], .process = {}, .node = {}, .log = {}};
      parts >> agent.process.pid >> agent.process.start >> agent.node >> std::ws;
      agent.node += fmt::format(".{}", agent.process.pid);
      std::getline(parts, agent.log);
      state.agents.push_back(std::move(agent));
      ++started;
    }
    if (all[i].status != 0 || started != count) {
      failure += fmt::format("\n  {}: {}", hosts[i], all[i].output);
    }
  }
  if (!failure.empty()) throw Failure("agents could not be started:" + failure);
}

std::vector<Life> look_at_hosts(const State& state, const std::vector<AgentRecord>& agents) {
  std::vector<HostScript> scripts;
  for (const auto& [host, records] : by_host(agents)) {
    std::string script(kLives);
    for (const AgentRecord& agent : records) {
      script += fmt::format("lives {0} {1} && echo {2}{0}\n", agent.process.pid,
                            agent.process.start, kMark);
    }
    scripts.push_back({.host = host, .script = script + "exit 0\n"});
  }
  const std::vector<Said> all = run_on_hosts(state.ssh, scripts);
  std::vector<Life> lives;
  for (const AgentRecord& agent : agents) {
    Life life = Life::unknown;
    for (std::size_t i = 0; i != scripts.size(); ++i) {
      if (scripts[i].host != agent.host || all[i].status != 0) continue;
      const std::string mark = fmt::format("{}{}\n", kMark, agent.process.pid);
      const bool found = (all[i].output + "\n").find(mark) != std::string::npos;
      life = found ? Life::lives : Life::gone;
    }
    lives.push_back(life);
  }
  return lives;
}

std::string remote_end_of_log(const State& state, const AgentRecord& agent) {
  const std::string script = fmt::format("tail -n 15 {}\n", shell_word(agent.log));
  const Said said = run_on_hosts(state.ssh, {{.host = agent.host, .script = script}}).front();
  std::istringstream lines(said.output);
  std::string text;
  for (std::string line; std::getline(lines, line);) text += "\n    " + line;
  return text;
}

std::vector<std::pair<std::string, std::string>> end_on_hosts(const State& state,
                                                              std::chrono::seconds grace) {
  std::vector<HostScript> scripts;
  for (const auto& [host, records] : by_host(state.agents)) {
    std::string script(kLives);
    std::string any;
    std::string kills;
    std::string removals;
    for (const AgentRecord& agent : records) {
      const std::string process = fmt::format("{} {}", agent.process.pid, agent.process.start);
      script += fmt::format("lives {} && kill -TERM {}\n", process, agent.process.pid);
      any += fmt::format("{}lives {}", any.empty() ? "" : " || ", process);
      kills += fmt::format("lives {} && kill -KILL {}\n", process, agent.process.pid);
      removals +=
          fmt::format("rm -f {0}; rmdir \"$(dirname {0})\" 2>/dev/null\n", shell_word(agent.log));
    }
    script += fmt::format(
        "end=$(($(date +%s) + {}))\n"
        "while [ $(date +%s) -le $end ] && {{ {}; }}; do sleep 0.1; done\n{}{}exit 0\n",
        grace.count(), any, kills, removals);
    scripts.push_back({.host = host, .script = std::move(script)});
  }
  std::vector<std::pair<std::string, std::string>> unreached;
  const std::vector<Said> all = run_on_hosts(state.ssh, scripts);
  for (std::size_t i = 0; i != all.size(); ++i) {
    if (all[i].status != 0) unreached.emplace_back(scripts[i].host, all[i].output);
  }
  return unreached;
}

}  // namespace tool
