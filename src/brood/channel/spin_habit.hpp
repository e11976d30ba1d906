#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include <brood/platform/cpu.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/futex.hpp>

namespace brood::detail {

/// Looks for something for a short time before its thread sleeps, as long as that is of use: where
/// it was in vain, as with peers that take their time or processors that are busy with others, the
/// next times are left out, twice as many each time. Any threads: what they learn is approximate.
///
/// The time should be what falling asleep and being woken take: then looking costs at most twice
/// what the better of both would (Karlin and others, "Competitive randomized algorithms for
/// nonuniform problems", 1990).
class SpinHabit {
 public:
  /// True when the word is not `expected` any more.
  bool spin_while(const std::atomic<std::uint32_t>& word, std::uint32_t expected) {
    constexpr std::chrono::microseconds kTime{10};
    if (!worth_it()) return word.load(std::memory_order_relaxed) != expected;  // only a hint
    return note(detail::spin_while(word, expected, kTime));
  }

  /// Calls `look` until it says true or `time` has passed. It is called once in any case.
  template <class Look, class Duration>
  bool look_for(Look&& look, Duration time) {
    if (look()) return true;
    if (!worth_it()) return false;
    const auto end = Deadline::Clock::now() + time;
    do {
      cpu_relax();
      if (look()) return note(true);
    } while (Deadline::Clock::now() < end);
    return note(false);
  }

  // What the two are made of, for those who look in their own way.

  /// Asked once before it begins to look; true: note() follows.
  // relaxed, as all here: they decide about nothing but effort.
  bool worth_it() {
    const std::uint32_t skip = skip_.load(std::memory_order_relaxed);
    if (skip > 0) skip_.store(skip - 1, std::memory_order_relaxed);
    return skip == 0 && several_processors();
  }
  /// What came of it; returns it.
  bool note(bool found) {
    const std::uint32_t in_vain = in_vain_.load(std::memory_order_relaxed);
    const std::uint32_t next = found ? 0 : std::clamp(in_vain * 2, 1U, kMostSkipped);
    in_vain_.store(next, std::memory_order_relaxed);
    if (!found) skip_.store(next, std::memory_order_relaxed);
    return found;
  }

  /// Somebody else can run meanwhile.
  static bool several_processors() {
    static const bool several = affinity_count() > 1;
    return several;
  }

 private:
  static constexpr std::uint32_t kMostSkipped = 128;

  std::atomic<std::uint32_t> skip_{0};
  std::atomic<std::uint32_t> in_vain_{0};
};

}  // namespace brood::detail
