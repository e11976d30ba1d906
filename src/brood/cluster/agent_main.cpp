#include <brood/cluster/agent_main.hpp>

#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>

#include <fmt/format.h>

#include <brood/cluster/agent.hpp>
#include <brood/cluster/nats_engine.hpp>
#include <brood/cpu_count.hpp>
#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/program.hpp>
#include <brood/platform/stop_signals.hpp>

namespace brood::detail {
namespace {

constinit std::atomic<Agent*> running{nullptr};

void stop_running() {
  if (Agent* const agent = running.load()) agent->stop();
}

void work(const std::string& url) {
  const std::uint32_t workers =
      number_variable("BROOD_AGENT_WORKERS", static_cast<std::uint32_t>(cpu_count()));
  const NatsSetup nats = nats_setup({.url = url});
  // Before the threads of the engine, and so that handles in tasks find the server.
  set_environment_variable("BROOD_CLUSTER_URL", nats.url);
  const auto pool = std::make_shared<PoolCore>(PoolSetup{.workers = workers,
                                                         .max_workers = workers,
                                                         .name = "brood-agent",
                                                         .cpus = 1,
                                                         .stderr_tail = 4096});
  const std::uint64_t build = own_build();
  const auto engine = nats_agent_engine(nats, build);
  Agent agent(*engine, pool,
              {.key = environment_variable("BROOD_CLUSTER_KEY").value_or(""),
               .node = fmt::format("{}.{}", host_name(), current_pid()),
               .build = build,
               .workers = workers});
  running.store(&agent);
  on_stop_signals(&stop_running);
  fmt::print(stderr, "brood-agent: {} workers for {}, build {:016x}\n", workers, shown_url(nats),
             build);
  agent.run();
  running.store(nullptr);
}

}  // namespace

int run_agent(const std::string& url) {
  try {
    work(url);
    return 0;
  } catch (const std::exception& e) {
    fmt::print(stderr, "brood-agent: {}\n", e.what());
    return 1;
  }
}

}  // namespace brood::detail
