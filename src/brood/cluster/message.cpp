#include <brood/cluster/message.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/channel/keyed_hash.hpp>
#include <brood/errors.hpp>
#include <brood/platform/module.hpp>

namespace brood::detail {
namespace {

// Each kind has a key of its own, or one message could be replayed as another.
template <class T>
constexpr std::string_view kLabel = "";
template <>
constexpr std::string_view kLabel<TaskMessage> = "brood task";
template <>
constexpr std::string_view kLabel<ResultMessage> = "brood result";
template <>
constexpr std::string_view kLabel<NodeBeat> = "brood beat";
template <>
constexpr std::string_view kLabel<ClientNote> = "brood note";

template <class T>
std::string key_for(std::string_view key) {
  const KeyedHash derived = keyed_hash(key, std::as_bytes(std::span(kLabel<T>)));
  return {reinterpret_cast<const char*>(derived.data()), derived.size()};
}

template <class T>
Bytes signed_bytes(const T& message, std::string_view key) {
  VectorSink sink;
  encode(sink, message);
  Bytes bytes = sink.take();
  const KeyedHash hash = keyed_hash(key_for<T>(key), bytes);
  bytes.insert(bytes.end(), hash.begin(), hash.end());
  return bytes;
}

template <class T>
T opened(std::span<const std::byte> bytes, std::string_view key) {
  KeyedHash said{};
  if (bytes.size() < said.size()) {
    throw DecodeError(fmt::format("a message of {} bytes is none of a cluster's", bytes.size()));
  }
  const auto body = bytes.first(bytes.size() - said.size());
  std::ranges::copy(bytes.last(said.size()), said.begin());
  if (!equal(said, keyed_hash(key_for<T>(key), body))) {
    throw AuthenticationError(
        "a message in the cluster was not signed with its key: another key, or a stranger");
  }
  ByteSource source(body);
  return decode<T>(source);
}

template <class T>
T of_this_version(T message) {
  if (message.version != TaskMessage::kVersion) {
    throw DecodeError(fmt::format("a message of version {} of the cluster's protocol; this is {}",
                                  message.version, TaskMessage::kVersion));
  }
  return message;
}

}  // namespace

Bytes sign(const TaskMessage& message, std::string_view key) { return signed_bytes(message, key); }
Bytes sign(const ResultMessage& message, std::string_view key) {
  return signed_bytes(message, key);
}
Bytes sign(const NodeBeat& beat, std::string_view key) { return signed_bytes(beat, key); }
Bytes sign(const ClientNote& note, std::string_view key) { return signed_bytes(note, key); }

TaskMessage open_task(std::span<const std::byte> bytes, std::string_view key) {
  return of_this_version(opened<TaskMessage>(bytes, key));
}
ResultMessage open_result(std::span<const std::byte> bytes, std::string_view key) {
  return of_this_version(opened<ResultMessage>(bytes, key));
}
NodeBeat open_beat(std::span<const std::byte> bytes, std::string_view key) {
  return opened<NodeBeat>(bytes, key);
}
ClientNote open_note(std::span<const std::byte> bytes, std::string_view key) {
  return of_this_version(opened<ClientNote>(bytes, key));
}

std::uint64_t own_build() {
  static const std::uint64_t key = loaded_modules().front().key;
  return key;
}

}  // namespace brood::detail
