#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

namespace brood::testing {

/// What a test must leave as it found it.
struct Footprint {
  std::map<std::string, int> descriptors;  // what they refer to, and how many do
  std::map<std::string, int> mappings;     // of shared memory
  std::set<std::string> names;             // in /dev/shm
  std::set<std::string> processes;         // of the family, and children of this process

  static Footprint now();
  /// What is here and not in `before`, a line each.
  [[nodiscard]] std::string beyond(const Footprint& before) const;
};

/// Fails every test that leaves a process, descriptor, mapping or name behind.
class LeakCheck : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo& info) override;
  void OnTestEnd(const ::testing::TestInfo& info) override;

  Footprint before_;
};

}  // namespace brood::testing
