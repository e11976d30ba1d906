#include "watch.hpp"

#include <cstddef>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include <brood/cluster/message.hpp>
#include <brood/cluster/nats_private.hpp>
#include <brood/cluster_options.hpp>
#include <brood/errors.hpp>

#include "failure.hpp"

namespace tool {

using namespace brood::detail;

class Watch::Connection {
 public:
  explicit Connection(const State& state)
      : nats(nats_setup({.url = state.url, .name = state.name, .ca_file = state.ca})) {
    natsSubscription* made = nullptr;
    const natsStatus status =
        natsConnection_SubscribeSync(&made, nats.connection(), (state.name + ".beat").c_str());
    if (status != NATS_OK) fail_nats("subscribe at", nats.setup(), status);
    beats.reset(made);
    // The server has it now: no beat from here on is missed.
    constexpr std::int64_t kPatience = 5000;
    const natsStatus flushed = natsConnection_FlushTimeout(nats.connection(), kPatience);
    if (flushed != NATS_OK) fail_nats("reach", nats.setup(), flushed);
  }

  Nats nats;
  Subscription beats;
};

Watch::Watch(const State& state)
    : connection_(std::make_unique<Connection>(state)), keys_(state.key) {}
Watch::~Watch() = default;

const std::map<std::string, Node>& Watch::hear(std::chrono::milliseconds patience) {
  natsMsg* next = nullptr;
  for (std::int64_t wait = std::max<std::int64_t>(patience.count(), 1);
       natsSubscription_NextMsg(&next, connection_->beats.get(), wait) == NATS_OK; wait = 1) {
    const NatsMessage message(next);
    const std::span bytes(reinterpret_cast<const std::byte*>(natsMsg_GetData(next)),
                          static_cast<std::size_t>(natsMsg_GetDataLength(next)));
    try {
      const NodeBeat beat = open_beat(bytes, keys_);
      nodes_[beat.node] = {.name = beat.node, .workers = beat.slots, .in_hand = beat.in_hand};
    } catch (const brood::Error& e) {
      static_cast<void>(e);  // of a stranger
    }
  }
  return nodes_;
}

std::vector<Stream> Watch::streams() const {
  jsStreamInfoList* list = nullptr;
  jsErrCode error{};
  const natsStatus status = js_Streams(&list, connection_->nats.js(), nullptr, &error);
  std::vector<Stream> streams;
  if (status == NATS_NOT_FOUND) return streams;  // none has been made yet
  if (status != NATS_OK) {
    throw Failure(
        fmt::format("the server does not tell of its streams: {}", natsStatus_GetText(status)));
  }
  for (int i = 0; i < list->Count; ++i) {
    streams.push_back({.name = list->List[i]->Config->Name, .messages = list->List[i]->State.Msgs});
  }
  jsStreamInfoList_Destroy(list);
  return streams;
}

}  // namespace tool
