// A dictionary of bytes on a cluster's server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <brood/cluster/cluster_place.hpp>
#include <brood/cluster/stored_value.hpp>

namespace brood::detail {

/// What ClusterDict promises, of bytes. Any threads at once. Every call throws EngineError when the
/// server does not answer for the place's patience, and when the dictionary is gone; those that get
/// values what NatsStream::open() throws.
class KeyValue {
 public:
  using Bytes = std::vector<std::byte>;
  struct Setup {
    std::string name;
    StoredType type;
  };
  /// `revision`: of this value, another for each change of anything; 0: the key is not there.
  struct Entry {
    Bytes value;
    std::uint64_t revision = 0;
  };

  /// Makes the dictionary unless it is there. Throws ArgumentError for names; TypeMismatch,
  /// AuthenticationError if it is of other types or another key.
  KeyValue(const ClusterPlace& place, Setup setup);
  /// One that somebody else made: connects when it is used first; what the other throws, comes
  /// then.
  KeyValue(PlaceName place, Setup setup);
  KeyValue(const KeyValue&) = delete;
  KeyValue& operator=(const KeyValue&) = delete;
  ~KeyValue();

  [[nodiscard]] const PlaceName& place() const { return place_; }
  [[nodiscard]] const std::string& name() const { return setup_.name; }

  Entry get(std::span<const std::byte> key);
  /// Whatever is there. Throws ArgumentError for a key that is too long, MessageTooLarge.
  void set(std::span<const std::byte> key, std::span<const std::byte> value);
  /// False, and nothing is changed, if the key is not at `revision` any more. Throws as set().
  bool set_if(std::span<const std::byte> key, std::span<const std::byte> value,
              std::uint64_t revision);
  bool erase_if(std::span<const std::byte> key, std::uint64_t revision);
  /// Before another attempt, when somebody else was faster for the `round`-th time.
  static void give_way(unsigned round);

  std::size_t size();
  void clear();
  /// Keys and values, in the order in which they were set.
  std::vector<std::pair<Bytes, Bytes>> items();
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
