#pragma once

#include <string>

namespace brood::detail {

/// What a program does that is started as an agent of a cluster, `--brood-agent URL` (empty: not
/// given): its exit status. The cluster's library, which stands above this one, says so when it is
/// loaded.
using AgentMain = int (*)(const std::string& url);

void set_agent_main(AgentMain main) noexcept;
/// Null where there is none.
AgentMain agent_main() noexcept;

}  // namespace brood::detail
