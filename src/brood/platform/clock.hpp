#pragma once

#include <chrono>
#include <cstdint>

namespace brood::detail {

/// The steady clock, in nanoseconds: the same in all processes of the machine.
inline std::int64_t steady_nanoseconds() noexcept {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

/// The steady clock at the kernel's last tick, in nanoseconds: some milliseconds coarse, at a
/// seventh of the price.
std::int64_t coarse_nanoseconds() noexcept;

}  // namespace brood::detail
