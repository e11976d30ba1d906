#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <brood/cluster_options.hpp>

namespace brood::detail {

/// What a process must know of the server.
struct NatsSetup {
  std::string url;   // perhaps several, with commas between; perhaps with passwords
  std::string name;  // of the cluster
  std::string credentials;
  std::string ca_file;
  std::chrono::nanoseconds lease = std::chrono::seconds(15);
  std::uint32_t replicas = 1;
};

/// What is not given is the environment's. Throws ArgumentError for options that make no sense.
NatsSetup nats_setup(const ClusterOptions& options);

/// The URLs without users and passwords, to be shown.
std::string shown_url(const NatsSetup& setup);

/// An environment variable as a whole number of at least 1. Throws ArgumentError for what is none.
std::uint32_t number_variable(const char* name, std::uint32_t otherwise);

}  // namespace brood::detail
