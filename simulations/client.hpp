#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <brood/cluster/task_table.hpp>

#include <world.hpp>

namespace brood::simulation {

class Agents;
class Server;

/// The process that submits: the library's TaskTable, and its two threads as client.cpp runs them.
class Client {
 public:
  static constexpr std::uint64_t kBuild = 1;

  explicit Client(World& world);
  void connect(Server& server, Agents& agents);
  void start();

  void hear(detail::NodeBeat beat) { beats_.push_back(std::move(beat)); }
  void results_are_there();
  void reconnected();

  [[nodiscard]] bool finished() const { return ended_count_ == ended_.size() && table_.empty(); }
  /// Tasks wait to be sent, or to be submitted.
  [[nodiscard]] bool has_more() const { return table_.waiting() || added_ < ended_.size(); }
  [[nodiscard]] std::uint64_t in_flight() const { return table_.in_flight(); }
  [[nodiscard]] const detail::TaskTable::Counts& counts() const { return table_.counts; }

 private:
  struct Task;
  struct Publish {
    std::uint64_t attempt;
    Lot lot;
  };

  [[nodiscard]] detail::TaskTable::Time table_time() const;
  void submit();
  void ended(std::uint32_t number, bool failed);
  void failed(std::uint32_t number, const std::exception_ptr& error);
  void fail(const detail::TaskTable::Failed& failed);
  // The sender:
  void turn();
  void look();
  void looked(bool nothing);
  void go_on();
  void send();
  void publish(std::uint32_t parcel, std::uint64_t attempt, bool connected);
  void answered(std::uint64_t attempt, bool taken);
  /// Makes what the server has not, then `sleep`s.
  void ensure();
  void sleep(Duration most);
  void wake();
  // The receiver:
  void receive();
  void fetch();
  void accept();

  World& world_;
  Server* server_ = nullptr;
  Agents* agents_ = nullptr;
  detail::TaskTable table_;
  const std::shared_ptr<detail::ClusterCall> call_;
  std::vector<detail::NodeBeat> beats_;
  // Tasks:
  std::uint64_t added_ = 0;
  std::uint64_t ended_count_ = 0;
  std::uint64_t first_without_ = 0;  // all before it have ended
  std::vector<std::uint8_t> ended_;  // how often
  // The sender:
  Time next_look_{0};
  Time next_note_{0};
  std::uint64_t attempt_ = 0;
  detail::TaskTable::Batch batch_;
  std::vector<Publish> buffered_;
  bool sleeping_ = false;
  std::uint64_t sleep_ = 0;
  // The receiver:
  bool waiting_ = false;
  std::vector<Parcel> received_;
};

}  // namespace brood::simulation
