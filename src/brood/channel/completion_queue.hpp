#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>

#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// The numbers of those that are ready, in the order in which they became so. Private memory; any
/// thread may push, one takes out.
class CompletionQueue {
 public:
  void push(std::size_t number);
  /// The next, or nothing when the deadline passed first.
  std::optional<std::size_t> pop(Deadline deadline);

 private:
  std::mutex mutex_;
  std::deque<std::size_t> ready_;         // guarded by mutex_
  std::atomic<std::uint32_t> pushed_{0};  // slept on
};

}  // namespace brood::detail
