// Layer: platform
#pragma once

#include <cstdint>

namespace brood::detail {

/// Bytes of memory that this process alone uses and that are resident: its heap, its stacks, what
/// it has written of its data. 0 without /proc. Takes some microseconds.
std::uint64_t private_memory() noexcept;

}  // namespace brood::detail
