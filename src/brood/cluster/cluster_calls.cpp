#include <brood/cluster/cluster_calls.hpp>

#include <utility>

#include <fmt/format.h>

namespace brood::detail {

ClusterCalls::ClusterCalls(std::shared_ptr<ClusterClient> client, CallOptions options,
                           bool at_most_once)
    : client_(std::move(client)), options_(std::move(options)) {
  const std::shared_ptr<const CallLimits> limits = limits_of(options_);  // throws for nonsense
  limits_.kind.at_most_once = at_most_once;
  if (!limits) return;
  TaskKind& kind = limits_.kind;
  kind.timeout = limits->timeout.count();
  kind.cpu_time = limits->cpu_time.count();
  kind.memory = limits->memory;
  kind.backoff = limits->backoff.count();
  kind.max_backoff = limits->max_backoff.count();
  kind.jitter = limits->jitter;
  kind.priority = limits->priority;
  limits_.deadline = limits->deadline;
  // Crashes the agents see to; a predicate can be asked here only.
  if (limits->retry_if) {
    limits_.retries = limits->retries;
    limits_.retry_if = limits->retry_if;
  } else {
    kind.retries = limits->retries;
  }
}

std::exception_ptr numbered_crash(std::exception_ptr failure, std::uint64_t item) {
  if (item == ItemNumber::kNone) return failure;
  try {
    std::rethrow_exception(failure);
  } catch (const WorkerCrashed& e) {
    Crash crash = e.crash();
    crash.item = static_cast<std::size_t>(item);
    return std::make_exception_ptr(WorkerCrashed(crash));
  } catch (...) {
    return failure;
  }
}

void ClusterCalls::refuse_handles(const ByteSink& sink) {
  if (!sink.keeps()) return;
  throw ArgumentError(
      "a handle to shared memory (a Queue, Value, Lock, SharedArray ...) cannot go to another "
      "machine: send values, or the name of a file or database");
}

std::size_t ClusterCalls::workers_now() const {
  return std::max<std::size_t>(client_->workers(), 1);
}

}  // namespace brood::detail
