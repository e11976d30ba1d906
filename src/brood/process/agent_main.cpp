#include <brood/process/agent_main.hpp>

#include <atomic>

namespace brood::detail {
namespace {

// Constant initialisation: it is set before main, in whatever order.
constinit std::atomic<AgentMain> known{nullptr};

}  // namespace

void set_agent_main(AgentMain main) noexcept { known.store(main); }
AgentMain agent_main() noexcept { return known.load(); }

}  // namespace brood::detail
