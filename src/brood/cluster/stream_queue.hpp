// A queue of bytes on a cluster's server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <brood/cluster/cluster_place.hpp>
#include <brood/cluster/stored_value.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// What ClusterQueue promises, of bytes. Any threads at once. A call that needs the server and gets
/// no answer for the place's patience, or its deadline, throws EngineError; so does one that finds
/// the queue gone.
class StreamQueue {
 public:
  struct Setup {
    std::string name;
    std::size_t maxsize = 0;  // 0: no limit
    StoredType type;
  };
  /// Handed out to this process until it is acknowledged, given back, or its lease has ended.
  struct Delivery {
    std::uint64_t id = 0;
    std::uint32_t times = 1;  // that it was handed out, this time included
    std::vector<std::byte> message;
  };
  enum class Put : std::uint8_t { done, full, closed };

  /// Makes the queue unless it is there. Throws ArgumentError for names, and if it is there with
  /// another maxsize; TypeMismatch, AuthenticationError if it is of another type or key.
  StreamQueue(const ClusterPlace& place, Setup setup);
  /// One that somebody else made: connects when it is used first; what the other throws, comes
  /// then.
  StreamQueue(PlaceName place, Setup setup);
  StreamQueue(const StreamQueue&) = delete;
  StreamQueue& operator=(const StreamQueue&) = delete;
  /// Gives back what this process has of it.
  ~StreamQueue();

  [[nodiscard]] const PlaceName& place() const { return place_; }
  [[nodiscard]] const std::string& name() const { return setup_.name; }

  /// Throws MessageTooLarge.
  Put put(std::span<const std::byte> value, Deadline deadline);
  /// Waits for one, and takes what else is there, `most` at most. None at the deadline, and at the
  /// end: when it is closed, and what is left is in leases of this object.
  std::vector<Delivery> take(std::size_t most, Deadline deadline);
  /// The value in a message: see NatsStream::open().
  std::span<const std::byte> open(std::span<const std::byte> message);
  /// Whether what the server has under this name is of this type and key, as it was at first.
  bool is_ours();
  /// The lease is renewed until ack() or give_back(), as long as this process runs.
  void hold(std::uint64_t id);
  /// Returns when the server knows. False if it is none of this object's any more.
  bool ack(std::span<const std::uint64_t> ids);
  void give_back(std::uint64_t id) noexcept;

  void close();
  bool closed();
  /// Those that are handed out are among them.
  std::size_t size();
  std::size_t maxsize();
  /// True when it is empty and nothing is handed out.
  bool join(Deadline deadline);
  void remove();

 private:
  class Server;
  Server& server();

  const PlaceName place_;
  const Setup setup_;
  struct Connecting;
  const std::unique_ptr<Connecting> connecting_;
};

}  // namespace brood::detail
