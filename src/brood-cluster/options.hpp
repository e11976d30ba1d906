// The command line of brood-cluster.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tool {

struct Options {
  std::string command;  // "up", "down", "status", "env", "slurm"
  bool help = false;
  std::string name = "brood";
  std::filesystem::path state;  // folder; empty: the default for the name
  // up
  std::uint32_t agents = 1;   // on each machine
  std::uint32_t workers = 0;  // of each agent; 0: a CPU each
  std::uint32_t port = 0;     // 0: a free one
  std::uint32_t lease = 0;    // seconds; 0: the default of agents and clients
  bool trust_agents = false;  // they are clients
  std::uint32_t wait = 30;    // seconds, for all to be there
  std::vector<std::string> hosts;
  std::vector<std::string> ssh{"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"};
  std::string address;  // of this machine, as agents and clients reach it; empty: see up.cpp
  std::filesystem::path store;
  std::string server = "nats-server";
  std::filesystem::path certificate;  // with the next two: TLS
  std::filesystem::path certificate_key;
  std::filesystem::path ca;
  // down
  std::uint32_t grace = 35;  // seconds, for agents to finish what they have
  // status
  bool json = false;
  // slurm
  std::uint32_t array = 4;
  std::uint32_t cpus = 1;
  std::string partition;
  std::string time;
  // up, slurm
  std::vector<std::string> app;  // and its arguments
};

/// Throws UsageError, which says what is wrong.
Options parse(const std::vector<std::string>& words);

/// What `--help` says; of all of it when `command` is empty.
std::string usage(const std::string& command);

}  // namespace tool
