#pragma once

#include <atomic>
#include <cstdint>

#include <brood/memory/replaced_bytes.hpp>

namespace brood::detail {

/// What the family has agreed on about its log. See docs/design/log.md.
struct LogCell {
  static constexpr std::uint32_t kOff = 6;

  /// Records of a lower level are not written. Read for every record, changed by one store.
  std::atomic<std::uint32_t> level;
  std::uint32_t reserved;
  /// Records that could not be written.
  std::atomic<std::uint64_t> lost;
  /// Where they go: an encoded LogDestination; empty: nowhere.
  ReplacedBytes<1008> destination;
};

}  // namespace brood::detail
