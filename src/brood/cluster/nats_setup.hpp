#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <brood/cluster_options.hpp>

namespace brood::detail {

/// What a process must know of the server.
struct NatsSetup {
  std::string url;                   // to be shown: without passwords
  std::vector<std::string> servers;  // the URLs, as they were given
  std::string name;                  // of the cluster
  std::string inbox = {};            // what answers to this process begin with; empty: libnats' own
  std::string credentials;
  std::string ca_file;
  std::chrono::nanoseconds lease = std::chrono::seconds(15);
  std::uint32_t replicas = 1;
};

/// What is not given is the environment's. Throws ArgumentError for options that make no sense.
NatsSetup nats_setup(const ClusterOptions& options);

/// What answers to agents begin with: apart from those to clients, so that a server can refuse to
/// show these to an agent.
std::string agents_inbox(const std::string& cluster);

/// An environment variable as a whole number of at least 1. Throws ArgumentError for what is none.
std::uint32_t number_variable(const char* name, std::uint32_t otherwise);

}  // namespace brood::detail
