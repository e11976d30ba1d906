#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include <world.hpp>

namespace brood::simulation {

class Client;
class Server;

/// The agents, as agent.cpp has them: what they take on and run, their leases, beats and results;
/// and what goes wrong with them.
class Agents {
 public:
  explicit Agents(World& world);
  void connect(Server& server, Client& client);
  void start();

  // From the server:
  void deliver(Time at, std::uint32_t agent, std::uint32_t life, Parcel parcel);
  void hear_client();
  void reconnected();
  /// When the one who has a message died, began to hang or was cut off; now, if it is well.
  [[nodiscard]] Time in_trouble_since(std::uint32_t agent, std::uint32_t life) const;

  void cut_off(double share);
  void heal();

  [[nodiscard]] bool idle() const;
  /// Seconds of workers that have gone into what runs now.
  [[nodiscard]] double begun() const;
  [[nodiscard]] std::uint32_t present() const { return present_; }
  /// The workers' time up to now goes where it belongs. Before anything that changes it.
  void account();

 private:
  struct Job {
    Lot lot;
    std::uint64_t id = 0;  // the server's
    std::size_t left = 0;  // tasks without a result
    bool given_up = false;
    bool dropped = false;  // nobody wants the results
  };
  struct Worker {
    bool busy = false;
    std::uint64_t job = 0;
    std::uint32_t task = 0;
    Duration stood_still{0};  // of the agent, when it began
    Duration allowed{0};      // of that, what its end was put off for
    Time began{0};
    std::uint32_t turn = 0;
  };
  struct Queued {
    std::uint64_t job;
    std::uint32_t task;
  };
  struct Reply {
    std::uint32_t attempt;
    Parcel parcel;
  };
  struct Agent {
    bool alive = false;
    bool cut = false;
    std::uint32_t life = 0;  // whatever was to happen in the one before does not
    Time hangs_until{0};
    Duration stood_still{0};  // in all
    Time trouble{0};          // its beginning
    std::string name;
    std::uint32_t in_hand = 0;
    std::uint32_t busy = 0;
    std::vector<Worker> workers;
    std::deque<Queued> queue;
    std::unordered_map<std::uint64_t, Job> jobs;
    // The fetcher:
    std::uint32_t pull = 0;
    bool full = false;
    Time full_since{0};
    // The thread that runs:
    Time next_beat{0};
    Time next_extension{0};
    Time heard{0};  // of the client
    std::deque<std::uint64_t> to_reply;
    std::vector<std::uint64_t> refused;
    bool replying = false;
    bool look_waits = false;
    std::uint32_t attempt = 0;
    // Said without a connection:
    std::vector<Reply> replies;
    std::vector<std::uint64_t> dones;
    bool extensions = false;
  };

  [[nodiscard]] bool connected(const Agent& agent) const;
  [[nodiscard]] bool hangs(const Agent& agent) const { return agent.hangs_until > world_.now(); }
  /// Later, in the same life, when it does not hang.
  template <class Action>
  void at(Time time, std::uint32_t who, Action action);
  template <class Action>
  void fire(std::uint32_t who, std::uint32_t life, Action action);

  [[nodiscard]] double ran(const Agent& agent, const Worker& worker) const;

  void be_born(std::uint32_t who);
  void die(std::uint32_t who);
  void hang(std::uint32_t who);
  void reconnect(std::uint32_t who);

  void fetch(std::uint32_t who);
  void take_on(std::uint32_t who, Parcel parcel);
  void start_tasks(std::uint32_t who);
  void finish(std::uint32_t who, std::uint32_t life, std::uint32_t worker, std::uint32_t turn);
  void has_room(std::uint32_t who);
  void look_after(std::uint32_t who);
  void extend(std::uint32_t who);
  void drop_all(std::uint32_t who);
  void hand_over(std::uint32_t who, std::uint64_t job);
  void reply_next(std::uint32_t who);
  void reply(std::uint32_t who, std::uint32_t life, std::uint32_t attempt, Parcel parcel);
  void replied(std::uint32_t who, std::uint32_t attempt, bool taken);
  void say_done(std::uint32_t who, std::uint64_t id);

  /// What an agent's workers do is counted in sums, of which it is taken, changed, and put back.
  void count(const Agent& agent, int sign);

  World& world_;
  Server* server_ = nullptr;
  Client* client_ = nullptr;
  std::vector<Agent> agents_;
  std::uint64_t last_job_ = 0;
  std::uint32_t present_ = 0;
  Time accounted_{0};
  std::int64_t dead_ = 0;  // workers
  std::int64_t hanging_ = 0;
  std::int64_t idle_ = 0;
  std::int64_t idle_cut_ = 0;
};

}  // namespace brood::simulation
