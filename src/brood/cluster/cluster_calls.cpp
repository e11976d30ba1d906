#include <brood/cluster/cluster_calls.hpp>

#include <utility>

#include <fmt/format.h>

namespace brood::detail {

ClusterCalls::ClusterCalls(std::shared_ptr<ClusterClient> client, CallOptions options,
                           bool at_most_once)
    : client_(std::move(client)), options_(std::move(options)) {
  const std::shared_ptr<const CallLimits> limits = limits_of(options_);  // throws for nonsense
  const auto refuse = [](bool given, const char* what) {
    if (given) {
      throw ArgumentError(
          fmt::format("{} is not for tasks of a cluster: use it in the tasks' own "
                      "pools, or with a Pool",
                      what));
    }
  };
  refuse(options_.deadline.count() != 0, "a deadline");
  refuse(options_.priority != 0, "a priority");
  refuse(static_cast<bool>(options_.retry_if), "retry_if");
  limits_.at_most_once = at_most_once;
  if (!limits) return;
  limits_.timeout = limits->timeout.count();
  limits_.cpu_time = limits->cpu_time.count();
  limits_.memory = limits->memory;
  limits_.retries = limits->retries;
  limits_.backoff = limits->backoff.count();
}

void ClusterCalls::refuse_handles(const ByteSink& sink) {
  if (!sink.keeps()) return;
  throw ArgumentError(
      "a handle to shared memory (a Queue, Value, Lock, SharedArray ...) cannot go to another "
      "machine: send values, or the name of a file or database");
}

std::size_t ClusterCalls::workers_now() const {
  std::size_t workers = 0;
  for (const ClusterClient::Node& node : client_->nodes()) workers += node.can_run ? node.slots : 0;
  return std::max<std::size_t>(workers, 1);
}

}  // namespace brood::detail
