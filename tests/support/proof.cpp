#include "support/proof.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "support/sanitizers.hpp"

namespace brood::testing {
namespace {

// Which orders are right, the other builds say. AddressSanitizer looks at the memory that they
// touch, all of which it has seen soon, and is twenty times as slow.
constexpr std::uint64_t kFewerSeeds = 10;
constexpr std::uint64_t kFewOrders = 2'000;

}  // namespace

bool prove_everything() {
  const char* value = std::getenv("BROOD_PROVE");
  return value != nullptr && std::string_view(value) == "1";
}

Seeds seeds_to_try(std::uint64_t quick, std::uint64_t full) {
  if (const char* one = std::getenv("BROOD_SEED"))
    return {std::strtoull(one, nullptr, 0), 1, false};
  if (prove_everything()) return {1, full, true};
  if (kAddressSanitizer) return {1, quick / kFewerSeeds, false};
  return {1, quick, true};
}

std::uint64_t orders_to_try(std::uint64_t quick) {
  if (prove_everything()) return UINT64_MAX;
  return kAddressSanitizer ? std::min(quick, kFewOrders) : quick;
}

}  // namespace brood::testing
