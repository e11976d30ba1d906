// What queues and dictionaries on a server have in common. Private, as nats_private.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <brood/cluster/cluster_place.hpp>
#include <brood/cluster/envelope.hpp>
#include <brood/cluster/nats_private.hpp>
#include <brood/cluster/stored_value.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

using StreamInfo = std::unique_ptr<jsStreamInfo, Freed<jsStreamInfo_Destroy>>;

/// How long a call bears a server that does not answer: as long as the place's patience, or the
/// call's deadline. Of one call.
class Patience {
 public:
  /// `nats`: null while there is none.
  Patience(const Nats* nats, std::chrono::nanoseconds most, Deadline deadline, std::string what)
      : nats_(nats), most_(most), deadline_(deadline), what_(std::move(what)) {}

  [[nodiscard]] Deadline deadline() const { return deadline_; }
  /// Before each question: waits for the connection, as what is asked without one might be done
  /// later, when nobody wants it any more. Throws as failed().
  void ready();
  void answered() {
    end_ = Deadline::never();
    asked_ = false;
  }
  /// Returns after a moment, to try again. Throws EngineError when this has been so for too long,
  /// or if `error` says that it did answer, and why it does not do it.
  void failed(natsStatus status, jsErrCode error);
  /// Somebody else was faster, or there is no room: returns after a moment, longer each time.
  void nap(unsigned round) const;

 private:
  const Nats* const nats_;
  const std::chrono::nanoseconds most_;
  const Deadline deadline_;
  const std::string what_;  // "put into queue 'jobs' at nats://..."
  Deadline end_ = Deadline::never();
  bool asked_ = false;  // and had no answer
};

/// The connection of this process to a place; connects if there is none. `keep`: not only as long
/// as somebody uses it. Throws EngineError.
std::shared_ptr<const Nats> shared_nats(const ClusterPlace& place, bool keep);

/// A stream of the server with values of one type, signed. Any threads at once.
class NatsStream {
 public:
  struct Names {
    const char* noun;     // "queue"
    std::string name;     // the user's, for people
    std::string stream;   // the server's
    std::string subject;  // of which messages are in it
  };
  /// What a sealed value has more than its bytes, and a message of the server more than that.
  static constexpr std::size_t kOverhead = 512;

  /// `travelled`: came as bytes, so nothing is made, and the server may be away for a while.
  NatsStream(ClusterPlace place, Names names, StoredType type, bool travelled);

  [[nodiscard]] const ClusterPlace& place() const { return place_; }
  [[nodiscard]] const Names& names() const { return names_; }
  [[nodiscard]] jsCtx* js() const { return nats_->js(); }
  [[nodiscard]] const Nats& nats() const { return *nats_; }
  [[nodiscard]] Patience patience(const char* what, Deadline deadline = Deadline::never()) const;

  /// Makes it unless it is there. Throws EngineError, and what check() does.
  void make(jsStreamConfig& config) const;
  /// Waits for the server. Throws EngineError when the stream is gone.
  StreamInfo info(Patience& patience) const;
  /// Throws TypeMismatch, AuthenticationError, EngineError if it is not what this expects.
  void check(const jsStreamInfo& info) const;
  /// With all that is in it. Nothing if it is gone.
  void remove() const;

  /// Throws MessageTooLarge.
  [[nodiscard]] std::vector<std::byte> seal(std::span<const std::byte> value,
                                            std::string_view about = {}) const;
  /// Throws AuthenticationError, DecodeError, and TypeMismatch.
  [[nodiscard]] std::span<const std::byte> open(std::span<const std::byte> message,
                                                std::string_view about = {}) const;
  /// For a message that the server is to take once.
  [[nodiscard]] std::string new_id() const;
  /// "queue 'jobs' at nats://..."
  [[nodiscard]] std::string described() const;

 private:
  [[nodiscard]] std::string description() const;

  const ClusterPlace place_;
  const Names names_;
  const StoredType type_;
  const Envelope envelope_;
  std::shared_ptr<const Nats> nats_;
};

inline std::span<const std::byte> bytes_of(natsMsg* message) {
  return {reinterpret_cast<const std::byte*>(natsMsg_GetData(message)),
          static_cast<std::size_t>(natsMsg_GetDataLength(message))};
}

/// Throws ArgumentError for what cannot be a part of a server's names.
void require_plain_name(const char* noun, std::string_view name);

}  // namespace brood::detail
