// What brings tasks to agents and results back: NATS, or a stand-in that loses things on purpose.
//
// An engine may lose, delay and double whatever it has, at any time and all at once: who submitted
// a task keeps it until the result is there. What it must do is in the comments.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <brood/cluster/message.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// The side of a client. receive() is called by one thread, everything else by one other.
class ClientEngine {
 public:
  ClientEngine() = default;
  ClientEngine(const ClientEngine&) = delete;
  ClientEngine& operator=(const ClientEngine&) = delete;
  virtual ~ClientEngine() = default;

  /// True: the engine has it, as far as it can promise. False: it is full, or away; try again. The
  /// same `id` again is the same message, for some time at least.
  virtual bool send(std::uint64_t build, const std::string& id,
                    std::span<const std::byte> message) = 0;
  /// What send() has just refused may have arrived all the same: nobody said that it has not.
  [[nodiscard]] virtual bool may_have_arrived() const { return false; }
  /// A message of results for this client; nullopt at the deadline.
  virtual std::optional<Bytes> receive(Deadline deadline) = 0;
  /// It has nothing for agents of this build, handed out messages included, and no results for this
  /// client. False if it cannot say.
  virtual bool empty(std::uint64_t build) = 0;
  /// False: it is known to be away, so that not hearing of anybody means nothing.
  [[nodiscard]] virtual bool reachable() { return true; }
  /// Beats since the last call.
  virtual std::vector<Bytes> beats() = 0;
  /// To all agents that listen now.
  virtual void note(std::span<const std::byte> message) = 0;
  /// The largest message that it takes.
  [[nodiscard]] virtual std::size_t most_bytes() const = 0;
};

/// The side of an agent. fetch() is called by one thread, everything else by one other.
class AgentEngine {
 public:
  AgentEngine() = default;
  AgentEngine(const AgentEngine&) = delete;
  AgentEngine& operator=(const AgentEngine&) = delete;
  virtual ~AgentEngine() = default;

  /// Handed out, to this agent alone, until it is done, given back, or not extended for lease().
  struct Delivery {
    std::uint64_t id = 0;
    std::uint32_t times = 1;  // that it was handed out, this time included
    Bytes message;
  };
  /// Nullopt at the deadline, or when the engine is away.
  virtual std::optional<Delivery> fetch(Deadline deadline) = 0;
  virtual void extend(std::uint64_t id) = 0;
  virtual void done(std::uint64_t id) = 0;
  virtual void give_back(std::uint64_t id) = 0;
  /// Of all who ever claim the same name, in an hour at least, one is told `mine`. `unknown`: it
  /// may have been that one, but the engine does not say.
  enum class Claim : std::uint8_t { mine, taken, unknown };
  virtual Claim claim(const std::string& name) = 0;
  [[nodiscard]] virtual Deadline::Clock::duration lease() const = 0;

  /// True: the engine has it for the client. False: try again.
  virtual bool reply(const ClientId& client, std::span<const std::byte> message) = 0;
  virtual void beat(std::span<const std::byte> message) = 0;
  /// Notes of clients since the last call.
  virtual std::vector<Bytes> notes() = 0;
  [[nodiscard]] virtual std::size_t most_bytes() const = 0;
};

}  // namespace brood::detail
