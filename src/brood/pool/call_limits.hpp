#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>

#include <brood/retry.hpp>

namespace brood {
struct CallOptions;
}

namespace brood::detail {

/// What a pool's owner has to see to for the items of a call. Private memory; shared by the call's
/// copies and its items, and never changed.
struct CallLimits {
  using Duration = std::chrono::nanoseconds;

  Duration timeout{0};  // zero: none, as all of them
  Duration cpu_time{0};
  Duration deadline{0};
  unsigned retries = 0;
  Duration backoff{0};
  Duration max_backoff{0};
  double jitter = 0;
  RetryIf retry_if;
  int priority = 0;
  std::uint64_t memory = 0;  // bytes

  /// Somebody must look at the running items now and then.
  [[nodiscard]] bool timed() const {
    return timeout > Duration::zero() || cpu_time > Duration::zero();
  }
  /// The shortest of those that there are.
  [[nodiscard]] Duration shortest() const {
    Duration least = Duration::max();
    for (const Duration limit : {timeout, cpu_time}) {
      if (limit > Duration::zero()) least = std::min(least, limit);
    }
    return least;
  }
  /// Exceptions may be worth another attempt.
  [[nodiscard]] bool asks() const { return retries > 0 && static_cast<bool>(retry_if); }
  /// How long to wait after `attempt` failed attempts. `chance`: 0 to 1.
  [[nodiscard]] Duration pause(unsigned attempt, double chance) const;
};

/// Null when the options limit nothing. Throws ArgumentError for what can never be.
std::shared_ptr<const CallLimits> limits_of(const CallOptions& options);

}  // namespace brood::detail
