// The NATS server of a cluster.
#pragma once

#include <string>

#include "options.hpp"
#include "state.hpp"

namespace tool {

/// Starts it, with a configuration in the state's folder, and waits until it answers. Fills in the
/// state: URLs with passwords, process, version. Throws Failure with the end of its log.
void start_server(State& state, const StateFolder& folder, const Options& options);

}  // namespace tool
