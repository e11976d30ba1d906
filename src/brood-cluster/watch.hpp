// What the server of a cluster and its agents tell.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <brood/cluster/message.hpp>

#include "state.hpp"

namespace tool {

struct Node {
  std::string name;
  std::uint32_t workers = 0;
  std::uint32_t in_hand = 0;  // tasks
};

struct Stream {
  std::string name;
  std::uint64_t messages = 0;
};

/// Listens to the beats of agents from the moment that it is made, without being a client: nothing
/// is made on the server.
class Watch {
 public:
  /// Throws what a client throws that does not get in.
  explicit Watch(const State& state);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

  /// Agents that have been heard of so far, by name; of those with another key nothing is heard.
  const std::map<std::string, Node>& hear(std::chrono::milliseconds patience);
  /// Throws Failure.
  [[nodiscard]] std::vector<Stream> streams() const;

 private:
  class Connection;
  std::unique_ptr<Connection> connection_;
  const brood::detail::MessageKeys keys_;
  std::map<std::string, Node> nodes_;
};

}  // namespace tool
