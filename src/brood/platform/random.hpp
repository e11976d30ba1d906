#pragma once

#include <cstddef>
#include <span>

namespace brood::detail {

/// Bytes that nobody can guess, of the kernel. Throws SystemError.
void fill_random(std::span<std::byte> bytes);

}  // namespace brood::detail
