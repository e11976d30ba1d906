// A server of tasks in this process that loses, doubles and delays what it has, by seed.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/cluster/engine.hpp>

namespace brood::testing {

using detail::Bytes;
using detail::Deadline;

/// How likely each mishap is, 0 to 1; and how much there is room for.
struct Mishaps {
  unsigned seed = 1;
  double lose_task = 0;
  double double_task = 0;
  double lose_result = 0;
  double double_result = 0;
  double delay_result = 0;
  double refuse = 0;       // by either side, as when the server is away
  double keep_silent = 0;  // about a task that it has taken
  std::size_t most_messages = 1000;
  std::chrono::milliseconds lease{300};
  std::size_t most_bytes = std::size_t{1} << 20U;
};

class FakeServer {
 public:
  explicit FakeServer(Mishaps mishaps = {}) : mishaps_(mishaps), random_(mishaps.seed) {}

  /// All that it has, tasks and results.
  void lose_everything() {
    const std::scoped_lock lock(mutex_);
    tasks_.clear();
    results_.clear();
  }
  /// Whoever comes is refused while it is away.
  void go_away(bool away) {
    const std::scoped_lock lock(mutex_);
    away_ = away;
  }
  /// Nobody hears of clients meanwhile.
  void mute(bool muted) {
    const std::scoped_lock lock(mutex_);
    muted_ = muted;
  }
  [[nodiscard]] std::size_t tasks() {
    const std::scoped_lock lock(mutex_);
    return tasks_.size();
  }

  /// Messages of results that agents have handed over.
  [[nodiscard]] std::size_t replies() {
    const std::scoped_lock lock(mutex_);
    return replies_;
  }

  std::unique_ptr<detail::ClientEngine> client(detail::ClientId id);
  std::unique_ptr<detail::AgentEngine> agent(std::uint64_t build);

 private:
  using Clock = std::chrono::steady_clock;
  struct Task {
    std::uint64_t build;
    Bytes message;
    std::uint32_t times = 0;
    std::uint64_t handed_out = 0;  // of the last delivery; 0: it waits
    Clock::time_point until{};
  };
  struct Result {
    Bytes message;
    Clock::time_point from;
  };
  class Client;
  class Agent;

  [[nodiscard]] bool happens(double chance) {
    return std::uniform_real_distribution<double>(0, 1)(random_) < chance;
  }

  const Mishaps mishaps_;
  std::mutex mutex_;
  std::mt19937 random_;  // guarded by mutex_, as all below
  bool away_ = false;
  bool muted_ = false;
  std::deque<Task> tasks_;
  std::set<std::string> known_;
  std::set<std::string> claimed_;
  std::map<detail::ClientId, std::deque<Result>> results_;
  std::vector<Bytes> beats_;
  std::map<const Agent*, std::vector<Bytes>> notes_;  // that each has not read
  std::uint64_t deliveries_ = 0;
  std::size_t replies_ = 0;
};

class FakeServer::Client final : public detail::ClientEngine {
 public:
  Client(FakeServer& server, detail::ClientId id) : server_(server), id_(std::move(id)) {}

  bool send(std::uint64_t build, const std::string& id,
            std::span<const std::byte> message) override {
    const std::scoped_lock lock(server_.mutex_);
    may_have_arrived_ = false;
    if (server_.away_ || server_.happens(server_.mishaps_.refuse)) return false;
    if (server_.tasks_.size() >= server_.mishaps_.most_messages) return false;
    if (!server_.known_.insert(id).second) return true;
    const int copies = server_.happens(server_.mishaps_.lose_task)     ? 0
                       : server_.happens(server_.mishaps_.double_task) ? 2
                                                                       : 1;
    for (int i = 0; i < copies; ++i) {
      server_.tasks_.push_back({.build = build, .message = {message.begin(), message.end()}});
    }
    may_have_arrived_ = server_.happens(server_.mishaps_.keep_silent);
    return !may_have_arrived_;
  }
  [[nodiscard]] bool may_have_arrived() const override { return may_have_arrived_; }
  std::optional<Bytes> receive(Deadline deadline) override {
    for (;;) {
      {
        const std::scoped_lock lock(server_.mutex_);
        auto& mine = server_.results_[id_];
        for (auto result = mine.begin(); !server_.away_ && result != mine.end(); ++result) {
          if (result->from > Clock::now()) continue;
          Bytes message = std::move(result->message);
          mine.erase(result);
          return message;
        }
      }
      if (deadline.passed()) return std::nullopt;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  bool empty(std::uint64_t build) override {
    const std::scoped_lock lock(server_.mutex_);
    return !server_.away_ && server_.results_[id_].empty() &&
           std::ranges::none_of(server_.tasks_,
                                [&](const Task& task) { return task.build == build; });
  }
  std::vector<Bytes> beats() override {
    const std::scoped_lock lock(server_.mutex_);
    return std::exchange(server_.beats_, {});
  }
  void note(std::span<const std::byte> message) override {
    const std::scoped_lock lock(server_.mutex_);
    if (server_.away_ || server_.muted_) return;
    for (auto& [agent, notes] : server_.notes_) notes.emplace_back(message.begin(), message.end());
  }
  [[nodiscard]] std::size_t most_bytes() const override { return server_.mishaps_.most_bytes; }

 private:
  FakeServer& server_;
  detail::ClientId id_;
  bool may_have_arrived_ = false;
};

class FakeServer::Agent final : public detail::AgentEngine {
 public:
  Agent(FakeServer& server, std::uint64_t build) : server_(server), build_(build) {
    const std::scoped_lock lock(server_.mutex_);
    server_.notes_[this];
  }
  ~Agent() override {
    const std::scoped_lock lock(server_.mutex_);
    server_.notes_.erase(this);
  }

  std::optional<Delivery> fetch(Deadline deadline) override {
    for (;;) {
      {
        const std::scoped_lock lock(server_.mutex_);
        const auto now = Clock::now();
        for (Task& task : server_.tasks_) {
          if (server_.away_) break;
          if (task.build != build_ || (task.handed_out != 0 && task.until > now)) continue;
          task.handed_out = ++server_.deliveries_;
          task.until = now + server_.mishaps_.lease;
          return Delivery{.id = task.handed_out, .times = ++task.times, .message = task.message};
        }
      }
      if (deadline.passed()) return std::nullopt;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void extend(std::uint64_t id) override {
    const std::scoped_lock lock(server_.mutex_);
    for (Task& task : server_.tasks_) {
      if (task.handed_out == id) task.until = Clock::now() + server_.mishaps_.lease;
    }
  }
  void done(std::uint64_t id) override {
    const std::scoped_lock lock(server_.mutex_);
    std::erase_if(server_.tasks_, [&](const Task& task) { return task.handed_out == id; });
  }
  void give_back(std::uint64_t id) override {
    const std::scoped_lock lock(server_.mutex_);
    for (Task& task : server_.tasks_) {
      if (task.handed_out == id) task.handed_out = 0;
    }
  }
  Claim claim(const std::string& name) override {
    const std::scoped_lock lock(server_.mutex_);
    if (server_.away_) return Claim::unknown;
    const bool first = server_.claimed_.insert(name).second;
    if (server_.happens(server_.mishaps_.refuse)) return Claim::unknown;
    return first ? Claim::mine : Claim::taken;
  }
  [[nodiscard]] Deadline::Clock::duration lease() const override { return server_.mishaps_.lease; }
  bool reply(const detail::ClientId& client, std::span<const std::byte> message) override {
    const std::scoped_lock lock(server_.mutex_);
    if (server_.away_ || server_.happens(server_.mishaps_.refuse)) return false;
    ++server_.replies_;
    const int copies = server_.happens(server_.mishaps_.lose_result)     ? 0
                       : server_.happens(server_.mishaps_.double_result) ? 2
                                                                         : 1;
    for (int i = 0; i < copies; ++i) {
      const bool late = server_.happens(server_.mishaps_.delay_result);
      server_.results_[client].push_back(
          {.message = {message.begin(), message.end()},
           .from = Clock::now() + std::chrono::milliseconds(late ? 50 : 0)});
    }
    return true;
  }
  void beat(std::span<const std::byte> message) override {
    const std::scoped_lock lock(server_.mutex_);
    if (!server_.away_) server_.beats_.emplace_back(message.begin(), message.end());
  }
  std::vector<Bytes> notes() override {
    const std::scoped_lock lock(server_.mutex_);
    return std::exchange(server_.notes_[this], {});
  }
  [[nodiscard]] std::size_t most_bytes() const override { return server_.mishaps_.most_bytes; }

 private:
  FakeServer& server_;
  std::uint64_t build_;
};

inline std::unique_ptr<detail::ClientEngine> FakeServer::client(detail::ClientId id) {
  return std::make_unique<Client>(*this, std::move(id));
}
inline std::unique_ptr<detail::AgentEngine> FakeServer::agent(std::uint64_t build) {
  return std::make_unique<Agent>(*this, build);
}

}  // namespace brood::testing
