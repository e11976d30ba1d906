#include "state.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "failure.hpp"

namespace tool {
namespace {

namespace fs = std::filesystem;

fs::path default_folder(const std::string& name) {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  // NOTE: not $XDG_RUNTIME_DIR, which is memory, and goes when its user logs out: the cluster
  // stays.
  if (cache != nullptr && *cache == '/') return fs::path(cache) / "brood-cluster" / name;
  if (home == nullptr || *home != '/') {
    throw Failure("there is no HOME in the environment: say --state FOLDER");
  }
  return fs::path(home) / ".cache" / "brood-cluster" / name;
}

}  // namespace

void write_private(const fs::path& path, std::string_view text) {
  const auto fail = [&](int error) {
    throw Failure(fmt::format("{} cannot be written: {}", path.string(), std::strerror(error)));
  };
  constexpr mode_t kMine = 0600;
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kMine);
  if (fd < 0) fail(errno);
  int error = ::fchmod(fd, kMine) == 0 ? 0 : errno;
  while (error == 0 && !text.empty()) {
    const ssize_t size = ::write(fd, text.data(), text.size());
    if (size >= 0) text.remove_prefix(static_cast<std::size_t>(size));
    if (size < 0 && errno != EINTR) error = errno;
  }
  if (::close(fd) != 0 && error == 0) error = errno;
  if (error != 0) fail(error);
}

std::string shell_word(std::string_view text) {
  std::string word = "'";
  for (const char c : text) {
    if (c == '\'') {
      word += "'\\''";
    } else {
      word += c;
    }
  }
  return word + "'";
}

StateFolder::StateFolder(const Options& options)
    : folder_(options.state.empty() ? default_folder(options.name) : options.state),
      name_(options.name) {
  if (options.name != Options{}.name) options_ += " --name " + options.name;
  if (!options.state.empty()) options_ += " --state " + options.state.string();
}

bool StateFolder::exists() const {
  std::error_code error;
  return fs::exists(file("state"), error);
}

void StateFolder::create() const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    throw Failure(fmt::format("{} cannot be made: {}", folder_.string(), error.message()));
  }
  ::chmod(folder_.c_str(), 0700);
  const int fd = ::open(file("state").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST) {
    throw Failure(fmt::format(
        "cluster {} is up already, its state is in {}: brood-cluster status{} shows it, "
        "brood-cluster down{} ends it; --name makes another beside it",
        name_, folder_.string(), options_, options_));
  }
  if (fd < 0) {
    throw Failure(
        fmt::format("{} cannot be written: {}", file("state").string(), std::strerror(errno)));
  }
  ::close(fd);
}

void StateFolder::save(const State& state) const {
  std::string text = fmt::format(
      "name {}\nurl {}\nagent_url {}\nkey {}\nca {}\nlease {}\nversion {}\nserver {} {}\n"
      "store {}\nssh {}\n",
      state.name, state.url, state.agent_url, state.key, state.ca, state.lease, state.version,
      state.server.pid, state.server.start, state.store.string(), fmt::join(state.ssh, " "));
  for (const AgentRecord& agent : state.agents) {
    text += fmt::format("agent {} {} {} {} {}\n", agent.host.empty() ? "-" : agent.host,
                        agent.process.pid, agent.process.start, agent.node, agent.log);
  }
  const fs::path next = file("state.new");
  write_private(next, text);
  fs::rename(next, file("state"));
  write_private(agents_file(), exports(agent_environment(state)));
}

State StateFolder::load() const {
  std::ifstream lines(file("state"));
  if (!lines) {
    throw Failure(fmt::format("there is no cluster {} in {}: brood-cluster up{} starts one", name_,
                              folder_.string(), options_));
  }
  State state{.name = name_};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    const std::string rest = line.substr(std::min(line.size(), what.size() + 1));
    if (what == "name") state.name = rest;
    if (what == "url") state.url = rest;
    if (what == "agent_url") state.agent_url = rest;
    if (what == "key") state.key = rest;
    if (what == "ca") state.ca = rest;
    if (what == "version") state.version = rest;
    if (what == "store") state.store = rest;
    if (what == "lease") words >> state.lease;
    if (what == "server") words >> state.server.pid >> state.server.start;
    if (what == "ssh") {
      for (std::string word; words >> word;) state.ssh.push_back(word);
      words.clear();
    }
    if (what == "agent") {
      AgentRecord agent;
      words >> agent.host >> agent.process.pid >> agent.process.start >> agent.node >> std::ws;
      std::getline(words, agent.log);
      if (agent.host == "-") agent.host.clear();
      state.agents.push_back(std::move(agent));
    }
    if (words.fail()) {
      throw Failure(fmt::format("{} is damaged: '{}'", file("state").string(), line));
    }
  }
  return state;
}

void StateFolder::remove(const State& state) const {
  std::error_code ignored;  // what is gone is gone
  if (!state.store.empty()) fs::remove_all(state.store, ignored);
  for (const AgentRecord& agent : state.agents) {
    if (agent.host.empty()) fs::remove(agent.log, ignored);
  }
  for (const char* const name : {"server.log", "server.conf", "agents.env", "state.new", "state"}) {
    fs::remove(file(name), ignored);
  }
  fs::remove(folder_, ignored);
}

namespace {

std::vector<std::string> environment(const State& state, const std::string& url) {
  std::vector<std::string> all{"BROOD_CLUSTER_URL=" + url, "BROOD_CLUSTER_KEY=" + state.key,
                               "BROOD_CLUSTER_NAME=" + state.name};
  if (!state.ca.empty()) all.push_back("BROOD_CLUSTER_CA=" + state.ca);
  if (state.lease != 0) all.push_back(fmt::format("BROOD_CLUSTER_LEASE={}", state.lease));
  return all;
}

}  // namespace

std::string agents_api(const std::string& name) { return name + ".api"; }

std::vector<std::string> client_environment(const State& state) {
  return environment(state, state.url);
}
std::vector<std::string> agent_environment(const State& state) {
  std::vector<std::string> all = environment(state, state.agent_url);
  // Those that come in as clients do are in the account of the streams.
  if (state.agent_url != state.url) all.push_back("BROOD_CLUSTER_API=" + agents_api(state.name));
  return all;
}

std::string exports(const std::vector<std::string>& environment) {
  std::string text;
  for (const std::string& variable : environment) {
    const std::size_t at = variable.find('=');
    text +=
        fmt::format("export {}={}\n", variable.substr(0, at), shell_word(variable.substr(at + 1)));
  }
  return text;
}

}  // namespace tool
