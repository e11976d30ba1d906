#include <brood/cluster/message.hpp>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/errors.hpp>
#include <brood/platform/module.hpp>

namespace brood::detail {
namespace {

template <class T>
Bytes sealed(const T& message, const Envelope& envelope) {
  VectorSink sink;
  encode(sink, message);
  return envelope.seal(sink.take());
}

template <class T>
T opened(std::span<const std::byte> bytes, const Envelope& envelope) {
  ByteSource source(envelope.open(bytes));
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

MessageKeys::MessageKeys(std::string_view key)
    : task(key, "brood task"),
      result(key, "brood result"),
      beat(key, "brood beat"),
      note(key, "brood note") {}

Bytes sign(const TaskMessage& message, const MessageKeys& keys) {
  return sealed(message, keys.task);
}
Bytes sign(const ResultMessage& message, const MessageKeys& keys) {
  return sealed(message, keys.result);
}
Bytes sign(const NodeBeat& beat, const MessageKeys& keys) { return sealed(beat, keys.beat); }
Bytes sign(const ClientNote& note, const MessageKeys& keys) { return sealed(note, keys.note); }

TaskMessage open_task(std::span<const std::byte> bytes, const MessageKeys& keys) {
  TaskMessage message = of_this_version(opened<TaskMessage>(bytes, keys.task));
  if (message.items.empty()) throw DecodeError("a message of tasks without a task");
  return message;
}
ResultMessage open_result(std::span<const std::byte> bytes, const MessageKeys& keys) {
  return of_this_version(opened<ResultMessage>(bytes, keys.result));
}
NodeBeat open_beat(std::span<const std::byte> bytes, const MessageKeys& keys) {
  return opened<NodeBeat>(bytes, keys.beat);
}
ClientNote open_note(std::span<const std::byte> bytes, const MessageKeys& keys) {
  return of_this_version(opened<ClientNote>(bytes, keys.note));
}

std::uint64_t own_build() {
  static const std::uint64_t key = loaded_modules().front().key;
  return key;
}

}  // namespace brood::detail
