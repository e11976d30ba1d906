#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <brood/cluster/nats_stream_private.hpp>
#include <brood/cluster/stream_queue.hpp>
#include <brood/errors.hpp>
#include <brood/platform/quiet_thread.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr const char* kConsumer = "all";
constexpr auto kLook = 500ms;  // between two looks at whether a queue is closed, while one waits
constexpr auto kNow = 30ms;    // in which the server says whether there is something
constexpr std::size_t kBatch = 256;
constexpr std::int64_t kMostHandedOut = 1'000'000;

/// `folder`: "queue" while things can be put, "closed" afterwards.
std::string subject_in(const char* folder, const std::string& cluster, const std::string& name) {
  return fmt::format("{}.{}.{}", cluster, folder, name);
}

}  // namespace

/// The queue as the server has it.
///
/// A stream in which messages stay until they are acknowledged, with one consumer for all. Closing
/// it takes the subject of which messages come into it away: the server does that between two
/// messages, so none that was confirmed is behind the end.
class StreamQueue::Server {
 public:
  Server(const ClusterPlace& place, const Setup& setup, bool travelled);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  Put put(std::span<const std::byte> value, Deadline deadline);
  std::vector<Delivery> take(std::size_t most, Deadline deadline);
  void hold(std::uint64_t id);
  bool ack(std::span<const std::uint64_t> ids);
  void give_back(std::uint64_t id);
  void close();
  bool join(Deadline deadline);

  [[nodiscard]] const NatsStream& stream() const { return stream_; }
  [[nodiscard]] StreamInfo info() const {
    Patience patience = stream_.patience("look at");
    return stream_.info(patience);
  }
  [[nodiscard]] bool is_closed(const jsStreamInfo& info) const {
    return info.Config->SubjectsLen != 1 || info.Config->Subjects[0] != stream_.names().subject;
  }
  [[nodiscard]] std::size_t maxsize() const { return maxsize_; }

 private:
  using Time = Deadline::Clock::time_point;
  /// Of one thread at a time.
  struct Puller {
    Subscription subscription;
    Time used{};
  };
  struct Taken {
    NatsMessage message;
    bool held = false;
  };

  /// Unless it is there. How long its leases are.
  std::chrono::nanoseconds make_consumer(Patience& patience) const;
  Puller borrow();
  void put_back(Puller puller);
  /// How many messages came after its call had ended.
  static int has_come(const Puller& puller);
  void give_back_all(Puller& puller) const;
  /// How many more there were when the last one was handed out; nullopt: none came.
  std::optional<std::uint64_t> fetch(Puller& puller, std::size_t most,
                                     std::chrono::nanoseconds time,
                                     std::vector<Delivery>& deliveries);
  [[nodiscard]] bool has_pending(Patience& patience) const;
  void renew();

  const NatsStream stream_;
  std::size_t maxsize_ = 0;
  std::chrono::nanoseconds lease_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Puller> idle_;  // guarded by mutex_, as all below
  std::map<std::uint64_t, Taken> taken_;
  std::size_t held_ = 0;
  std::uint64_t last_ = 0;
  bool end_ = false;
  std::thread renewer_;
};

StreamQueue::Server::Server(const ClusterPlace& place, const Setup& setup, bool travelled)
    : stream_(place,
              {.noun = "queue",
               .name = setup.name,
               .stream = fmt::format("{}_queue_{}", place.nats.name, setup.name),
               .subject = subject_in("queue", place.nats.name, setup.name)},
              setup.type, travelled) {
  Patience patience = stream_.patience("open");
  if (!travelled) {
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Retention = js_WorkQueuePolicy;
    config.Discard = js_DiscardNew;  // a full queue says so
    config.MaxMsgs = setup.maxsize == 0 ? -1 : static_cast<std::int64_t>(setup.maxsize);
    stream_.make(config);
  }
  const StreamInfo info = stream_.info(patience);
  stream_.check(*info);
  maxsize_ = info->Config->MaxMsgs > 0 ? static_cast<std::size_t>(info->Config->MaxMsgs) : 0;
  if (!travelled && maxsize_ != setup.maxsize) {
    throw ArgumentError(fmt::format(
        "{} is there with maxsize {}, and this asks for {}: ask for the same, take another name, "
        "or unlink() it first",
        stream_.described(), maxsize_, setup.maxsize));
  }
  lease_ = make_consumer(patience);
}

StreamQueue::Server::~Server() {
  {
    const std::scoped_lock lock(mutex_);
    end_ = true;
    changed_.notify_all();  // lint: condition_variable
  }
  if (renewer_.joinable()) renewer_.join();
  for (auto& [id, taken] : taken_) natsMsg_Nak(taken.message.get(), nullptr);
  for (Puller& puller : idle_) give_back_all(puller);
}

std::chrono::nanoseconds StreamQueue::Server::make_consumer(Patience& patience) const {
  for (;;) {
    patience.ready();
    jsErrCode error{};
    jsConsumerInfo* found = nullptr;
    natsStatus status = js_GetConsumerInfo(&found, stream_.js(), stream_.names().stream.c_str(),
                                           kConsumer, nullptr, &error);
    if (status == NATS_OK) {
      const ConsumerInfo info(found);
      return std::chrono::nanoseconds(info->Config->AckWait);
    }
    if (error == JSConsumerNotFoundErr) {
      jsConsumerConfig config;
      jsConsumerConfig_Init(&config);
      config.Durable = kConsumer;
      config.AckPolicy = js_AckExplicit;
      config.AckWait = stream_.place().nats.lease.count();
      config.MaxDeliver = -1;
      config.MaxAckPending = kMostHandedOut;
      error = {};
      status = js_AddConsumer(nullptr, stream_.js(), stream_.names().stream.c_str(), &config,
                              nullptr, &error);
      if (status == NATS_OK) continue;  // whoever was first has said how long a lease is
    }
    patience.failed(status, error);
  }
}

StreamQueue::Put StreamQueue::Server::put(std::span<const std::byte> value, Deadline deadline) {
  const std::vector<std::byte> message = stream_.seal(value);
  Patience patience = stream_.patience("put into", deadline);
  std::string id = stream_.new_id();
  bool perhaps = false;  // it is in
  for (unsigned round = 0;;) {
    patience.ready();
    jsErrCode error{};
    const natsStatus status =
        stream_.nats().publish(stream_.names().subject, id.c_str(), message, error);
    if (status == NATS_OK) return Put::done;
    if (error == JSStreamStoreFailedErr && maxsize_ != 0) {
      // By its text, as the server has one number for all reasons; another is an error below.
      const bool full = std::string_view(nats_GetLastError(nullptr)).find("maximum messages") !=
                        std::string_view::npos;
      patience.answered();
      if (full || stream_.info(patience)->State.Msgs >= maxsize_) {
        // Refused, so it is not in. SUBTLE: a new id, as the server may have noted the old one.
        id = stream_.new_id();
        perhaps = false;
        for (bool room = false; !room && !deadline.passed(); ++round) {
          patience.nap(round);
          const StreamInfo info = stream_.info(patience);
          if (is_closed(*info)) return Put::closed;
          room = info->State.Msgs < maxsize_;
        }
        if (deadline.passed()) return Put::full;
        continue;
      }
    }
    if (status == NATS_NO_RESPONDERS && !perhaps && is_closed(*stream_.info(patience))) {
      return Put::closed;
    }
    perhaps = perhaps || status != NATS_NO_RESPONDERS;
    patience.failed(status, error);
  }
}

StreamQueue::Server::Puller StreamQueue::Server::borrow() {
  Puller puller;
  {
    const std::scoped_lock lock(mutex_);
    if (!idle_.empty()) {
      puller = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  // What came late and has waited in it is perhaps another's by now.
  if (puller.subscription && Deadline::Clock::now() - puller.used > lease_ / 3) {
    puller.subscription.reset();
  }
  if (!puller.subscription) {
    puller.subscription = stream_.nats().pull(stream_.names().stream, kConsumer);
  }
  return puller;
}

void StreamQueue::Server::put_back(Puller puller) {
  if (!puller.subscription) return;
  puller.used = Deadline::Clock::now();
  const std::scoped_lock lock(mutex_);
  idle_.push_back(std::move(puller));
}

int StreamQueue::Server::has_come(const Puller& puller) {
  int messages = 0;
  int bytes = 0;
  const bool known =
      puller.subscription &&
      natsSubscription_GetPending(puller.subscription.get(), &messages, &bytes) == NATS_OK;
  return known ? messages : 0;
}

void StreamQueue::Server::give_back_all(Puller& puller) const {
  if (Deadline::Clock::now() - puller.used > lease_ / 3) return;  // it goes back by itself
  std::vector<NatsMessage> messages;
  while (has_come(puller) > 0 && stream_.nats().fetch(puller.subscription, stream_.names().stream,
                                                      kConsumer, 1, 1, messages) == NATS_OK) {
  }
  for (const NatsMessage& message : messages) natsMsg_Nak(message.get(), nullptr);
}

std::optional<std::uint64_t> StreamQueue::Server::fetch(Puller& puller, std::size_t most,
                                                        std::chrono::nanoseconds time,
                                                        std::vector<Delivery>& deliveries) {
  std::vector<NatsMessage> fetched;
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(time).count();
  if (!puller.subscription ||
      stream_.nats().fetch(puller.subscription, stream_.names().stream, kConsumer, most,
                           std::max<std::int64_t>(wait, 1), fetched) != NATS_OK) {
    return std::nullopt;
  }
  std::uint64_t more = 0;
  for (NatsMessage& message : fetched) {
    Delivery delivery;
    jsMsgMetaData* found = nullptr;
    if (natsMsg_GetMetaData(&found, message.get()) == NATS_OK) {
      const MetaData data(found);
      delivery.times = static_cast<std::uint32_t>(data->NumDelivered);
      more = data->NumPending;
    }
    const std::span<const std::byte> bytes = bytes_of(message.get());
    delivery.message.assign(bytes.begin(), bytes.end());
    const std::scoped_lock lock(mutex_);
    delivery.id = ++last_;
    taken_.emplace(delivery.id, Taken{.message = std::move(message)});
    deliveries.push_back(std::move(delivery));
  }
  return more;
}

bool StreamQueue::Server::has_pending(Patience& patience) const {
  for (;;) {
    patience.ready();
    jsErrCode error{};
    jsConsumerInfo* found = nullptr;
    const natsStatus status = js_GetConsumerInfo(
        &found, stream_.js(), stream_.names().stream.c_str(), kConsumer, nullptr, &error);
    if (status == NATS_OK) {
      const ConsumerInfo info(found);
      patience.answered();
      return info->NumPending != 0;
    }
    if (error == JSConsumerNotFoundErr || error == JSStreamNotFoundErr) return false;
    patience.failed(status, error);
  }
}

std::vector<StreamQueue::Delivery> StreamQueue::Server::take(std::size_t most, Deadline deadline) {
  std::vector<Delivery> deliveries;
  if (most == 0) return deliveries;
  Patience patience = stream_.patience("take from", deadline);
  Puller puller = borrow();
  int late = 0;
  for (std::chrono::nanoseconds look = kNow;;
       look = std::min<std::chrono::nanoseconds>(2 * look, kLook)) {
    patience.ready();
    std::chrono::nanoseconds time = look;
    if (deadline.passed()) {
      time = kNow;
    } else if (!deadline.is_never()) {
      time = std::clamp<std::chrono::nanoseconds>(deadline.when() - Deadline::Clock::now(), kNow,
                                                  look);
    }
    const Time begin = Deadline::Clock::now();
    if (const auto more = fetch(puller, 1, time, deliveries)) {
      // Asked for many at once, it would wait for all of them.
      const std::size_t rest = std::min<std::size_t>({most - 1, *more, kBatch});
      if (rest != 0) static_cast<void>(fetch(puller, rest, kNow, deliveries));
      break;
    }
    const StreamInfo info = stream_.info(patience);
    // After its call had ended, just now; or the server's word that there is none.
    if (has_come(puller) != 0 && ++late <= 3) continue;
    if (info->State.Msgs == 0) {
      if (is_closed(*info) || deadline.passed()) break;
    } else if (is_closed(*info)) {
      // Who holds leases is not waited for by who holds them.
      const std::scoped_lock lock(mutex_);
      if (info->State.Msgs <= held_) break;
    }
    if (info->State.Consumers == 0) static_cast<void>(make_consumer(patience));
    if (!puller.subscription) puller = borrow();
    if (deadline.passed() && !has_pending(patience)) break;
    // Whatever it was that came at once: not again and again.
    if (Deadline::Clock::now() - begin < time / 4) patience.nap(4);
  }
  put_back(std::move(puller));
  return deliveries;
}

void StreamQueue::Server::hold(std::uint64_t id) {
  const std::scoped_lock lock(mutex_);
  const auto found = taken_.find(id);
  if (found == taken_.end() || found->second.held) return;
  found->second.held = true;
  ++held_;
  natsMsg_InProgress(found->second.message.get(), nullptr);
  if (!renewer_.joinable()) renewer_ = start_quiet_thread([this] { renew(); });
}

void StreamQueue::Server::renew() {
  std::unique_lock lock(mutex_);
  while (!end_) {
    changed_.wait_for(lock, lease_ / 3);
    if (end_) return;
    for (auto& [id, taken] : taken_) {
      if (taken.held) natsMsg_InProgress(taken.message.get(), nullptr);
    }
  }
}

bool StreamQueue::Server::ack(std::span<const std::uint64_t> ids) {
  std::vector<NatsMessage> messages;
  {
    const std::scoped_lock lock(mutex_);
    for (const std::uint64_t id : ids) {
      const auto found = taken_.find(id);
      if (found == taken_.end()) continue;
      messages.push_back(std::move(found->second.message));
      held_ -= found->second.held ? 1 : 0;
      taken_.erase(found);
    }
  }
  if (messages.empty()) return false;
  for (std::size_t i = 0; i + 1 < messages.size(); ++i) natsMsg_Ack(messages[i].get(), nullptr);
  // Confirmed, and with it those before: they go the same way, in order.
  Patience patience = stream_.patience("acknowledge what was taken from");
  for (;;) {
    patience.ready();
    jsErrCode error{};
    const natsStatus status = natsMsg_AckSync(messages.back().get(), nullptr, &error);
    if (status == NATS_OK) return true;
    patience.failed(status, error);
    for (const NatsMessage& message : messages) natsMsg_Ack(message.get(), nullptr);
  }
}

void StreamQueue::Server::give_back(std::uint64_t id) {
  const std::scoped_lock lock(mutex_);
  const auto found = taken_.find(id);
  if (found == taken_.end()) return;
  natsMsg_Nak(found->second.message.get(), nullptr);
  held_ -= found->second.held ? 1 : 0;
  taken_.erase(found);
}

void StreamQueue::Server::close() {
  Patience patience = stream_.patience("close");
  const std::string closed = subject_in("closed", stream_.place().nats.name, stream_.names().name);
  for (;;) {
    const StreamInfo info = stream_.info(patience);
    if (is_closed(*info)) return;
    patience.ready();
    jsStreamConfig config = *info->Config;
    const char* subjects[] = {closed.c_str()};
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    jsErrCode error{};
    const natsStatus status = js_UpdateStream(nullptr, stream_.js(), &config, nullptr, &error);
    if (status == NATS_OK) return;
    patience.failed(status, error);
  }
}

bool StreamQueue::Server::join(Deadline deadline) {
  Patience patience = stream_.patience("join", deadline);
  for (unsigned round = 0;; ++round) {
    if (stream_.info(patience)->State.Msgs == 0) return true;
    if (deadline.passed()) return false;
    patience.nap(round);
  }
}

struct StreamQueue::Connecting {
  std::mutex mutex;
  std::unique_ptr<Server> server;  // guarded by mutex until it is there
};

StreamQueue::StreamQueue(const ClusterPlace& place, Setup setup)
    : place_(name_of(place)),
      setup_(std::move(setup)),
      connecting_(std::make_unique<Connecting>()) {
  require_plain_name("queue", setup_.name);
  connecting_->server = std::make_unique<Server>(place, setup_, false);
}

StreamQueue::StreamQueue(PlaceName place, Setup setup)
    : place_(std::move(place)),
      setup_(std::move(setup)),
      connecting_(std::make_unique<Connecting>()) {}

StreamQueue::~StreamQueue() = default;

StreamQueue::Server& StreamQueue::server() {
  const std::scoped_lock lock(connecting_->mutex);
  if (connecting_->server == nullptr) {
    connecting_->server = std::make_unique<Server>(find_place(place_), setup_, true);
  }
  return *connecting_->server;
}

StreamQueue::Put StreamQueue::put(std::span<const std::byte> value, Deadline deadline) {
  return server().put(value, deadline);
}
std::vector<StreamQueue::Delivery> StreamQueue::take(std::size_t most, Deadline deadline) {
  return server().take(most, deadline);
}
std::span<const std::byte> StreamQueue::open(std::span<const std::byte> message) {
  return server().stream().open(message);
}
bool StreamQueue::is_ours() {
  try {
    server().stream().check(*server().info());
    return true;
  } catch (const TypeMismatch&) {
    return false;
  } catch (const AuthenticationError&) {
    return false;
  }
}
void StreamQueue::hold(std::uint64_t id) { server().hold(id); }
bool StreamQueue::ack(std::span<const std::uint64_t> ids) { return server().ack(ids); }
void StreamQueue::give_back(std::uint64_t id) noexcept { server().give_back(id); }
void StreamQueue::close() { server().close(); }
bool StreamQueue::closed() { return server().is_closed(*server().info()); }
std::size_t StreamQueue::size() { return static_cast<std::size_t>(server().info()->State.Msgs); }
std::size_t StreamQueue::maxsize() { return server().maxsize(); }
bool StreamQueue::join(Deadline deadline) { return server().join(deadline); }
void StreamQueue::remove() { server().stream().remove(); }

}  // namespace brood::detail
