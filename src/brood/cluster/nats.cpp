#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/cluster/nats_private.hpp>
#include <brood/errors.hpp>
#include <brood/platform/program.hpp>

namespace brood::detail {
namespace {

std::string given_or_variable(const std::string& given, const char* name, const char* otherwise) {
  return given.empty() ? environment_variable(name).value_or(otherwise) : given;
}

/// What stands between "://" and '@' is a secret, or goes along with one.
std::string without_user(std::string url) {
  const std::size_t begin = url.find("://");
  const std::size_t at = url.rfind('@');
  if (at == std::string::npos) return url;
  const std::size_t first = begin == std::string::npos ? 0 : begin + 3;
  return first > at ? url : url.erase(first, at + 1 - first);
}

std::vector<std::string> urls_of(const NatsSetup& setup) {
  std::vector<std::string> urls;
  for (std::size_t begin = 0; begin <= setup.url.size();) {
    const std::size_t end = std::min(setup.url.find(',', begin), setup.url.size());
    if (end > begin) urls.push_back(setup.url.substr(begin, end - begin));
    begin = end + 1;
  }
  return urls;
}

/// "host" of "tls://user:password@host:4222".
std::string host_of(const std::string& url) {
  std::string rest = without_user(url);
  if (const std::size_t begin = rest.find("://"); begin != std::string::npos) {
    rest.erase(0, begin + 3);
  }
  if (rest.starts_with('[')) return rest.substr(1, rest.find(']') - 1);
  return rest.substr(0, rest.find_first_of(":/"));
}

}  // namespace

std::string shown_url(const NatsSetup& setup) {
  std::string shown;
  for (const std::string& url : urls_of(setup)) {
    if (!shown.empty()) shown += ',';
    shown += without_user(url);
  }
  return shown;
}

std::uint32_t number_variable(const char* name, std::uint32_t otherwise) {
  const std::optional<std::string> text = environment_variable(name);
  if (!text) return otherwise;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value == 0) {
    throw ArgumentError(fmt::format("{}={}: a number of 1 or more is possible", name, *text));
  }
  return value;
}

NatsSetup nats_setup(const ClusterOptions& options) {
  constexpr std::uint32_t kLease = 15;
  NatsSetup setup;
  setup.lease = options.lease == std::chrono::nanoseconds(0)
                    ? std::chrono::seconds(number_variable("BROOD_CLUSTER_LEASE", kLease))
                    : options.lease;
  if (setup.lease < std::chrono::seconds(1)) {
    throw ArgumentError("lease: a second at least, or nodes that are busy would count as lost");
  }
  constexpr std::uint32_t kMostReplicas = 5;
  if (options.replicas == 0 || options.replicas > kMostReplicas) {
    throw ArgumentError(fmt::format("{} replicas: 1 to {} are possible, 3 are usual",
                                    options.replicas, kMostReplicas));
  }
  setup.replicas = options.replicas;
  setup.name = given_or_variable(options.name, "BROOD_CLUSTER_NAME", "brood");
  if (setup.name.empty() || setup.name.find_first_of(" .*>\t\r\n/\\") != std::string::npos) {
    throw ArgumentError(fmt::format(
        "'{}' as the name of a cluster: letters, digits, - and _ are possible", setup.name));
  }
  setup.credentials = given_or_variable(options.credentials, "BROOD_CLUSTER_CREDENTIALS", "");
  setup.ca_file = given_or_variable(options.ca_file, "BROOD_CLUSTER_CA", "");
  setup.url = given_or_variable(options.url, "BROOD_CLUSTER_URL", "nats://127.0.0.1:4222");
  if (urls_of(setup).empty()) {
    throw ArgumentError(fmt::format(
        "'{}' as the URL of a cluster: nats://host:4222, or several with commas between",
        setup.url));
  }
  return setup;
}

std::int64_t milliseconds_of(Deadline deadline) {
  constexpr std::int64_t kMost = 60'000;
  if (deadline.is_never()) return kMost;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline.when() - Deadline::Clock::now());
  return std::clamp<std::int64_t>(left.count(), 1, kMost);
}

void fail_nats(const char* what, const NatsSetup& setup, natsStatus status) {
  std::string hint;
  if (status == NATS_NO_SERVER)
    hint = "; is a nats-server running there? brood-cluster up starts one";
  if (status == NATS_CONNECTION_AUTH_FAILED) hint = "; it wants other credentials";
  if (status == NATS_SSL_ERROR) {
    hint = "; is its certificate, for this very host name, signed by who is in ca_file?";
  }
  throw EngineError(
      fmt::format("{} {}: {}{}", what, shown_url(setup), natsStatus_GetText(status), hint));
}

namespace {

Connection connect(const NatsSetup& setup) {
  natsOptions* made = nullptr;
  natsStatus status = natsOptions_Create(&made);
  const Options options(made);
  if (status != NATS_OK) fail_nats("prepare for", setup, status);
  const std::vector<std::string> urls = urls_of(setup);
  std::vector<const char*> pointers;
  pointers.reserve(urls.size());
  for (const std::string& url : urls) pointers.push_back(url.c_str());
  const auto set = [&](natsStatus result) {
    if (status == NATS_OK) status = result;
  };
  set(natsOptions_SetServers(made, pointers.data(), static_cast<int>(pointers.size())));
  set(natsOptions_SetTimeout(made, kAnswer));
  set(natsOptions_SetMaxReconnect(made, -1));  // for ever
  set(natsOptions_SetReconnectWait(made, 100));
  set(natsOptions_SetPingInterval(made, 1000));
  set(natsOptions_SetMaxPingsOut(made, 2));
  set(natsOptions_SetSendAsap(made, true));  // a task does not wait for company
  // NOTE: without it a write to a server that is cut off waits until TCP gives up, with the lock
  // that the pings need, which would notice.
  set(natsOptions_SetWriteDeadline(made, kAnswer));
  // Nothing is kept until the server is back: who sends it tries again, and would send it twice.
  set(natsOptions_SetReconnectBufSize(made, 0));
  if (!setup.credentials.empty()) {
    set(natsOptions_SetUserCredentialsFromFiles(made, setup.credentials.c_str(), nullptr));
  }
  const bool tls =
      std::ranges::any_of(urls, [](const std::string& url) { return url.starts_with("tls://"); });
  if (tls || !setup.ca_file.empty()) set(natsOptions_SetSecure(made, true));
  if (!setup.ca_file.empty()) {
    set(natsOptions_LoadCATrustedCertificates(made, setup.ca_file.c_str()));
  }
  // NOTE: libnats compares the certificate with one name, or with none.
  const std::string host = host_of(urls.front());
  const bool one_host =
      std::ranges::all_of(urls, [&](const std::string& url) { return host_of(url) == host; });
  if (one_host) set(natsOptions_SetExpectedHostname(made, host.c_str()));
  natsConnection* connection = nullptr;
  set(natsConnection_Connect(&connection, made));
  if (status != NATS_OK) fail_nats("connect to", setup, status);
  return Connection(connection);
}

}  // namespace

Nats::Nats(NatsSetup setup) : setup_(std::move(setup)), connection_(connect(setup_)) {
  jsOptions options;
  jsOptions_Init(&options);
  options.Wait = kAnswer;
  // Where agents have an account of their own: what they call JetStream's subjects there.
  api_ = environment_variable("BROOD_CLUSTER_API").value_or("$JS.API");
  options.Prefix = api_.c_str();
  jsCtx* made = nullptr;
  const natsStatus status = natsConnection_JetStream(&made, connection_.get(), &options);
  if (status != NATS_OK) fail_nats("use the JetStream of", setup_, status);
  js_.reset(made);
  constexpr std::int64_t kLeast = 65536;
  most_bytes_ =
      static_cast<std::size_t>(std::max(natsConnection_GetMaxPayload(connection_.get()), kLeast));
}

bool Nats::connected() const {
  return natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED;
}

natsStatus Nats::publish(const std::string& subject, const char* id,
                         std::span<const std::byte> message, jsErrCode& error,
                         std::uint64_t* place) const {
  jsPubOptions options;
  jsPubOptions_Init(&options);
  options.MsgId = id;
  jsPubAck* found = nullptr;
  const natsStatus status = js_Publish(&found, js_.get(), subject.c_str(), message.data(),
                                       static_cast<int>(message.size()), &options, &error);
  const PublishAck ack(found);
  if (status == NATS_OK && place != nullptr) *place = ack->Sequence;
  return status;
}

natsStatus Nats::add_stream(jsStreamConfig& config, jsErrCode& error) const {
  constexpr std::int64_t kLeast = std::int64_t{16} << 20U;
  for (bool smaller = false;; smaller = true) {
    error = {};
    const natsStatus status = js_AddStream(nullptr, js_.get(), &config, nullptr, &error);
    const bool no_room = error == JSStorageResourcesExceededErr ||
                         error == JSInsufficientResourcesErr ||
                         error == JSAccountResourcesExceededErr;
    if (status == NATS_OK && smaller && config.MaxBytes > kLeast) {
      config.MaxBytes =
          std::max(config.MaxBytes / 4, kLeast);  // the next ones want some of it, too
      return js_UpdateStream(nullptr, js_.get(), &config, nullptr, &error);
    }
    if (status == NATS_OK || !no_room || config.MaxBytes / 2 < kLeast) return status;
    config.MaxBytes /= 2;
  }
}

// NOTE: libnats is asked for one at a time. For more it (3.4 and later, _fetch() in js.c) subtracts
// what had come before from what it waits for, but not from what it has: with more than half of the
// batch it never finds that it has enough, and writes what comes further beyond its array. One
// that has come it gives without asking the server.
natsStatus Nats::fetch(const Subscription& from, const std::string& stream,
                       const std::string& consumer, std::size_t most, std::int64_t wait,
                       std::vector<NatsMessage>& into) const {
  using namespace std::chrono_literals;
  const auto has_come = [&] {
    int messages = 0;
    int bytes = 0;
    return natsSubscription_GetPending(from.get(), &messages, &bytes) == NATS_OK && messages > 0;
  };
  const auto take = [&](std::int64_t time) {
    natsMsgList list{};
    jsErrCode error{};
    const natsStatus status = natsSubscription_Fetch(&list, from.get(), 1, time, &error);
    if (status != NATS_OK) return status;
    into.emplace_back(std::exchange(list.Msgs[0], nullptr));
    natsMsgList_Destroy(&list);
    return NATS_OK;
  };
  const natsStatus status = take(wait);
  if (status != NATS_OK) return status;
  while (into.size() < most && has_come()) {
    if (take(1) != NATS_OK) break;
  }
  jsMsgMetaData* found = nullptr;
  if (into.size() == most || natsMsg_GetMetaData(&found, into.back().get()) != NATS_OK) {
    return NATS_OK;
  }
  const MetaData data(found);
  const std::uint64_t wanted = std::min<std::uint64_t>(most - into.size(), data->NumPending);
  if (wanted == 0) return NATS_OK;
  // They come by themselves then; what is late is had the next time.
  const std::string subject = fmt::format("{}.CONSUMER.MSG.NEXT.{}.{}", api_, stream, consumer);
  const std::string request = fmt::format(R"({{"batch":{},"no_wait":true}})", wanted);
  if (natsConnection_PublishRequestString(connection_.get(), subject.c_str(),
                                          natsSubscription_GetSubject(from.get()),
                                          request.c_str()) != NATS_OK) {
    return NATS_OK;
  }
  const std::size_t enough = into.size() + wanted;
  for (const auto end = Deadline::Clock::now() + 100ms;
       into.size() < enough && Deadline::Clock::now() < end;) {
    if (!has_come()) {
      std::this_thread::sleep_for(100us);
    } else if (take(1) != NATS_OK) {
      break;  // no message, but that there is no more
    }
  }
  return NATS_OK;
}

Subscription Nats::pull(const std::string& stream, const std::string& consumer) const {
  jsSubOptions options;
  jsSubOptions_Init(&options);
  options.Stream = stream.c_str();
  options.Consumer = consumer.c_str();
  natsSubscription* made = nullptr;
  const natsStatus status =
      js_PullSubscribe(&made, js_.get(), nullptr, consumer.c_str(), nullptr, &options, nullptr);
  return status == NATS_OK ? Subscription(made) : Subscription();
}

}  // namespace brood::detail
