// Waiting for what another process does, without guessing how long it takes: states are polled, and
// what does not come in time is a failure that says what was waited for.
#pragma once

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/temp_dir.hpp"

namespace brood::testing {

/// True as soon as `what` is; false when it has not been for `patience`.
template <class What>
[[nodiscard]] bool eventually(What what,
                              std::chrono::milliseconds patience = std::chrono::seconds(30)) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!what()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// A sign: a file that exists.
inline void give_sign(const std::string& path) { std::ofstream(path, std::ios::app) << "."; }
[[nodiscard]] inline bool sign_given(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}
/// For tasks as well as tests: throws when it is never given.
inline void await_sign(const std::string& path) {
  if (!eventually([&] { return sign_given(path); })) {
    throw std::runtime_error("nobody gave the sign " + path);
  }
}

/// The state letter of a process in /proc: 'S' sleeping, 'T' stopped, 'Z' zombie; '?' when gone.
inline char process_state(int pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t end = text.rfind(')');
  return end == std::string::npos ? '?' : text[end + 2];
}
/// It does not run any more; its parent may not know yet.
inline bool process_ended(int pid) {
  const char state = process_state(pid);
  return state == '?' || state == 'Z' || state == 'X';
}

}  // namespace brood::testing
