// What is known of a cluster: a folder of which only its user can read anything.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "options.hpp"
#include "processes.hpp"

namespace tool {

struct AgentRecord {
  std::string host = {};  // empty: this machine
  ProcessId process = {};
  std::string node = {};  // by which it is heard of
  std::string log = {};   // on its machine
};

struct State {
  std::string name = {};
  std::string url = {};        // with the client's password
  std::string agent_url = {};  // with the agents'
  std::string key = {};
  std::string ca = {};       // file; empty: no TLS
  std::uint32_t lease = 0;   // seconds; 0: the default
  std::string version = {};  // of the server
  ProcessId server = {};
  std::filesystem::path store = {};
  std::vector<std::string> ssh = {};
  std::vector<AgentRecord> agents = {};
};

class StateFolder {
 public:
  /// The one that the options name. Throws Failure when that needs a HOME and there is none.
  explicit StateFolder(const Options& options);

  /// Of the cluster; not there when nothing was started.
  [[nodiscard]] bool exists() const;
  /// Makes the folder, and an empty state. Throws Failure when there is one.
  void create() const;
  /// Throws Failure when there is none, or it is damaged.
  [[nodiscard]] State load() const;
  /// All or nothing; mode 0600. And what agents that others start must know: agents_file().
  void save(const State& state) const;
  /// What create() and the processes have put there, and the folder if nothing else is in it.
  void remove(const State& state) const;

  [[nodiscard]] std::filesystem::path file(std::string_view name) const { return folder_ / name; }
  [[nodiscard]] std::filesystem::path agents_file() const { return file("agents.env"); }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }
  /// For messages: " --name x", " --state y" where they are not the defaults.
  [[nodiscard]] const std::string& options() const { return options_; }

 private:
  std::filesystem::path folder_;
  std::string name_;
  std::string options_;
};

/// A file that only its user can read. Throws Failure.
void write_private(const std::filesystem::path& path, std::string_view text);

/// As one word of a shell.
std::string shell_word(std::string_view text);

/// What JetStream is called in the account of agents, which has none of its own.
std::string agents_api(const std::string& name);

/// "NAME=value", for clients and for agents.
std::vector<std::string> client_environment(const State& state);
std::vector<std::string> agent_environment(const State& state);
/// As shell commands that export them.
std::string exports(const std::vector<std::string>& environment);

}  // namespace tool
