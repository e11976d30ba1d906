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
inline constinit int forks_to_go = 0;

inline bool is_parent() {
  std::array<char, 16> name{};
  return ::prctl(PR_GET_NAME, name.data()) == 0 && std::string_view(name.data()) == parent;
}
}  // namespace late_child

/// From here on, of the children that the process `parent` forks, by the name that ps shows, the
/// first (or the second...) stops before it does anything else: as one that gets no processor,
/// until SIGCONT. In this program and in what it forks.
inline void stop_child_of(std::string_view parent, int which) {
  late_child::parent = parent;
  late_child::forks_to_go = which;
  const auto before = [] {
    if (late_child::is_parent()) --late_child::forks_to_go;
  };
  const auto in_child = [] {
    if (late_child::forks_to_go == 0 && late_child::is_parent()) ::raise(SIGSTOP);
  };
  if (::pthread_atfork(before, nullptr, in_child) != 0) throw std::runtime_error("pthread_atfork");
}

}  // namespace brood::testing
