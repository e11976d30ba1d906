#pragma once

#include <cstdint>
#include <optional>

#include <brood/channel/exception_data.hpp>
#include <brood/platform/memory_use.hpp>

namespace brood::detail {

/// How much memory a worker's item may ask for: see CallOptions::memory.
class MemoryLimit {
 public:
  /// From now on `bytes` more than what there is.
  void begin(std::uint64_t bytes) {
    bytes_ = bytes;
    limit_.reset();
    limit_.emplace(data_memory() + bytes);
  }
  void end() {
    bytes_ = 0;
    limit_.reset();
  }

  /// An item failed: there is memory again to say why, and `error` says so if it was for lack of
  /// it. begin_again() for the next item.
  void explain(ErrorRecord& error);
  void begin_again() {
    if (bytes_ != 0) begin(bytes_);
  }

 private:
  std::uint64_t bytes_ = 0;  // 0: no limit
  std::optional<DataLimit> limit_;
};

}  // namespace brood::detail
