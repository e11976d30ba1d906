#pragma once

#include <chrono>
#include <string>

#include "state.hpp"

namespace tool {

/// Ends agents, then the server, and removes the state. Returns what could not be ended, and why:
/// then the state stays, with only that in it. Empty: nothing is left.
std::string take_down(State state, const StateFolder& folder, std::chrono::seconds grace);

}  // namespace tool
