#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/cluster/nats_private.hpp>
#include <brood/errors.hpp>

namespace brood::detail {

NatsSetup nats_setup(const ClusterOptions& options) {
  if (options.lease < std::chrono::seconds(1)) {
    throw ArgumentError("lease: a second at least, or nodes that are busy would count as lost");
  }
  constexpr std::uint32_t kMostReplicas = 5;
  if (options.replicas == 0 || options.replicas > kMostReplicas) {
    throw ArgumentError(fmt::format("{} replicas: 1 to {} are possible, 3 are usual",
                                    options.replicas, kMostReplicas));
  }
  if (options.name.empty() || options.name.find_first_of(" .*>\t\r\n/\\") != std::string::npos) {
    throw ArgumentError(fmt::format(
        "'{}' as the name of a cluster: letters, digits, - and _ are possible", options.name));
  }
  return {.url = options.url,
          .name = options.name,
          .credentials = options.credentials,
          .ca_file = options.ca_file,
          .lease = options.lease,
          .replicas = options.replicas};
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
  if (status == NATS_NO_SERVER) hint = "; is a nats-server running there?";
  if (status == NATS_CONNECTION_AUTH_FAILED) hint = "; it wants other credentials";
  throw EngineError(fmt::format("{} {}: {}{}", what, setup.url, natsStatus_GetText(status), hint));
}

namespace {

Connection connect(const NatsSetup& setup) {
  natsOptions* made = nullptr;
  natsStatus status = natsOptions_Create(&made);
  const Options options(made);
  if (status != NATS_OK) fail_nats("prepare for", setup, status);
  std::vector<std::string> urls;
  for (std::size_t begin = 0; begin <= setup.url.size();) {
    const std::size_t end = std::min(setup.url.find(',', begin), setup.url.size());
    if (end > begin) urls.push_back(setup.url.substr(begin, end - begin));
    begin = end + 1;
  }
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
  if (!setup.credentials.empty()) {
    set(natsOptions_SetUserCredentialsFromFiles(made, setup.credentials.c_str(), nullptr));
  }
  if (!setup.ca_file.empty()) {
    set(natsOptions_SetSecure(made, true));
    set(natsOptions_LoadCATrustedCertificates(made, setup.ca_file.c_str()));
  }
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
  jsCtx* made = nullptr;
  const natsStatus status = natsConnection_JetStream(&made, connection_.get(), &options);
  if (status != NATS_OK) fail_nats("use the JetStream of", setup_, status);
  js_.reset(made);
}

std::size_t Nats::most_bytes() const {
  constexpr std::int64_t kLeast = 65536;
  return static_cast<std::size_t>(
      std::max(natsConnection_GetMaxPayload(connection_.get()), kLeast));
}

natsStatus Nats::publish(const std::string& subject, const char* id,
                         std::span<const std::byte> message, jsErrCode& error) const {
  jsPubOptions options;
  jsPubOptions_Init(&options);
  options.MsgId = id;
  return js_Publish(nullptr, js_.get(), subject.c_str(), message.data(),
                    static_cast<int>(message.size()), &options, &error);
}

natsStatus Nats::add_stream(jsStreamConfig& config, jsErrCode& error) const {
  constexpr std::int64_t kLeast = std::int64_t{16} << 20U;
  for (bool smaller = false;; smaller = true) {
    error = {};
    const natsStatus status = js_AddStream(nullptr, js_.get(), &config, nullptr, &error);
    const bool no_room = error == JSStorageResourcesExceededErr ||
                         error == JSInsufficientResourcesErr ||
                         error == JSAccountResourcesExceededErr;
    if (status == NATS_OK && smaller && config.MaxBytes / 4 >= kLeast) {
      config.MaxBytes /= 4;  // the next ones want some of it, too
      return js_UpdateStream(nullptr, js_.get(), &config, nullptr, &error);
    }
    if (status == NATS_OK || !no_room || config.MaxBytes / 2 < kLeast) return status;
    config.MaxBytes /= 2;
  }
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
