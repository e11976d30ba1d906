#include <brood/cluster/agent_main.hpp>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>

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

std::string variable(const char* name, std::string otherwise = {}) {
  return environment_variable(name).value_or(std::move(otherwise));
}

/// A whole number of at least 1.
std::uint32_t number(const char* name, std::uint32_t otherwise) {
  const std::optional<std::string> text = environment_variable(name);
  if (!text) return otherwise;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value == 0) {
    throw ArgumentError(fmt::format("{}={}: a number of 1 or more is possible", name, *text));
  }
  return value;
}

void work(const std::string& url) {
  const std::uint32_t workers =
      number("BROOD_AGENT_WORKERS", static_cast<std::uint32_t>(cpu_count()));
  constexpr std::uint32_t kLease = 15;
  const NatsSetup nats =
      nats_setup({.url = url,
                  .name = variable("BROOD_CLUSTER_NAME", "brood"),
                  .credentials = variable("BROOD_CLUSTER_CREDENTIALS"),
                  .ca_file = variable("BROOD_CLUSTER_CA"),
                  .lease = std::chrono::seconds(number("BROOD_CLUSTER_LEASE", kLease))});
  // Before the threads of the engine.
  const auto pool = std::make_shared<PoolCore>(PoolSetup{.workers = workers,
                                                         .max_workers = workers,
                                                         .name = "brood-agent",
                                                         .cpus = 1,
                                                         .stderr_tail = 4096});
  const std::uint64_t build = own_build();
  const auto engine = nats_agent_engine(nats, build);
  Agent agent(*engine, pool,
              {.key = variable("BROOD_CLUSTER_KEY"),
               .node = fmt::format("{}.{}", host_name(), current_pid()),
               .build = build,
               .workers = workers});
  running.store(&agent);
  on_stop_signals(&stop_running);
  fmt::print(stderr, "brood-agent: {} workers for {}, build {:016x}\n", workers, url, build);
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
