#include <brood/cluster/nats_engine.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <brood/cluster/nats_parts_private.hpp>
#include <brood/cluster/nats_private.hpp>
#include <brood/errors.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kMostBytes = std::int64_t{1} << 30U;  // of either stream
constexpr auto kUnfetched = 1h;                              // results that nobody fetched
// Results that were handed to a client, which says at once that it has them, and that it has not.
constexpr std::int64_t kResultsLease = 5;
constexpr std::int64_t kNano = 1'000'000'000;

/// What both sides have: the connection, and what things are called.
class TaskEngine {
 public:
  TaskEngine(const NatsSetup& setup, std::uint64_t build)
      : nats_(setup),
        tasks_stream_(setup.name + "_tasks"),
        results_stream_(setup.name + "_results"),
        consumer_(fmt::format("build_{:016x}", build)),
        tasks_subject_(fmt::format("{}.task.{:016x}", setup.name, build)),
        beats_subject_(setup.name + ".beat"),
        notes_subject_(setup.name + ".note"),
        claims_stream_(setup.name + "_claims"),
        claims_subject_(setup.name + ".claim") {}

  [[nodiscard]] std::string results_subject(const ClientId& client) const {
    return fmt::format("{}.result.{}", nats_.setup().name, client);
  }

 protected:
  void tell(const std::string& subject, std::span<const std::byte> message) const {
    natsConnection_Publish(nats_.connection(), subject.c_str(), message.data(),
                           static_cast<int>(message.size()));
  }
  /// To plain messages.
  [[nodiscard]] Subscription listen(const std::string& subject) const {
    natsSubscription* made = nullptr;
    const natsStatus status =
        natsConnection_SubscribeSync(&made, nats_.connection(), subject.c_str());
    if (status != NATS_OK) fail_nats("subscribe at", nats_.setup(), status);
    return Subscription(made);
  }
  /// What has come since the last time.
  static std::vector<Bytes> heard(natsSubscription* subscription) {
    std::vector<Bytes> all;
    for (natsMsg* next = nullptr; natsSubscription_NextMsg(&next, subscription, 0) == NATS_OK;) {
      const NatsMessage message(next);
      const auto* data = reinterpret_cast<const std::byte*>(natsMsg_GetData(next));
      all.emplace_back(data, data + natsMsg_GetDataLength(next));
    }
    return all;
  }

  const Nats nats_;
  const NatsParts task_parts_{nats_, "part"};
  const NatsParts result_parts_{nats_, "result_part"};
  const std::string tasks_stream_;
  const std::string results_stream_;
  const std::string consumer_;
  const std::string tasks_subject_;
  const std::string beats_subject_;
  const std::string notes_subject_;
  const std::string claims_stream_;
  const std::string claims_subject_;
};

class NatsClient final : public ClientEngine, private TaskEngine {
 public:
  NatsClient(const NatsSetup& setup, const ClientId& id, std::uint64_t build)
      : TaskEngine(setup, build), id_(id), results_consumer_("client_" + id) {
    jsErrCode error{};
    if (const natsStatus status = ensure(error); status != NATS_OK) {
      if (error == JSNotEnabledErr || error == JSNotEnabledForAccountErr ||
          status == NATS_NO_RESPONDERS) {
        throw EngineError(fmt::format(
            "{} has no JetStream: start it as nats-server -js -sd DIRECTORY", shown_url(setup)));
      }
      if (error == JSStorageResourcesExceededErr || error == JSInsufficientResourcesErr) {
        throw EngineError(
            fmt::format("{} has no room for the streams of a cluster: raise max_file_store of its "
                        "JetStream, or free its disk; 64 MiB are enough for small tasks",
                        shown_url(setup)));
      }
      fail_nats("make streams on", setup, status);
    }
    beats_ = listen(beats_subject_);
  }
  ~NatsClient() override {
    static_cast<void>(js_DeleteConsumer(nats_.js(), results_stream_.c_str(),
                                        results_consumer_.c_str(), nullptr, nullptr));
  }

  bool send(std::uint64_t /*build*/, const std::string& id,
            std::span<const std::byte> message) override {
    jsErrCode error{};
    const natsStatus status = task_parts_.publish(tasks_subject_, id.c_str(), message, error);
    const bool sent = status == NATS_OK;
    // NATS_INSUFFICIENT_BUFFER: the connection is down, and nothing is kept for later.
    may_have_arrived_ =
        !sent && error == 0 && status != NATS_NO_RESPONDERS && status != NATS_INSUFFICIENT_BUFFER;
    // The server may have lost what it had, or be full.
    answers_ = sent || ensure(error) == NATS_OK;
    return sent;
  }
  [[nodiscard]] bool may_have_arrived() const override { return may_have_arrived_; }
  std::optional<Bytes> receive(Deadline deadline) override {
    if (received_.empty()) {
      if (!results_) results_ = nats_.pull(results_stream_, results_consumer_);
      std::vector<NatsMessage> fetched;
      const natsStatus status =
          results_ ? nats_.fetch(results_, results_stream_, results_consumer_, kResultsAtOnce,
                                 milliseconds_of(deadline), fetched)
                   : NATS_NOT_FOUND;
      for (NatsMessage& message : fetched) received_.push_back(std::move(message));
      if (status != NATS_OK && status != NATS_TIMEOUT) {
        std::this_thread::sleep_for(50ms);  // away, or it has lost the consumer: empty() sees
      }
    }
    if (received_.empty()) return std::nullopt;
    const NatsMessage first = std::move(received_.front());
    received_.pop_front();
    Bytes bytes;
    const NatsParts::Read read = result_parts_.read(first.get(), bytes);
    if (read == NatsParts::Read::later) {
      natsMsg_Nak(first.get(), nullptr);
      return std::nullopt;
    }
    natsMsg_Ack(first.get(), nullptr);
    result_parts_.discard(first.get());
    if (read == NatsParts::Read::never) return std::nullopt;  // lost, which is found out
    return bytes;
  }
  bool empty(std::uint64_t /*build*/) override {
    bool known = true;
    // A result that has not been fetched is not lost.
    const std::uint64_t held = held_for(tasks_stream_, consumer_, known) +
                               held_for(results_stream_, results_consumer_, known);
    // Without their stream agents could not tell that parts are lost.
    known = known && task_parts_.is_there() && result_parts_.is_there();
    jsErrCode error{};
    answers_ = known || ensure(error) == NATS_OK;
    return known && held == 0;
  }
  std::vector<Bytes> beats() override { return heard(beats_.get()); }
  void note(std::span<const std::byte> message) override { tell(notes_subject_, message); }
  // SUBTLE: a server that is cut off from the others of its cluster can be reached, but has no
  // beats of agents elsewhere, nor an answer about streams: only a majority has.
  bool reachable() override { return answers_ && nats_.connected(); }
  [[nodiscard]] std::size_t most_bytes() const override { return NatsParts::kMostBytes; }

 private:
  std::uint64_t held_for(const std::string& stream, const std::string& consumer, bool& known) {
    jsConsumerInfo* found = nullptr;
    if (js_GetConsumerInfo(&found, nats_.js(), stream.c_str(), consumer.c_str(), nullptr,
                           nullptr) != NATS_OK) {
      known = false;
      return 0;
    }
    const ConsumerInfo info(found);
    return info->NumPending + static_cast<std::uint64_t>(info->NumAckPending);
  }

  natsStatus make_stream(const std::string& name, const std::string& subject, jsErrCode& error) {
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    const char* subjects[] = {subject.c_str()};
    config.Name = name.c_str();
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Retention = js_WorkQueuePolicy;
    config.Discard = js_DiscardNew;  // a full server says so
    config.MaxMsgs = kMostTaskMessages;
    config.MaxBytes = kMostBytes;
    config.Replicas = nats_.setup().replicas;
    config.MaxAge = std::chrono::nanoseconds(kUnfetched).count();
    return nats_.add_stream(config, error);
  }
  /// Of the names that were claimed: the server takes each once, as long as it remembers it.
  natsStatus make_claims(jsErrCode& error) {
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    const char* subjects[] = {claims_subject_.c_str()};
    config.Name = claims_stream_.c_str();
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Replicas = nats_.setup().replicas;
    // The oldest go when there are too many; the server remembers their names all the same, until
    // it is restarted. No MaxBytes: that much would be taken from its room in advance.
    config.MaxMsgs = kMostTaskMessages;
    config.MaxAge = std::chrono::nanoseconds(kUnfetched).count();
    config.Duplicates = config.MaxAge;
    return js_AddStream(nullptr, nats_.js(), &config, nullptr, &error);
  }
  natsStatus make_consumer(const std::string& stream, const std::string& name,
                           const std::string& subject, bool mine, jsErrCode& error) {
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.Durable = name.c_str();
    config.FilterSubject = subject.c_str();
    config.AckPolicy = js_AckExplicit;
    config.AckWait = mine ? kResultsLease * kNano : nats_.setup().lease.count();
    config.MaxDeliver = -1;  // the agents count
    config.MaxAckPending = kMostTaskMessages;
    if (mine) config.InactiveThreshold = std::chrono::nanoseconds(kUnfetched).count();
    return js_AddConsumer(nullptr, nats_.js(), stream.c_str(), &config, nullptr, &error);
  }
  /// Makes what is not there: nothing that is there is changed.
  natsStatus ensure(jsErrCode& error) {
    const auto there = [&](natsStatus status) {
      // Made by another, of another version perhaps: good enough.
      return status == NATS_OK || error == JSStreamNameExistErr ||
             error == JSConsumerNameExistErr || error == JSConsumerExistingActiveErr;
    };
    // First, as it needs little room, and the others take what there is.
    natsStatus status = make_claims(error);
    if (!there(status)) return status;
    status = make_stream(tasks_stream_, nats_.setup().name + ".task.*", error);
    if (!there(status)) return status;
    status = make_stream(results_stream_, nats_.setup().name + ".result.*", error);
    if (!there(status)) return status;
    status = task_parts_.make_stream(error);
    if (!there(status)) return status;
    status = result_parts_.make_stream(error);
    if (!there(status)) return status;
    status = make_consumer(tasks_stream_, consumer_, tasks_subject_, false, error);
    if (!there(status)) return status;
    status = make_consumer(results_stream_, results_consumer_, results_subject(id_), true, error);
    return there(status) ? NATS_OK : status;
  }

  const ClientId id_;
  const std::string results_consumer_;
  bool answers_ = true;  // when it was asked last
  bool may_have_arrived_ = false;
  Subscription beats_;
  Subscription results_;  // as the next: of the thread that receives
  std::deque<NatsMessage> received_;
};

class NatsAgent final : public AgentEngine, private TaskEngine {
 public:
  NatsAgent(const NatsSetup& setup, std::uint64_t build)
      : TaskEngine(setup, build), notes_(listen(notes_subject_)) {}

  std::optional<Delivery> fetch(Deadline deadline) override {
    // Made by a client, when there is one.
    if (!tasks_) tasks_ = nats_.pull(tasks_stream_, consumer_);
    std::vector<NatsMessage> fetched;
    const natsStatus status = tasks_ ? nats_.fetch(tasks_, tasks_stream_, consumer_, 1,
                                                   milliseconds_of(deadline), fetched)
                                     : NATS_NOT_FOUND;
    if (status != NATS_OK) {
      if (status != NATS_TIMEOUT) std::this_thread::sleep_for(kServerUnknown);
      return std::nullopt;
    }
    NatsMessage message = std::move(fetched.front());
    Delivery delivery;
    const NatsParts::Read read = task_parts_.read(message.get(), delivery.message);
    if (read != NatsParts::Read::whole) {
      if (read == NatsParts::Read::later) {
        natsMsg_Nak(message.get(), nullptr);
      } else {
        natsMsg_Ack(message.get(), nullptr);  // its tasks are lost, which the client finds out
      }
      return std::nullopt;
    }
    jsMsgMetaData* found = nullptr;
    if (natsMsg_GetMetaData(&found, message.get()) == NATS_OK) {
      const MetaData data(found);
      delivery.times = static_cast<std::uint32_t>(data->NumDelivered);
    }
    const std::scoped_lock lock(mutex_);
    delivery.id = ++last_;
    taken_.emplace(delivery.id, std::move(message));
    return delivery;
  }
  void extend(std::uint64_t id) override {
    const std::scoped_lock lock(mutex_);
    if (const auto found = taken_.find(id); found != taken_.end()) {
      natsMsg_InProgress(found->second.get(), nullptr);
    }
  }
  void done(std::uint64_t id) override {
    const NatsMessage message = take(id);
    if (!message) return;
    natsMsg_Ack(message.get(), nullptr);
    task_parts_.discard(message.get());
  }
  void give_back(std::uint64_t id) override {
    if (const NatsMessage message = take(id)) natsMsg_Nak(message.get(), nullptr);
    natsConnection_FlushTimeout(nats_.connection(), kAnswer);
  }
  Claim claim(const std::string& name) override {
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MsgId = name.c_str();
    jsErrCode error{};
    jsPubAck* found = nullptr;
    if (js_Publish(&found, nats_.js(), claims_subject_.c_str(), nullptr, 0, &options, &error) !=
        NATS_OK) {
      return Claim::unknown;
    }
    const PublishAck ack(found);
    return ack->Duplicate ? Claim::taken : Claim::mine;
  }
  [[nodiscard]] Deadline::Clock::duration lease() const override { return nats_.setup().lease; }

  bool reply(const ClientId& client, std::span<const std::byte> message) override {
    const bool plain =
        client.size() == 32 && client.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!plain) return true;  // nobody is called so
    jsErrCode error{};
    return result_parts_.publish(results_subject(client), nullptr, message, error) == NATS_OK;
  }
  void beat(std::span<const std::byte> message) override { tell(beats_subject_, message); }
  std::vector<Bytes> notes() override { return heard(notes_.get()); }
  [[nodiscard]] std::size_t most_bytes() const override { return NatsParts::kMostBytes; }

 private:
  NatsMessage take(std::uint64_t id) {
    const std::scoped_lock lock(mutex_);
    const auto found = taken_.find(id);
    if (found == taken_.end()) return {};
    NatsMessage message = std::move(found->second);
    taken_.erase(found);
    return message;
  }

  Subscription notes_;
  Subscription tasks_;  // of the thread that fetches
  std::mutex mutex_;
  std::map<std::uint64_t, NatsMessage> taken_;  // guarded by mutex_, as the next
  std::uint64_t last_ = 0;
};

}  // namespace

std::unique_ptr<ClientEngine> nats_client_engine(const NatsSetup& setup, const ClientId& id,
                                                 std::uint64_t build) {
  return std::make_unique<NatsClient>(setup, id, build);
}

std::unique_ptr<AgentEngine> nats_agent_engine(const NatsSetup& setup, std::uint64_t build) {
  return std::make_unique<NatsAgent>(setup, build);
}

}  // namespace brood::detail
