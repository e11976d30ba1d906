#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "support/temp_dir.hpp"

namespace brood::testing {

/// A program that was built beside this one, run in a session of its own, by which all processes
/// that come of it are found, and with its output in files. Its destructor kills what is left.
class Program {
 public:
  struct Start {
    std::vector<std::string> arguments = {};
    /// Done before the program is executed: limits, namespaces. Returns false when it cannot be
    /// done here; then the program exits with kCannotPrepare.
    std::function<bool()> prepare = {};
    std::vector<int> closed_streams = {};
  };
  static constexpr int kCannotPrepare = 125;

  /// `name`: brood_NAME, of tests/<layer>/programs/NAME.cpp.
  Program(const std::string& name, Start start);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  [[nodiscard]] int pid() const { return pid_; }
  /// Its exit code, or minus the signal that ended it; nullopt when it runs for too long.
  std::optional<int> wait(std::chrono::milliseconds patience = std::chrono::seconds(30));
  /// The processes that run in its session.
  [[nodiscard]] std::vector<int> family() const;
  /// One of them by the name that ps shows; 0 if there is none.
  [[nodiscard]] int find(const std::string& name) const;
  /// Waits until a signal has stopped one of them, and no other; 0 if that is never so.
  [[nodiscard]] int await_stopped() const;
  /// True when nobody is left of it in time.
  [[nodiscard]] bool all_gone(std::chrono::milliseconds patience = std::chrono::seconds(30)) const;
  [[nodiscard]] std::string out() const { return read_file(dir_.file("out")); }
  [[nodiscard]] std::string err() const { return read_file(dir_.file("err")); }
  /// For a failed expectation: what it wrote and who is there.
  [[nodiscard]] std::string describe() const;

 private:
  TempDir dir_;
  int pid_ = 0;
  std::optional<int> code_;
};

/// A time in which something must have happened, longer where more wants to run than can.
std::chrono::milliseconds within(std::chrono::milliseconds on_a_quiet_machine);

}  // namespace brood::testing
