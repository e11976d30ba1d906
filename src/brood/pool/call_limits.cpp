#include <brood/pool/call_limits.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/pool_options.hpp>

namespace brood::detail {
namespace {

void require_positive(std::chrono::nanoseconds value, std::string_view name) {
  if (value < value.zero()) {
    throw ArgumentError(
        fmt::format("a {} of {} ns: it cannot be negative; 0 is no limit", name, value.count()));
  }
}

}  // namespace

CallLimits::Duration CallLimits::pause(unsigned attempt, double chance) const {
  const double doubled = std::ldexp(static_cast<double>(backoff.count()),
                                    static_cast<int>(std::min(attempt, 64U)) - 1);
  const double longest = std::min(doubled, static_cast<double>(max_backoff.count()));
  return Duration(static_cast<Duration::rep>(longest * (1 - jitter * chance)));
}

std::shared_ptr<const CallLimits> limits_of(const CallOptions& options) {
  require_positive(options.timeout, "timeout");
  require_positive(options.deadline, "deadline");
  require_positive(options.backoff, "backoff");
  require_positive(options.max_backoff, "max_backoff");
  require_positive(options.cpu_time, "cpu_time");
  if (!(options.jitter >= 0 && options.jitter <= 1)) {
    throw ArgumentError(
        fmt::format("a jitter of {}: it is a part of the backoff, 0 to 1", options.jitter));
  }
  const bool any = options.timeout.count() != 0 || options.deadline.count() != 0 ||
                   options.retries != 0 || options.cpu_time.count() != 0 || options.priority != 0 ||
                   options.memory != 0;
  if (!any) return nullptr;
  auto limits = std::make_shared<CallLimits>();
  limits->timeout = options.timeout;
  limits->cpu_time = options.cpu_time;
  limits->deadline = options.deadline;
  limits->retries = options.retries;
  limits->backoff = options.backoff;
  limits->max_backoff = options.max_backoff;
  limits->jitter = options.jitter;
  limits->retry_if = options.retry_if;
  limits->priority = options.priority;
  limits->memory = options.memory;
  return limits;
}

}  // namespace brood::detail
