// libnats as the sources of this layer use it. Private: it is not installed, and no header includes
// it.
#pragma once

#include <nats/nats.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <brood/cluster/nats_setup.hpp>
#include <brood/cluster/pace.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Options = std::unique_ptr<natsOptions, Freed<natsOptions_Destroy>>;
using Connection = std::unique_ptr<natsConnection, Freed<natsConnection_Destroy>>;
using JetStream = std::unique_ptr<jsCtx, Freed<jsCtx_Destroy>>;
using Subscription = std::unique_ptr<natsSubscription, Freed<natsSubscription_Destroy>>;
using NatsMessage = std::unique_ptr<natsMsg, Freed<natsMsg_Destroy>>;
using ConsumerInfo = std::unique_ptr<jsConsumerInfo, Freed<jsConsumerInfo_Destroy>>;
using PublishAck = std::unique_ptr<jsPubAck, Freed<jsPubAck_Destroy>>;
using MetaData = std::unique_ptr<jsMsgMetaData, Freed<jsMsgMetaData_Destroy>>;

constexpr std::int64_t kAnswer = kServerAnswer.count();  // in milliseconds

/// For libnats' waits: at least 1.
std::int64_t milliseconds_of(Deadline deadline);

/// Throws EngineError: what could not be done, at which server, why, and what to look at.
[[noreturn]] void fail_nats(const char* what, const NatsSetup& setup, natsStatus status);

/// A connection with JetStream, which libnats restores by itself when the server was away. Any
/// threads at once.
class Nats {
 public:
  /// Throws EngineError when the server cannot be reached or has no JetStream.
  explicit Nats(NatsSetup setup);

  [[nodiscard]] const NatsSetup& setup() const { return setup_; }
  [[nodiscard]] natsConnection* connection() const { return connection_.get(); }
  [[nodiscard]] jsCtx* js() const { return js_.get(); }
  /// False as soon as libnats has noticed that the server is away.
  [[nodiscard]] bool connected() const;
  /// The largest message that the server takes. Never waits for it.
  [[nodiscard]] std::size_t most_bytes() const { return most_bytes_; }

  /// Into a stream, confirmed. `id`: the server takes it once; null: as often as it comes. `place`,
  /// if not null: where in the stream it is.
  natsStatus publish(const std::string& subject, const char* id, std::span<const std::byte> message,
                     jsErrCode& error, std::uint64_t* place = nullptr) const;
  /// Makes a stream; of fewer MaxBytes, at least 16 MiB, if the server has no more room to promise.
  natsStatus add_stream(jsStreamConfig& config, jsErrCode& error) const;
  /// Up to `most` messages: waits for the first, in milliseconds, at least 1, and takes what else
  /// has come or the server has, which is asked once more for that. Not OK: none.
  natsStatus fetch(const Subscription& from, const std::string& stream, const std::string& consumer,
                   std::size_t most, std::int64_t wait, std::vector<NatsMessage>& into) const;
  /// Binds to a consumer that is there; null if it is not.
  [[nodiscard]] Subscription pull(const std::string& stream, const std::string& consumer) const;

 private:
  const NatsSetup setup_;
  const Connection connection_;
  /// "$JS.API", or what it is called in the account of agents.
  std::string api_;
  JetStream js_;
  std::size_t most_bytes_ = 0;
};

}  // namespace brood::detail
