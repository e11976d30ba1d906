// An agent of the test's own.
#pragma once

#include <cstdlib>
#include <functional>
#include <string>

#include "support/program.hpp"

namespace brood::testing {

/// The test program itself as an agent, or another program.
class AgentProcess {
 public:
  struct Start {
    std::string program = "cluster_tests";
    std::string key = "secret";
    /// Done in the process before the program runs; false: it cannot be done.
    std::function<bool()> prepare = {};
  };
  explicit AgentProcess(const std::string& url) : AgentProcess(url, Start()) {}
  AgentProcess(const std::string& url, Start start)
      : program_(start.program, {.arguments = {"--brood-agent", url}, .prepare = [start] {
                                   ::setenv("BROOD_CLUSTER_KEY", start.key.c_str(), 1);
                                   ::setenv("BROOD_CLUSTER_LEASE", "1", 1);
                                   ::setenv("BROOD_AGENT_WORKERS", "1", 1);
                                   return !start.prepare || start.prepare();
                                 }}) {}
  [[nodiscard]] int pid() const { return program_.pid(); }
  Program& program() { return program_; }

 private:
  Program program_;
};

}  // namespace brood::testing
