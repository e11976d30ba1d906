#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <brood/cluster/message.hpp>
#include <brood/cluster/nats_private.hpp>

namespace brood::detail {

/// Messages that may be larger than the server takes in one piece. Those are cut into parts, which
/// lie in a stream of their own until the message that names them, in a header, is done with; what
/// nobody fetches goes after an hour. Any threads at once. SUBTLE: tasks and results have one each,
/// or tasks could take all the room, and wait for results that there is no room for.
///
/// They are removed by their places in the stream. A server that lost its store counts places from
/// 1 again: who is done with a message of before may then take a part of another away, which is
/// lost.
///
/// The parts may be lost while the message is not: then it cannot be read, by anybody, and is to be
/// treated as lost itself.
class NatsParts {
 public:
  /// Of a message, in bytes.
  static constexpr std::size_t kMostBytes = std::size_t{64} << 20U;

  /// `kind`: what the stream and its subjects are called by.
  NatsParts(const Nats& nats, const std::string& kind);

  /// Makes the stream, if it is not there. A client's.
  natsStatus make_stream(jsErrCode& error) const;
  /// Whether the stream is there. False also if the server does not say.
  [[nodiscard]] bool is_there() const;
  /// As Nats::publish(); up to kMostBytes.
  natsStatus publish(const std::string& subject, const char* id, std::span<const std::byte> message,
                     jsErrCode& error) const;
  enum class Read { whole, later, never };
  /// The bytes of a message that was fetched. `later`: the server does not answer; `never`: parts
  /// of it are lost, or it makes no sense.
  Read read(natsMsg* message, Bytes& bytes) const;
  /// The parts of a message that nobody needs any more, if it has some.
  void discard(natsMsg* message) const;

 private:
  struct Reference {
    std::string name;
    std::size_t bytes = 0;
    std::vector<std::uint64_t> places;
  };
  [[nodiscard]] std::string subject_of(const std::string& name, const std::string& part) const;
  static std::optional<Reference> reference_of(natsMsg* message);
  void remove(std::span<const std::uint64_t> places) const;
  /// Those whose places are not known.
  void purge(const std::string& name) const;

  const Nats& nats_;
  const std::string stream_;
  const std::string subject_;  // before the name
};

}  // namespace brood::detail
