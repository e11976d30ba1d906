#pragma once
// Something to compute that nothing else gets in the way of.

#include <cstdint>

namespace bench {

// `Rounds` dependent rounds of about 0.9 ns.
template <int Rounds>
std::uint64_t mix(std::uint64_t h) {
  for (int i = 0; i < Rounds; ++i) {
    h *= 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
  }
  return h;
}

}  // namespace bench
