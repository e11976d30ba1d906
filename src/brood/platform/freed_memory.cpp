#include <brood/platform/freed_memory.hpp>

#include <malloc.h>
#include <unistd.h>

#include <atomic>

namespace brood::detail {

#ifdef __GLIBC__

namespace {

constexpr std::size_t kLittle = std::size_t{512} << 10U;
constexpr std::size_t kLeastLimit = std::size_t{128} << 10U;

/// Where the heap ended at first; null: nothing is kept.
std::atomic<std::byte*> heap_end{nullptr};

std::byte* current_end() noexcept { return static_cast<std::byte*>(::sbrk(0)); }

bool set_limits(std::size_t most_freed_block, std::size_t most_freed) noexcept {
  return ::mallopt(M_MMAP_THRESHOLD, static_cast<int>(most_freed_block)) != 0 &&
         ::mallopt(M_TRIM_THRESHOLD, static_cast<int>(most_freed)) != 0;
}

}  // namespace

void keep_freed_memory() noexcept {
  if (set_limits(kMostFreedBlock, kMostFreed)) heap_end.store(current_end());
}

bool stop_keeping_freed_memory() noexcept {
  if (heap_end.load() == nullptr) return false;
  set_limits(kLeastLimit, kLeastLimit);
  if (may_keep_freed_memory()) give_back_freed_memory();
  heap_end.store(nullptr);
  return true;
}

bool may_keep_freed_memory() noexcept {
  const std::byte* const before = heap_end.load(std::memory_order_relaxed);  // of one thread
  return before != nullptr && current_end() - before > static_cast<std::ptrdiff_t>(kLittle);
}

void give_back_freed_memory() noexcept { ::malloc_trim(0); }

#else

void keep_freed_memory() noexcept {}
bool stop_keeping_freed_memory() noexcept { return false; }
bool may_keep_freed_memory() noexcept { return false; }
void give_back_freed_memory() noexcept {}

#endif

}  // namespace brood::detail
