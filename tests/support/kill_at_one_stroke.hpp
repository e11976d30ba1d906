#pragma once

#include <signal.h>

#include <algorithm>
#include <vector>

#include "support/eventually.hpp"

namespace brood::testing {

/// Kills them, stopped first, so that none of them sees another end. False if that cannot be done.
inline bool kill_at_one_stroke(const std::vector<int>& pids) {
  const auto all = [&](const auto& holds) { return std::ranges::all_of(pids, holds); };
  return all([](int pid) { return ::kill(pid, SIGSTOP) == 0; }) &&
         all([](int pid) { return eventually([pid] { return process_state(pid) == 'T'; }); }) &&
         all([](int pid) { return ::kill(pid, SIGKILL) == 0; }) &&
         all([](int pid) { return eventually([pid] { return process_ended(pid); }); });
}

}  // namespace brood::testing
