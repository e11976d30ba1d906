#include <brood/cluster_pool.hpp>

#include <cstddef>
#include <utility>

#include <brood/cluster/agent_main.hpp>
#include <brood/cluster/hex_digits.hpp>
#include <brood/cluster/nats_engine.hpp>
#include <brood/errors.hpp>
#include <brood/platform/program.hpp>
#include <brood/process/agent_main.hpp>

namespace brood {
namespace {

// Programs that use a ClusterPool can be agents.
[[maybe_unused]] const bool kKnown = (detail::set_agent_main(&detail::run_agent), true);

detail::ClientId new_client() {
  constexpr std::size_t kBytes = 16;
  return detail::random_hex_digits(kBytes);
}

}  // namespace

ClusterPool::ClusterPool(ClusterOptions options) {
  if (options.key.empty()) {
    options.key = detail::environment_variable("BROOD_CLUSTER_KEY").value_or("");
  }
  const detail::ClientId id = new_client();
  client_ = std::make_shared<detail::ClusterClient>(
      detail::nats_client_engine(detail::nats_setup(options), id, detail::own_build()),
      detail::ClientSetup{.key = options.key, .table = {.patience = options.patience}}, id);
}

ClusterPool::ClusterPool(std::unique_ptr<detail::ClientEngine> engine, detail::ClientSetup setup,
                         detail::ClientId id)
    : client_(std::make_shared<detail::ClusterClient>(std::move(engine), std::move(setup),
                                                      std::move(id))) {}

ClusterCaller ClusterPool::with(CallOptions options) const {
  return ClusterCaller(detail::ClusterCalls(client_, std::move(options), false));
}

ClusterCaller ClusterPool::at_most_once() const {
  return ClusterCaller(detail::ClusterCalls(client_, {}, true));
}

std::vector<ClusterNode> ClusterPool::nodes() const { return client_->nodes(); }

ClusterCounts ClusterPool::counts() const { return client_->counts(); }

int ClusterPool::workers() const { return static_cast<int>(client_->workers()); }

void ClusterPool::close() { client_->close(); }

void ClusterPool::join() { client_->join(); }

void ClusterPool::terminate() { client_->terminate(); }

ClusterStats ClusterPool::stats() const { return client_->stats(); }

}  // namespace brood
