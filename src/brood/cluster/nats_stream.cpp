#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <brood/cluster/hex_digits.hpp>
#include <brood/cluster/nats_stream_private.hpp>
#include <brood/errors.hpp>
#include <brood/platform/program.hpp>
#include <brood/process.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// The server said no, and trying again would not help.
bool is_refusal(jsErrCode error) {
  switch (static_cast<int>(error)) {
    case 0:
    case JSNotEnabledErr:  // also what nobody answers; it may be starting
    case JSClusterNotAvailErr:
    case JSClusterNotLeaderErr:
      return false;
    default:
      return true;
  }
}

struct Connections {
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<const Nats>> known;
  std::vector<std::shared_ptr<const Nats>> kept;
};
/// For ever: libnats' threads may outlive what is destroyed at the end.
Connections& connections() {
  static auto* const all = new Connections;
  return *all;
}

}  // namespace

void Patience::ready() {
  while (natsConnection_Status(nats_->connection()) != NATS_CONN_STATUS_CONNECTED) {
    failed(NATS_CONNECTION_DISCONNECTED, jsErrCode{});
  }
}

void Patience::failed(natsStatus status, jsErrCode error) {
  if (is_refusal(error)) {
    throw EngineError(fmt::format("{}: {}", what_, nats_GetLastError(nullptr)));
  }
  asked_ = asked_ || (status != NATS_CONNECTION_DISCONNECTED && status != NATS_NO_RESPONDERS &&
                      status != NATS_NO_SERVER);
  if (end_.is_never()) end_ = Deadline::after(most_).sooner(deadline_);
  if (end_.passed()) {
    throw EngineError(fmt::format(
        "{}: the server does not answer ({}); is a nats-server -js "
        "running there?{}",
        what_, natsStatus_GetText(status), asked_ ? " It is not known whether it was done." : ""));
  }
  std::this_thread::sleep_for(20ms);
}

void Patience::nap(unsigned round) const {
  constexpr unsigned kMost = 6;
  const Deadline::Clock::duration time = 1ms * (1U << std::min(round, kMost));
  if (deadline_.is_never()) {
    std::this_thread::sleep_for(time);
  } else if (!deadline_.passed()) {
    std::this_thread::sleep_until(std::min(deadline_.when(), Deadline::Clock::now() + time));
  }
}

std::shared_ptr<const Nats> shared_nats(const ClusterPlace& place, bool keep) {
  if (environment_variable("BROOD_CLUSTER_API")) {
    throw StateError(
        "queues and dictionaries of this cluster are not for its agents: they may only take tasks "
        "and give results; started by `brood-cluster up --trust-agents`, they may do what clients "
        "may");
  }
  const NatsSetup& setup = place.nats;
  const std::string key = setup.url + '\n' + setup.credentials + '\n' + setup.ca_file;
  Connections& all = connections();
  const std::scoped_lock lock(all.mutex);
  std::shared_ptr<const Nats> nats = all.known[key].lock();
  if (nats == nullptr) {
    nats = std::make_shared<const Nats>(setup);
    all.known[key] = nats;
  }
  if (keep && std::ranges::find(all.kept, nats) == all.kept.end()) all.kept.push_back(nats);
  return nats;
}

void require_plain_name(const char* noun, std::string_view name) {
  constexpr std::string_view kPossible =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  constexpr std::size_t kMost = 200;
  if (name.empty() || name.size() > kMost ||
      name.find_first_not_of(kPossible) != std::string_view::npos) {
    throw ArgumentError(
        fmt::format("'{}' as the name of a {}: letters, digits, - and _ are possible, up to {}",
                    name, noun, kMost));
  }
}

NatsStream::NatsStream(ClusterPlace place, Names names, StoredType type, bool travelled)
    : place_(std::move(place)),
      names_(std::move(names)),
      type_(std::move(type)),
      envelope_(place_.key, fmt::format("brood {} {}", names_.noun, names_.name)) {
  // A worker gets a handle with each task, and would connect each time.
  const bool keep = travelled && parent_process().has_value();
  Patience patience = this->patience("connect to");
  while (nats_ == nullptr) {
    try {
      nats_ = shared_nats(place_, keep);
    } catch (const EngineError&) {
      if (!travelled) throw;
      patience.failed(NATS_NO_SERVER, jsErrCode{});
    }
  }
}

Patience NatsStream::patience(const char* what, Deadline deadline) const {
  return {nats_.get(), place_.patience, deadline, fmt::format("{} {}", what, described())};
}

std::string NatsStream::described() const {
  return fmt::format("{} '{}' at {}", names_.noun, names_.name, name_of(place_).url);
}

std::string NatsStream::description() const {
  // Who has another key or type learns it before there is a message.
  constexpr std::size_t kName = 300;
  return fmt::format("brood 1 {:016x} {} {}", type_.print, envelope_.proof("key").substr(0, 32),
                     type_.name.substr(0, kName));
}

void NatsStream::make(jsStreamConfig& config) const {
  const std::string text = description();
  const char* subjects[] = {names_.subject.c_str()};
  config.Name = names_.stream.c_str();
  config.Description = text.c_str();
  config.Subjects = subjects;
  config.SubjectsLen = 1;
  config.Storage = js_FileStorage;
  config.Replicas = place_.nats.replicas;
  config.Duplicates = std::chrono::nanoseconds(2min).count();
  Patience patience = this->patience("make");
  for (;;) {
    patience.ready();
    jsErrCode error{};
    const natsStatus status = js_AddStream(nullptr, js(), &config, nullptr, &error);
    if (status == NATS_OK) return;
    if (error == JSStreamNameExistErr) break;  // with other settings, or closed
    if (status == NATS_NO_RESPONDERS || error == JSNotEnabledErr ||
        error == JSNotEnabledForAccountErr) {
      throw EngineError(fmt::format(
          "{} has no JetStream: start it as nats-server -js -sd DIRECTORY", name_of(place_).url));
    }
    patience.failed(status, error);
  }
  check(*info(patience));
}

StreamInfo NatsStream::info(Patience& patience) const {
  for (;;) {
    patience.ready();
    jsStreamInfo* found = nullptr;
    jsErrCode error{};
    const natsStatus status =
        js_GetStreamInfo(&found, js(), names_.stream.c_str(), nullptr, &error);
    if (status == NATS_OK) {
      patience.answered();
      return StreamInfo(found);
    }
    if (error == JSStreamNotFoundErr) {
      throw EngineError(
          fmt::format("{} is gone, with what was in it: it was removed, or the server has lost its "
                      "store; whoever makes it anew begins with an empty one",
                      described()));
    }
    patience.failed(status, error);
  }
}

void NatsStream::check(const jsStreamInfo& info) const {
  const std::string_view found =
      info.Config->Description == nullptr ? "" : info.Config->Description;
  const std::string wanted = description();
  if (found == wanted) return;
  constexpr std::size_t kPrint = 8;            // "brood 1 "
  constexpr std::size_t kProof = kPrint + 17;  // 16 digits, a space
  constexpr std::size_t kName = kProof + 33;   // 32 digits, a space
  if (found.size() < kName || found.substr(0, kPrint) != wanted.substr(0, kPrint)) {
    throw EngineError(
        fmt::format("{}: the server's stream {} was not made by this version of Brood", described(),
                    names_.stream));
  }
  if (found.substr(kProof, 32) != wanted.substr(kProof, 32)) {
    throw AuthenticationError(
        fmt::format("{} was made with another key{}", described(),
                    place_.key.empty() ? ": here none is known, set BROOD_CLUSTER_KEY" : ""));
  }
  throw TypeMismatch(fmt::format("{} is of {}; here it is to be of {}{}", described(),
                                 found.substr(kName), type_.name,
                                 found.substr(kName) == type_.name ? ", with other fields" : ""));
}

void NatsStream::remove() const {
  Patience patience = this->patience("remove");
  for (;;) {
    patience.ready();
    jsErrCode error{};
    const natsStatus status = js_DeleteStream(js(), names_.stream.c_str(), nullptr, &error);
    if (status == NATS_OK || error == JSStreamNotFoundErr) return;
    patience.failed(status, error);
  }
}

std::vector<std::byte> NatsStream::seal(std::span<const std::byte> value,
                                        std::string_view about) const {
  const std::size_t most = nats_->most_bytes() - kOverhead - about.size();
  if (value.size() > most) {
    throw MessageTooLarge(
        fmt::format("a value of {} bytes for {}: {} is the most that the server takes; write it "
                    "where all can read it, a file or a database, and put its name, or raise the "
                    "server's max_payload",
                    value.size(), described(), most));
  }
  std::vector<std::byte> body(sizeof(type_.print) + value.size());
  const auto print = std::as_bytes(std::span(&type_.print, 1));
  std::ranges::copy(value, std::ranges::copy(print, body.begin()).out);
  return envelope_.seal(body, about);
}

std::span<const std::byte> NatsStream::open(std::span<const std::byte> message,
                                            std::string_view about) const {
  const std::span<const std::byte> body = envelope_.open(message, about);
  std::uint64_t print = 0;
  if (body.size() < sizeof(print)) throw DecodeError("a value in the cluster without its type");
  std::ranges::copy(body.first(sizeof(print)),
                    std::as_writable_bytes(std::span(&print, 1)).begin());
  if (print != type_.print) {
    throw TypeMismatch(
        fmt::format("a value in {} is of another type, or of another build's, than {}", described(),
                    type_.name));
  }
  return body.subspan(sizeof(print));
}

std::string NatsStream::new_id() const {
  constexpr std::size_t kBytes = 16;
  return random_hex_digits(kBytes);
}

}  // namespace brood::detail
