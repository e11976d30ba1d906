#include <brood/channel/completion_queue.hpp>

#include <brood/platform/futex.hpp>

namespace brood::detail {

void CompletionQueue::push(std::size_t number) {
  {
    const std::lock_guard lock(mutex_);
    ready_.push_back(number);
    ++pushed_;
  }
  futex_wake_all(pushed_);
}

std::optional<std::size_t> CompletionQueue::pop(Deadline deadline) {
  for (;;) {
    std::uint32_t seen = 0;
    {
      const std::lock_guard lock(mutex_);
      if (!ready_.empty()) {
        const std::size_t number = ready_.front();
        ready_.pop_front();
        return number;
      }
      seen = pushed_.load();
    }
    if (deadline.passed()) return std::nullopt;
    futex_wait({&pushed_, seen}, deadline);
  }
}

}  // namespace brood::detail
