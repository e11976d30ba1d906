// Layer: pool
// Which item of a call the calling thread computes.
//
//     double simulate(const Run& run) {
//       log("run {}", brood::current_item().value());     // 0 for the first of the range
//
// The number is that of the input in its range: in map, try_map, starmap, imap, imap_unordered,
// map_reduce and for_each, in every kind of pool. A submitted task has none, nor has what runs
// outside of a pool or in a thread that an item has started. Any thread may ask at any time; it
// costs a few loads, and nothing when nobody asks.
#pragma once

#include <cstddef>
#include <optional>

namespace brood {

/// See above.
[[nodiscard]] std::optional<std::size_t> current_item();

}  // namespace brood
