#pragma once

#include <cstdint>
#include <memory>

#include <brood/cluster/engine.hpp>
#include <brood/cluster/nats_setup.hpp>

namespace brood::detail {

/// NATS with JetStream. A work queue of tasks, in which each build has a consumer of its own, so
/// that a wrong build never sees a task; one of results, in which each client has; beats by plain
/// messages. The client makes them, and makes them anew when the server has lost them: agents never
/// do, or the client would not notice. Throw EngineError when the server cannot be reached in the
/// beginning, or refuses; later it is waited for.
std::unique_ptr<ClientEngine> nats_client_engine(const NatsSetup& setup, const ClientId& id,
                                                 std::uint64_t build);
std::unique_ptr<AgentEngine> nats_agent_engine(const NatsSetup& setup, std::uint64_t build);

}  // namespace brood::detail
