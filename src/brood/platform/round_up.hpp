#pragma once

#include <cstddef>

namespace brood::detail {

/// The least multiple of `to` that is at least `value`.
constexpr std::size_t round_up(std::size_t value, std::size_t to) {
  return (value + to - 1) / to * to;
}

}  // namespace brood::detail
