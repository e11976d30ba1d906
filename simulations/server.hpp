#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>

#include <world.hpp>

namespace brood::simulation {

class Agents;
class Client;

/// The server: a work queue with leases, a queue of results for the client, plain messages. It does
/// one thing after the other: what comes is done at once, and its answer leaves when everything
/// before it has been worked off.
class Server {
 public:
  explicit Server(World& world) : world_(world) {}
  void connect(Agents& agents, Client& client);
  void start();

  /// When what costs so much is done.
  Time served(Duration cost, std::uint64_t messages, std::uint64_t bytes);
  void count_infos(std::uint64_t n) { world_.second().infos += n; }

  [[nodiscard]] bool away() const { return away_; }
  void go_away() { away_ = true; }
  /// Programs connect again a little later.
  void come_back(bool loses_store);

  // What it knows; false after it has lost all, until the client makes them anew.
  [[nodiscard]] bool knows() const { return knows_; }
  void make() { knows_ = true; }

  enum class Taken : std::uint8_t { yes, full, unknown };
  Taken store_tasks(const Lot& lot);
  /// A request for a message of tasks. False: it does not know of what.
  bool pull(std::uint32_t agent, std::uint32_t life, std::uint32_t number, Time expires);
  void extend(std::uint64_t id);
  void done(std::uint64_t id);

  bool store_results(Parcel parcel);
  std::vector<Parcel> take_results(std::size_t most);
  [[nodiscard]] bool has_results() const { return !results_.empty(); }

  /// It has nothing, handed out or not.
  [[nodiscard]] bool empty() const { return tasks_.empty() && results_.empty(); }
  [[nodiscard]] std::size_t held() const { return tasks_.size(); }

 private:
  struct Task {
    Lot lot;
    std::uint32_t times = 0;
    bool handed_out = false;
    std::uint32_t agent = 0;  // to whom
    std::uint32_t life = 0;
    Time until{0};
  };
  struct Pull {
    std::uint32_t agent;
    std::uint32_t life;
    std::uint32_t number;
    Time expires;
  };
  struct Lease {
    Time until;
    std::uint64_t id;
  };

  void hand_out();
  void end_leases();

  World& world_;
  Agents* agents_ = nullptr;
  Client* client_ = nullptr;
  bool away_ = false;
  bool knows_ = true;
  Time free_{0};
  std::unordered_map<std::uint64_t, Task> tasks_;
  std::deque<std::uint64_t> again_;  // to be handed out first
  std::deque<std::uint64_t> waiting_;
  std::deque<Pull> pulls_;
  std::deque<Lease> leases_;  // all are as long: in the order of their ends
  std::deque<Parcel> results_;
  std::uint64_t last_ = 0;
};

}  // namespace brood::simulation
