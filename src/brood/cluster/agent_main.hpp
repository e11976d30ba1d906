#pragma once

#include <string>

namespace brood::detail {

/// The main function of a program that was started as `./app --brood-agent URL`; without the
/// URL, which may have a password and would be seen by everybody, it is BROOD_CLUSTER_URL. Key,
/// name and the like are in the environment: BROOD_CLUSTER_KEY, BROOD_CLUSTER_NAME,
/// BROOD_CLUSTER_CREDENTIALS, BROOD_CLUSTER_CA, BROOD_CLUSTER_LEASE (seconds),
/// BROOD_CLUSTER_API (what the server calls JetStream, if not $JS.API); BROOD_AGENT_WORKERS.
/// Until SIGTERM or SIGINT:
/// then what runs is finished, as far as half a minute will do, and the rest given back.
int run_agent(const std::string& url);

}  // namespace brood::detail
