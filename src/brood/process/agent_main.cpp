#include <brood/process/agent_main.hpp>

#include <atomic>

namespace brood::detail {
namespace {

// Constant initialisation: it is set before main, in whatever order.
constinit std::atomic<AgentMain> the_main{nullptr};

}  // namespace

void set_agent_main(AgentMain main) noexcept { the_main.store(main); }
AgentMain agent_main() noexcept { return the_main.load(); }

}  // namespace brood::detail
