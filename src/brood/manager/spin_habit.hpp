#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include <brood/cpu_count.hpp>
#include <brood/platform/futex.hpp>

namespace brood::detail {

/// Looks at a word for a short time before its thread sleeps, as long as that is of use: where it
/// was in vain, as with methods that take their time or processors that are busy with others, the
/// next times are left out, twice as many each time. One thread's.
class SpinHabit {
 public:
  /// True when the word is not `expected` any more.
  bool spin_while(const std::atomic<std::uint32_t>& word, std::uint32_t expected) {
    if (skip_ > 0) {
      --skip_;
      return word.load(std::memory_order_relaxed) != expected;  // only a hint
    }
    if (!several_processors()) return false;
    if (detail::spin_while(word, expected, kTime)) {
      in_vain_ = 0;
      return true;
    }
    skip_ = in_vain_ = std::min(std::max(1U, in_vain_ * 2), kMostSkipped);
    return false;
  }

 private:
  /// As long as falling asleep and being woken take.
  static constexpr std::chrono::microseconds kTime{10};
  static constexpr unsigned kMostSkipped = 128;

  static bool several_processors() {
    static const bool several = cpu_count() > 1;
    return several;
  }

  unsigned skip_ = 0;
  unsigned in_vain_ = 0;
};

}  // namespace brood::detail
