#pragma once

#include <cstdint>

namespace brood::detail {

/// The steady clock at the kernel's last tick, in nanoseconds: some milliseconds coarse, at a
/// seventh of the price.
std::int64_t coarse_nanoseconds() noexcept;

}  // namespace brood::detail
