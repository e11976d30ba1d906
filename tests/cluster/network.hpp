// Machines on one machine: network namespaces on a bridge, which can be cut off and killed.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace brood::testing {

/// A network of the test's own. Machine 0 is this program itself, which has an address there; the
/// others are namespaces, which programs enter when they start. All are named after this process;
/// what a process that was killed has left is removed by the next one that makes a network.
///
/// Needs root and `ip`. One thread.
class Network {
 public:
  /// Why there can be none here; empty if there can.
  static std::string missing();

  /// `machines`: beside this one, 1 to 99.
  explicit Network(int machines);
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  /// Kills what runs there.
  ~Network();

  [[nodiscard]] std::string address(int machine) const;
  /// For a child that is to run there: from then on its sockets are that machine's. False if it
  /// cannot be done.
  [[nodiscard]] std::function<bool()> enter(int machine) const;
  /// Nothing comes and goes any more, as when a cable is pulled or a switch fails: nobody is told.
  void cut(int machine) const;
  void heal(int machine) const;
  /// The same between these two alone, both of them no machine of this program.
  void separate(int one, int other) const;
  void rejoin(int one, int other) const;
  /// The processes that are there.
  [[nodiscard]] std::vector<int> processes(int machine) const;
  /// SIGKILL to all of them, until there are none.
  void kill(int machine) const;

 private:
  [[nodiscard]] std::string name(int machine) const;
  void remove() const;

  int machines_;
};

}  // namespace brood::testing
