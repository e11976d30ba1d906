// Layer: cluster
// Where a cluster is, and how to come in. What is not given is the environment's, where whoever
// started the cluster has put it: `eval "$(brood-cluster env)"`.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace brood {

struct ClusterOptions {
  /// Of the NATS server, or several of one cluster with commas between them: its JetStream must be
  /// on. "nats://host:4222", "nats://user:password@host:4222", "tls://...". If not given, the
  /// environment's BROOD_CLUSTER_URL, else "nats://127.0.0.1:4222".
  std::string url = {};
  /// The secret that this program and its agents share: who has it may run this program's functions
  /// on the agents. The environment's BROOD_CLUSTER_KEY if not given.
  std::string key = {};
  /// Programs with different names on one server do not see each other: letters, digits, - and _.
  /// If not given, the environment's BROOD_CLUSTER_NAME, else "brood".
  std::string name = {};
  /// A file with the server's credentials (JWT and seed). The environment's
  /// BROOD_CLUSTER_CREDENTIALS if not given; empty: none are needed.
  std::string credentials = {};
  /// Certificates of who may have signed the server's, for tls://. The environment's
  /// BROOD_CLUSTER_CA if not given; empty: the system's.
  std::string ca_file = {};
  /// How long tasks wait for an agent that can run them, before they fail with NoAgents; and how
  /// long calls of a ClusterQueue or ClusterDict wait for a server that does not answer.
  std::chrono::nanoseconds patience = std::chrono::seconds(10);
  /// How long a node that is not heard of keeps its tasks, and a consumer what it took. Not less
  /// than a second. 0: so many seconds as the environment's BROOD_CLUSTER_LEASE says, else 15.
  std::chrono::nanoseconds lease{0};
  /// Servers of one cluster that keep each thing, 1 to 5: with 3, any one of them may be lost.
  std::uint32_t replicas = 1;
};

}  // namespace brood
