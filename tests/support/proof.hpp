// How much of a proof a test does: a sample, unless BROOD_PROVE=1 asks for everything.
#pragma once

#include <cstdint>

namespace brood::testing {

/// Whether BROOD_PROVE=1 asks for every kill point, seed and order where a sample is the rule.
bool prove_everything();

struct Seeds {
  std::uint64_t first;
  std::uint64_t count;
  /// So many that whatever may happen happens in one of them. BROOD_SEED names one alone, to see
  /// its failure again.
  bool many;
};

/// `quick` of them, or `full` to prove everything.
Seeds seeds_to_try(std::uint64_t quick, std::uint64_t full);

/// At most `quick` of all orders; to prove everything, all.
std::uint64_t orders_to_try(std::uint64_t quick = UINT64_MAX);

}  // namespace brood::testing
