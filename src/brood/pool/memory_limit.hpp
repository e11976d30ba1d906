#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include <brood/channel/exception_data.hpp>
#include <brood/platform/freed_memory.hpp>
#include <brood/platform/memory_use.hpp>

namespace brood::detail {

/// How much memory a worker's item may ask for: see CallOptions::memory.
class MemoryLimit {
 public:
  /// From now on `bytes` more than what there is.
  void begin(std::uint64_t bytes) {
    bytes_ = bytes;
    limit_.reset();
    // What is kept is asked for already: it would be beside the limit for who uses it again, and
    // within it, useless, for who does not.
    kept_freed_ = stop_keeping_freed_memory() || kept_freed_;
    limit_.emplace(data_memory() + bytes);
  }
  void end() {
    bytes_ = 0;
    limit_.reset();
    if (std::exchange(kept_freed_, false)) keep_freed_memory();
  }

  /// An item failed: there is memory again to say why, and `error` says so if it was for lack of
  /// it. begin_again() for the next item.
  void explain(ErrorRecord& error);
  void begin_again() {
    if (bytes_ != 0) begin(bytes_);
  }

 private:
  std::uint64_t bytes_ = 0;  // 0: no limit
  bool kept_freed_ = false;  // before
  std::optional<DataLimit> limit_;
};

}  // namespace brood::detail
