#include <algorithm>
#include <chrono>

#include <brood/platform/deadline.hpp>
#include <brood/platform/futex.hpp>
#include <brood/pool/thread_map.hpp>

namespace brood::detail {
namespace {

/// How often somebody who waits with a progress callback calls it.
constexpr auto kProgressTick = std::chrono::milliseconds(100);

}  // namespace

void ThreadLoop::run() noexcept {
  for (;;) {
    const std::size_t begin = next_.fetch_add(chunk_);
    if (begin >= items_) return;
    const std::size_t end = std::min(begin + chunk_, items_);
    compute_(begin, end);
    done(end - begin);
  }
}

void ThreadLoop::drop() noexcept {
  stop_.request_stop();
  const std::size_t begin = next_.exchange(items_);
  if (begin >= items_) return;
  dropped_from_.store(begin);
  done(items_ - begin);
}

void ThreadLoop::done(std::size_t count) noexcept {
  // SUBTLE: who counts the last item down holds the loop as a job of its own or the caller's, so
  // the caller may go on at once.
  if (left_.fetch_sub(count) != count) return;
  ended_.store(1);
  futex_wake_all(ended_);
}

void ThreadLoop::wait(const std::function<void(std::size_t, std::size_t)>& progress) {
  Deadline tick = progress ? Deadline::after(kProgressTick) : Deadline::never();
  while (left_.load() != 0) {
    futex_wait({&ended_, 0}, tick);
    if (!tick.passed()) continue;
    try {
      progress(items_ - left_.load(), items_);
    } catch (...) {
      drop();
      wait({});
      throw;
    }
    tick = Deadline::after(kProgressTick);
  }
  if (progress) progress(items_, items_);
}

}  // namespace brood::detail
