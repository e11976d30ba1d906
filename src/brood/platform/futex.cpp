#include <brood/platform/futex.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>

// The kernel's interface: headers of older distributions lack the structure of Linux 5.16.
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

namespace brood::detail {
namespace {

struct KernelWaiter {
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr std::uint32_t kFutexSize32 = 2;

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

FutexWake from_errno(int error) noexcept {
  switch (error) {
    case EAGAIN:
      return FutexWake::changed;
    case ETIMEDOUT:
      return FutexWake::timed_out;
    default:
      return FutexWake::interrupted;  // EINTR; anything else is as good a reason to look again
  }
}

bool any_changed(std::span<const FutexWord> words) noexcept {
  return std::any_of(words.begin(), words.end(), [](const FutexWord& w) {
    return w.word->load(std::memory_order_relaxed) != w.expected;
  });
}

FutexWake wait_by_polling(std::span<const FutexWord> words, Deadline deadline) noexcept {
  using namespace std::chrono_literals;
  while (!any_changed(words)) {
    if (deadline.passed()) return FutexWake::timed_out;
    const FutexWake wake = futex_wait(words.front(), deadline.sooner(Deadline::after(5ms)));
    if (wake != FutexWake::timed_out) return wake;
  }
  return FutexWake::changed;
}

}  // namespace

FutexWake futex_wait(FutexWord word, Deadline deadline) noexcept {
  std::timespec left{};
  const std::timespec* timeout = nullptr;
  if (!deadline.is_never()) {
    left = deadline.remaining();
    timeout = &left;
  }
  const long rc = ::syscall(SYS_futex, word.word, FUTEX_WAIT, word.expected, timeout, nullptr, 0);
  return rc == 0 ? FutexWake::woken : from_errno(errno);
}

FutexWake futex_wait_any(std::span<const FutexWord> words, Deadline deadline, int* which) noexcept {
  static std::atomic<bool> unavailable{false};
  if (which != nullptr) *which = -1;
  if (words.size() == 1) {
    const FutexWake wake = futex_wait(words.front(), deadline);
    if (wake == FutexWake::woken && which != nullptr) *which = 0;
    return wake;
  }
  if (unavailable.load(std::memory_order_relaxed)) return wait_by_polling(words, deadline);

  std::array<KernelWaiter, kMaxFutexWords> waiters;
  const std::size_t count = std::min(words.size(), waiters.size());
  for (std::size_t i = 0; i < count; ++i) {
    waiters[i] = {.value = words[i].expected,
                  .address = reinterpret_cast<std::uintptr_t>(words[i].word),
                  .flags = kFutexSize32,
                  .reserved = 0};
  }
  std::timespec until{};
  std::timespec* timeout = nullptr;
  if (!deadline.is_never()) {
    if (deadline.is_now()) return any_changed(words) ? FutexWake::changed : FutexWake::timed_out;
    until = deadline.absolute();
    timeout = &until;
  }
  const long rc = ::syscall(SYS_futex_waitv, waiters.data(), static_cast<unsigned>(count), 0U,
                            timeout, CLOCK_MONOTONIC);
  if (rc >= 0) {
    if (which != nullptr) *which = static_cast<int>(rc);
    return FutexWake::woken;
  }
  if (errno == ENOSYS || errno == EPERM) {
    unavailable.store(true, std::memory_order_relaxed);
    return wait_by_polling(words, deadline);
  }
  return from_errno(errno);
}

int futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept {
  return static_cast<int>(::syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0));
}

int futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept {
  return futex_wake(word, INT_MAX);
}

}  // namespace brood::detail
