#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include <brood/cluster/hex_digits.hpp>
#include <brood/cluster/nats_parts_private.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// NAME BYTES PLACE..., the place of each part in the stream.
constexpr const char* kHeader = "Brood-Parts";
constexpr std::int64_t kStreamBytes = std::int64_t{1} << 30U;
constexpr auto kUnread = 1h;
/// Beside the bytes a message has a subject and headers.
constexpr std::size_t kPartOverhead = 4096;
constexpr std::size_t kNameBytes = 16;
/// A replica may lag behind the server that confirmed.
constexpr int kTries = 5;
constexpr auto kLag = 20ms;

}  // namespace

NatsParts::NatsParts(const Nats& nats, const std::string& kind)
    : nats_(nats),
      stream_(fmt::format("{}_{}s", nats.setup().name, kind)),
      subject_(fmt::format("{}.{}.", nats.setup().name, kind)) {}

natsStatus NatsParts::make_stream(jsErrCode& error) const {
  jsStreamConfig config;
  jsStreamConfig_Init(&config);
  const std::string subject = subject_ + ">";
  const char* subjects[] = {subject.c_str()};
  config.Name = stream_.c_str();
  config.Subjects = subjects;
  config.SubjectsLen = 1;
  config.Discard = js_DiscardNew;
  config.MaxBytes = kStreamBytes;
  config.MaxAge = std::chrono::nanoseconds(kUnread).count();
  config.Replicas = nats_.setup().replicas;
  config.AllowDirect = true;
  return nats_.add_stream(config, error);
}

bool NatsParts::is_there() const {
  jsStreamInfo* found = nullptr;
  const natsStatus status = js_GetStreamInfo(&found, nats_.js(), stream_.c_str(), nullptr, nullptr);
  jsStreamInfo_Destroy(found);
  return status == NATS_OK;
}

std::string NatsParts::subject_of(const std::string& name, const std::string& part) const {
  return fmt::format("{}{}.{}", subject_, name, part);
}

natsStatus NatsParts::publish(const std::string& subject, const char* id,
                              std::span<const std::byte> message, jsErrCode& error) const {
  const std::size_t most = nats_.most_bytes() - kPartOverhead;
  if (message.size() <= most) return nats_.publish(subject, id, message, error);
  const std::string name = random_hex_digits(kNameBytes);
  std::vector<std::uint64_t> places;
  natsStatus status = NATS_OK;
  for (std::size_t at = 0; at < message.size() && status == NATS_OK; at += most) {
    const auto part = message.subspan(at, std::min(most, message.size() - at));
    std::uint64_t place = 0;
    status = nats_.publish(subject_of(name, std::to_string(places.size())), nullptr, part, error,
                           &place);
    if (status == NATS_OK) places.push_back(place);
  }
  const bool may_have_arrived = status != NATS_OK && error == 0;
  natsMsg* made = nullptr;
  if (status == NATS_OK) status = natsMsg_Create(&made, subject.c_str(), nullptr, nullptr, 0);
  const NatsMessage reference(made);
  if (status == NATS_OK) {
    const std::string value = fmt::format("{} {} {}", name, message.size(), fmt::join(places, " "));
    status = natsMsgHeader_Set(made, kHeader, value.c_str());
  }
  if (status == NATS_OK) {
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MsgId = id;
    status = js_PublishMsg(nullptr, nats_.js(), made, &options, &error);
  }
  // If the server has taken the reference all the same, it names nothing, and counts as lost.
  if (status != NATS_OK) {
    remove(places);
    if (may_have_arrived) purge(name);
  }
  return status;
}

std::optional<NatsParts::Reference> NatsParts::reference_of(natsMsg* message) {
  const char* value = nullptr;
  if (natsMsgHeader_Get(message, kHeader, &value) != NATS_OK || value == nullptr) {
    return std::nullopt;
  }
  std::istringstream text(value);
  Reference found;
  text >> found.name >> found.bytes;
  for (std::uint64_t place = 0; text >> place;) found.places.push_back(place);
  const bool plain = found.name.find_first_not_of("0123456789abcdef") == std::string::npos;
  const bool sensible = found.bytes <= kMostBytes && found.places.size() <= found.bytes;
  if (!text.eof() || !plain || !sensible) return Reference{};  // names nothing
  return found;
}

NatsParts::Read NatsParts::read(natsMsg* message, Bytes& bytes) const {
  const auto append = [&bytes](natsMsg* from) {
    const auto* data = reinterpret_cast<const std::byte*>(natsMsg_GetData(from));
    bytes.insert(bytes.end(), data, data + natsMsg_GetDataLength(from));
  };
  bytes.clear();
  const std::optional<Reference> reference = reference_of(message);
  if (!reference) {
    append(message);
    return Read::whole;
  }
  bytes.reserve(reference->bytes);
  for (std::size_t part = 0; part < reference->places.size(); ++part) {
    const std::string subject = subject_of(reference->name, std::to_string(part));
    jsDirectGetMsgOptions options;
    jsDirectGetMsgOptions_Init(&options);
    options.LastBySubject = subject.c_str();
    natsStatus status = NATS_NOT_FOUND;
    for (int turn = 0; turn < kTries && status == NATS_NOT_FOUND; ++turn) {
      if (turn > 0) std::this_thread::sleep_for(kLag);
      natsMsg* found = nullptr;
      status = js_DirectGetMsg(&found, nats_.js(), stream_.c_str(), nullptr, &options);
      const NatsMessage held(found);
      if (status == NATS_OK) append(found);
    }
    if (status == NATS_NOT_FOUND) return Read::never;
    if (status != NATS_OK) return Read::later;
    if (bytes.size() > reference->bytes) return Read::never;
  }
  const bool whole = bytes.size() == reference->bytes && !reference->places.empty();
  return whole ? Read::whole : Read::never;
}

void NatsParts::discard(natsMsg* message) const {
  if (const std::optional<Reference> reference = reference_of(message)) remove(reference->places);
}

// NOTE: one by one. What nats-server (2.9.10) purges by subject it goes on counting as used, until
// all of max_file_store is, and it takes nothing more.
void NatsParts::remove(std::span<const std::uint64_t> places) const {
  jsOptions options;
  jsOptions_Init(&options);
  options.Wait = kAnswer;
  for (const std::uint64_t place : places) {
    static_cast<void>(js_DeleteMsg(nats_.js(), stream_.c_str(), place, &options, nullptr));
  }
}

void NatsParts::purge(const std::string& name) const {
  const std::string subject = subject_of(name, "*");
  jsOptions options;
  jsOptions_Init(&options);
  options.Wait = kAnswer;
  options.Stream.Purge.Subject = subject.c_str();
  static_cast<void>(js_PurgeStream(nats_.js(), stream_.c_str(), &options, nullptr));
}

}  // namespace brood::detail
