#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <brood/cluster_options.hpp>

namespace brood::detail {

/// What a process must know of the server.
struct NatsSetup {
  std::string url;
  std::string name;  // of the cluster
  std::string credentials;
  std::string ca_file;
  std::chrono::nanoseconds lease = std::chrono::seconds(15);
  std::uint32_t replicas = 1;
};

/// Throws ArgumentError for options that make no sense.
NatsSetup nats_setup(const ClusterOptions& options);

}  // namespace brood::detail
