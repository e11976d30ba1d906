// How handles to things of a cluster find their server in the process that they come to.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <brood/cluster/nats_setup.hpp>
#include <brood/cluster_options.hpp>

namespace brood::detail {

/// All that a process needs to use a cluster.
struct ClusterPlace {
  NatsSetup nats;
  std::string key;
  std::chrono::nanoseconds patience = std::chrono::seconds(10);
};

/// What goes with a handle: no secrets, so neither the key nor user and password of the URL.
struct PlaceName {
  std::string url;
  std::string cluster;
  std::string credentials;  // names of files, as the next
  std::string ca_file;
  std::int64_t lease = 0;  // nanoseconds, as the next
  std::int64_t patience = 0;

  friend bool operator==(const PlaceName& a, const PlaceName& b) {
    return a.url == b.url && a.cluster == b.cluster;
  }
};

/// Of the options that somebody makes a handle with; the key of the environment if there is none.
/// This process remembers it for handles that come to it. Throws ArgumentError.
ClusterPlace place_of(ClusterOptions options);

PlaceName name_of(const ClusterPlace& place);

/// What this process knows of a place: what it made handles with; or what is in its environment, if
/// BROOD_CLUSTER_URL is there (as in an agent's workers) and BROOD_CLUSTER_NAME is the cluster's;
/// or what the name says, and the key of the environment.
ClusterPlace find_place(const PlaceName& name);

}  // namespace brood::detail
