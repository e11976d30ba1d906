#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include <array>
#include <stdexcept>
#include <string_view>

namespace brood::testing {

namespace late_child {
inline constinit std::string_view parent;
inline constinit bool forked = false;

inline bool is_parent() {
  std::array<char, 16> name{};
  return ::prctl(PR_GET_NAME, name.data()) == 0 && std::string_view(name.data()) == parent;
}
}  // namespace late_child

/// From here on, the first child that the process `parent` forks, by the name that ps shows, stops
/// before it does anything else: as one that gets no processor, until SIGCONT. In this program and
/// in what it forks.
inline void stop_first_child_of(std::string_view parent) {
  late_child::parent = parent;
  const auto in_parent = [] { late_child::forked = late_child::forked || late_child::is_parent(); };
  const auto in_child = [] {
    if (!late_child::forked && late_child::is_parent()) ::raise(SIGSTOP);
  };
  if (::pthread_atfork(nullptr, in_parent, in_child) != 0) {
    throw std::runtime_error("pthread_atfork");
  }
}

}  // namespace brood::testing
