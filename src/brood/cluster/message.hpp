// What clients and agents of a cluster say to each other, by way of an engine that anybody may be
// able to write to: so every message is signed with the key of the cluster.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <brood/channel/thunk.hpp>
#include <brood/cluster/envelope.hpp>

namespace brood::detail {

using Bytes = std::vector<std::byte>;

/// Who submitted a task: 32 hexadecimal digits, by chance.
using ClientId = std::string;

/// What the tasks of one call have in common. Durations in nanoseconds; 0: none, as of all limits.
struct TaskKind {
  FunctionId function{};
  std::int64_t timeout = 0;
  std::int64_t cpu_time = 0;
  std::uint64_t memory = 0;
  /// Of crashes, by the agent's pool.
  std::uint32_t retries = 0;
  std::int64_t backoff = 0;
  std::int64_t max_backoff = 0;
  double jitter = 0;
  std::int32_t priority = 0;
  /// Acknowledged before they run: a node that is lost with them has run them or has not.
  bool at_most_once = false;
  /// What the function's thunk reads first: the callable.
  Bytes prefix;
};

/// One call: what the function's thunk reads is the kind's `prefix`, then `call`.
struct TaskItem {
  std::uint64_t number = 0;   // the client's; a result names it
  std::uint32_t attempt = 1;  // how many failures the client has seen of it, and one
  Bytes call;
};

/// Tasks of one kind. Their order means nothing.
struct TaskMessage {
  static constexpr std::uint32_t kVersion = 2;

  std::uint32_t version = kVersion;
  ClientId client;
  TaskKind kind;
  std::vector<TaskItem> items;
};

struct TaskResult {
  /// `lost`: its nodes were lost, one after the other; nobody tries again.
  enum class Kind : std::uint8_t { value, error, lost };
  std::uint64_t number = 0;
  std::uint32_t attempt = 1;  // the item's
  Kind kind = Kind::value;
  Bytes bytes;  // value: as the thunk wrote it; error: an encoded ErrorRecord; lost: text
};

struct ResultMessage {
  std::uint32_t version = TaskMessage::kVersion;
  ClientId client;
  std::string node;
  std::vector<TaskResult> results;
};

/// What an agent tells now and then.
struct NodeBeat {
  std::string node;           // "host.pid"
  std::uint64_t build = 0;    // key of its program: see Module
  std::uint32_t slots = 0;    // workers
  std::uint32_t in_hand = 0;  // tasks
};

/// What a client tells all agents: that it lives, and which of its tasks nobody wants any more.
struct ClientNote {
  std::uint32_t version = TaskMessage::kVersion;
  ClientId client;
  bool ended = false;  // nobody wants any of them
  std::vector<std::uint64_t> cancelled;
};

/// The keys of messages, one for each kind, or one message could be repeated as another.
struct MessageKeys {
  /// `key`: the cluster's.
  explicit MessageKeys(std::string_view key);
  Envelope task;
  Envelope result;
  Envelope beat;
  Envelope note;
};

/// Bytes with the signature behind them.
Bytes sign(const TaskMessage& message, const MessageKeys& keys);
Bytes sign(const ResultMessage& message, const MessageKeys& keys);
Bytes sign(const NodeBeat& beat, const MessageKeys& keys);
Bytes sign(const ClientNote& note, const MessageKeys& keys);
/// Throws AuthenticationError for another key, DecodeError for bytes that are none or of another
/// version.
TaskMessage open_task(std::span<const std::byte> bytes, const MessageKeys& keys);
ResultMessage open_result(std::span<const std::byte> bytes, const MessageKeys& keys);
NodeBeat open_beat(std::span<const std::byte> bytes, const MessageKeys& keys);
ClientNote open_note(std::span<const std::byte> bytes, const MessageKeys& keys);

/// The key of this program's build, by which tasks find agents that can run them.
std::uint64_t own_build();

}  // namespace brood::detail
