#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// A word that processes sleep on, and what it held when they last looked.
struct FutexWord {
  const std::atomic<std::uint32_t>* word;
  std::uint32_t expected;
};

/// Why a sleep ended. Any of them may be spurious: callers look again at what they wait for.
enum class FutexWake : std::uint8_t { woken, changed, timed_out, interrupted };

/// Sleeps while `word` holds `expected`. Works between processes (no FUTEX_PRIVATE_FLAG), which
/// std::atomic::wait does not. Memory ordering: none; the caller's own loads order.
FutexWake futex_wait(FutexWord word, Deadline deadline) noexcept;

/// Sleeps while each word holds what was expected of it; at most kMaxFutexWords of them. On kernels
/// without futex_waitv (before 5.16, or where a sandbox forbids it) it sleeps on the first word and
/// looks at the others every few milliseconds. `which`, if given, receives the index of a word on
/// which somebody woke this thread, the last of them if there are several; otherwise -1. So the
/// caller knows whether it was given a wake-up that is meant for one sleeper only.
inline constexpr std::size_t kMaxFutexWords = 128;
FutexWake futex_wait_any(std::span<const FutexWord> words, Deadline deadline,
                         int* which = nullptr) noexcept;

/// Wakes up to `count` sleepers on `word`; returns how many there were.
int futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept;
int futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept;

/// Tells the processor that this is a spin loop.
inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

/// Looks at `word` again and again for a short time. True as soon as it is not `expected` any more.
template <class Duration>
bool spin_while(const std::atomic<std::uint32_t>& word, std::uint32_t expected, Duration time) {
  constexpr int kBetweenClocks = 16;
  const auto end = Deadline::Clock::now() + time;
  for (int i = 1; word.load(std::memory_order_relaxed) == expected; ++i) {
    cpu_relax();
    if (i % kBetweenClocks == 0 && Deadline::Clock::now() >= end) return false;
  }
  return true;
}

}  // namespace brood::detail
