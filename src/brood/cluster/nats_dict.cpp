#include <algorithm>
#include <chrono>
#include <mutex>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include <brood/cluster/key_value.hpp>
#include <brood/cluster/nats_stream_private.hpp>
#include <brood/errors.hpp>
#include <brood/platform/random.hpp>

namespace brood::detail {
namespace {

using Store = std::unique_ptr<kvStore, Freed<kvStore_Destroy>>;
using Watcher = std::unique_ptr<kvWatcher, Freed<kvWatcher_Destroy>>;
using StoreEntry = std::unique_ptr<kvEntry, Freed<kvEntry_Destroy>>;
using PubAck = std::unique_ptr<jsPubAck, Freed<jsPubAck_Destroy>>;

constexpr std::size_t kMostKeyBytes = 1024;  // a subject must fit into a line of the protocol
constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A key as the server takes it: base64 for URLs, behind a letter, so that it is never empty.
std::string token_of(std::span<const std::byte> key) {
  std::string token = "k";
  token.reserve(key.size() * 4 / 3 + 3);
  unsigned bits = 0;
  unsigned count = 0;
  for (const std::byte byte : key) {
    bits = (bits << 8U | std::to_integer<unsigned>(byte)) & 0xffffU;
    for (count += 8; count >= 6; count -= 6) token += kDigits[bits >> (count - 6) & 63U];
  }
  if (count != 0) token += kDigits[bits << (6 - count) & 63U];
  return token;
}

/// Throws DecodeError.
std::vector<std::byte> key_of(std::string_view token) {
  const auto refuse = [&] {
    throw DecodeError(fmt::format("'{}' is no key of a ClusterDict", token));
  };
  if (token.empty() || token.front() != 'k') refuse();
  std::vector<std::byte> key;
  unsigned bits = 0;
  unsigned count = 0;
  for (const char c : token.substr(1)) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) refuse();
    bits = (bits << 6U | static_cast<unsigned>(digit)) & 0xffffU;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    key.push_back(static_cast<std::byte>(bits >> count & 0xffU));
  }
  return key;
}

}  // namespace

/// The dictionary as the server has it.
///
/// A bucket as of NATS' own key-value store, but for deletions: there they leave a marker, here the
/// message of that very sequence number goes, which is a compare-and-delete, and the number of
/// messages is that of keys.
class KeyValue::Server {
 public:
  Server(const ClusterPlace& place, const Setup& setup, bool travelled)
      : stream_(place, names(place, setup), setup.type, travelled) {
    if (!travelled) {
      jsStreamConfig config;
      jsStreamConfig_Init(&config);
      config.MaxMsgsPerSubject = 1;
      config.Discard = js_DiscardNew;
      stream_.make(config);
    }
    Patience patience = stream_.patience("open");
    stream_.check(*stream_.info(patience));
  }

  Entry get(std::span<const std::byte> key) const {
    const std::string token = token_of(key);
    std::uint64_t revision = 0;
    Patience patience = stream_.patience("look into");
    const NatsMessage message = last(token, revision, patience);
    if (message == nullptr) return {};
    const std::span<const std::byte> value = stream_.open(bytes_of(message.get()), token);
    return {.value = Bytes(value.begin(), value.end()), .revision = revision};
  }

  /// `revision`: that it must be at; null: at any.
  bool set(std::span<const std::byte> key, std::span<const std::byte> value,
           const std::uint64_t* revision) const {
    if (key.size() > kMostKeyBytes) {
      throw ArgumentError(fmt::format("a key of {} bytes for {}: {} are possible", key.size(),
                                      stream_.described(), kMostKeyBytes));
    }
    const std::string token = token_of(key);
    const std::vector<std::byte> message = stream_.seal(value, token);
    const std::string id = stream_.new_id();
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MsgId = id.c_str();
    if (revision != nullptr) {
      options.ExpectNoMessage = *revision == 0;
      options.ExpectLastSubjectSeq = *revision;
    }
    Patience patience = stream_.patience("set a value of");
    bool perhaps = false;  // it is done
    for (;;) {
      patience.ready();
      jsErrCode error{};
      const natsStatus status =
          js_Publish(nullptr, stream_.js(), subject(token).c_str(), message.data(),
                     static_cast<int>(message.size()), &options, &error);
      if (status == NATS_OK) return true;
      if (error == JSStreamWrongLastSequenceErr) return perhaps && is_last(token, id, patience);
      perhaps = perhaps || status != NATS_NO_RESPONDERS;
      if (status == NATS_NO_RESPONDERS) static_cast<void>(stream_.info(patience));
      patience.failed(status, error);
    }
  }

  bool erase(std::span<const std::byte> key, std::uint64_t revision) const {
    if (revision == 0) return false;
    const std::string token = token_of(key);
    Patience patience = stream_.patience("erase a key of");
    bool perhaps = false;
    for (;;) {
      patience.ready();
      jsErrCode error{};
      const natsStatus status =
          js_DeleteMsg(stream_.js(), stream_.names().stream.c_str(), revision, nullptr, &error);
      if (status == NATS_OK) return true;
      if (error == JSStreamMsgDeleteFailed || error == JSSequenceNotFoundErr) {
        // It was of this call, unless somebody set the key in the moment before.
        std::uint64_t now = 0;
        return perhaps && last(token, now, patience) == nullptr;
      }
      if (error == JSStreamNotFoundErr) static_cast<void>(stream_.info(patience));
      perhaps = perhaps || status != NATS_NO_RESPONDERS;
      patience.failed(status, error);
    }
  }

  [[nodiscard]] std::size_t size() const {
    Patience patience = stream_.patience("look at");
    return static_cast<std::size_t>(stream_.info(patience)->State.Msgs);
  }

  void clear() const {
    Patience patience = stream_.patience("clear");
    for (;;) {
      patience.ready();
      jsErrCode error{};
      const natsStatus status =
          js_PurgeStream(stream_.js(), stream_.names().stream.c_str(), nullptr, &error);
      if (status == NATS_OK) return;
      if (error == JSStreamNotFoundErr) static_cast<void>(stream_.info(patience));
      patience.failed(status, error);
    }
  }

  [[nodiscard]] std::vector<std::pair<Bytes, Bytes>> items() const {
    Patience patience = stream_.patience("go through");
    for (;;) {
      // Beforehand, as the store cannot tell that it is gone from that nothing is in it.
      Patience look = stream_.patience("look at");
      static_cast<void>(stream_.info(look));
      std::vector<std::pair<Bytes, Bytes>> all;
      const natsStatus status = try_items(all);
      if (status == NATS_OK) return all;
      patience.failed(status, jsErrCode{});
    }
  }

  [[nodiscard]] const NatsStream& stream() const { return stream_; }

 private:
  static NatsStream::Names names(const ClusterPlace& place, const Setup& setup) {
    const std::string bucket = fmt::format("{}_dict_{}", place.nats.name, setup.name);
    return {.noun = "dictionary",
            .name = setup.name,
            .stream = "KV_" + bucket,
            .subject = fmt::format("$KV.{}.>", bucket)};
  }
  [[nodiscard]] std::string subject(const std::string& token) const {
    const std::string& all = stream_.names().subject;
    return all.substr(0, all.size() - 1) + token;
  }

  /// Null when there is none.
  NatsMessage last(const std::string& token, std::uint64_t& revision, Patience& patience) const {
    for (;;) {
      patience.ready();
      natsMsg* found = nullptr;
      jsErrCode error{};
      const natsStatus status = js_GetLastMsg(&found, stream_.js(), stream_.names().stream.c_str(),
                                              subject(token).c_str(), nullptr, &error);
      if (status == NATS_OK) {
        revision = natsMsg_GetSequence(found);
        return NatsMessage(found);
      }
      if (error == JSNoMessageFoundErr) return nullptr;
      if (error == JSStreamNotFoundErr) static_cast<void>(stream_.info(patience));
      patience.failed(status, error);
    }
  }
  bool is_last(const std::string& token, const std::string& id, Patience& patience) const {
    std::uint64_t revision = 0;
    const NatsMessage message = last(token, revision, patience);
    const char* found = nullptr;
    return message != nullptr &&
           natsMsgHeader_Get(message.get(), "Nats-Msg-Id", &found) == NATS_OK && found == id;
  }

  natsStatus try_items(std::vector<std::pair<Bytes, Bytes>>& all) const {
    const std::string bucket = stream_.names().stream.substr(3);
    kvStore* store = nullptr;
    natsStatus status = js_KeyValue(&store, stream_.js(), bucket.c_str());
    const Store store_owner(store);
    kvWatcher* watcher = nullptr;
    kvWatchOptions options;
    kvWatchOptions_Init(&options);
    options.IgnoreDeletes = true;
    if (status == NATS_OK) status = kvStore_WatchAll(&watcher, store, &options);
    const Watcher watcher_owner(watcher);
    std::unordered_map<std::string, std::size_t> at;
    while (status == NATS_OK) {
      kvEntry* found = nullptr;
      status = kvWatcher_Next(&found, watcher, kAnswer);
      if (status != NATS_OK || found == nullptr) break;  // null: that was all
      const StoreEntry entry(found);
      const std::string token = kvEntry_Key(found);
      const auto* data = static_cast<const std::byte*>(kvEntry_Value(found));
      const std::span<const std::byte> value =
          stream_.open({data, static_cast<std::size_t>(kvEntry_ValueLen(found))}, token);
      // One that was set while this went on comes a second time, perhaps.
      const auto [known, is_new] = at.try_emplace(token, all.size());
      if (is_new) {
        all.emplace_back(key_of(token), Bytes(value.begin(), value.end()));
      } else {
        all[known->second].second.assign(value.begin(), value.end());
      }
    }
    return status;
  }

  const NatsStream stream_;
};

struct KeyValue::Connecting {
  std::mutex mutex;
  std::unique_ptr<Server> server;  // guarded by mutex until it is there
};

KeyValue::KeyValue(const ClusterPlace& place, Setup setup)
    : place_(name_of(place)),
      setup_(std::move(setup)),
      connecting_(std::make_unique<Connecting>()) {
  require_plain_name("dictionary", setup_.name);
  connecting_->server = std::make_unique<Server>(place, setup_, false);
}

KeyValue::KeyValue(PlaceName place, Setup setup)
    : place_(std::move(place)),
      setup_(std::move(setup)),
      connecting_(std::make_unique<Connecting>()) {}

KeyValue::~KeyValue() = default;

KeyValue::Server& KeyValue::server() {
  const std::scoped_lock lock(connecting_->mutex);
  if (connecting_->server == nullptr) {
    connecting_->server = std::make_unique<Server>(find_place(place_), setup_, true);
  }
  return *connecting_->server;
}

KeyValue::Entry KeyValue::get(std::span<const std::byte> key) { return server().get(key); }
void KeyValue::set(std::span<const std::byte> key, std::span<const std::byte> value) {
  static_cast<void>(server().set(key, value, nullptr));
}
bool KeyValue::set_if(std::span<const std::byte> key, std::span<const std::byte> value,
                      std::uint64_t revision) {
  return server().set(key, value, &revision);
}
bool KeyValue::erase_if(std::span<const std::byte> key, std::uint64_t revision) {
  return server().erase(key, revision);
}
void KeyValue::give_way(unsigned round) {
  if (round == 0) return;
  // By chance, or those who met would meet again.
  constexpr unsigned kMost = 6;
  std::uint32_t chance = 0;
  fill_random(std::as_writable_bytes(std::span(&chance, 1)));
  const std::uint32_t most = 500U << std::min(round, kMost);
  std::this_thread::sleep_for(std::chrono::microseconds(chance % most));
}
std::size_t KeyValue::size() { return server().size(); }
void KeyValue::clear() { server().clear(); }
std::vector<std::pair<KeyValue::Bytes, KeyValue::Bytes>> KeyValue::items() {
  return server().items();
}
void KeyValue::remove() { server().stream().remove(); }

}  // namespace brood::detail
