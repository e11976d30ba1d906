// What the kernel says of processes, from /proc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <brood/platform/fd.hpp>

namespace brood::top {

struct SystemView {
  char state = '?';  // as in ps: R runs, S sleeps, D waits for a device, T stopped, Z ended
  int parent = 0;
  int threads = 0;
  double cpu_seconds = 0;
  double age_seconds = 0;
  std::uint64_t resident_bytes = 0;
};

/// Nothing when there is no such process (any more).
std::optional<SystemView> look_at_process(int pid);

/// What BROOD_FAMILY was when the process was executed: of `spawn`, "child TAG COUNT".
std::string family_variable_of(int pid);

/// The memory of the family that the process is in, to be read only. Throws StateError when it is
/// in none, SystemError when it cannot be looked at.
detail::Fd open_family_memory(int pid);

}  // namespace brood::top
