#include "bare_map.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "forked_peer.hpp"

namespace bench {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr int kCollapse = 25;  // MADV_COLLAPSE of Linux 6.1

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + kHugePage - 1) / kHugePage * kHugePage;
}

void wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, BareWorkers::kWorkers, nullptr, nullptr, 0);
}
void sleep_while(std::atomic<std::uint32_t>& word, std::uint32_t seen) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
}

// Shared memory in huge pages, where the kernel has them.
std::byte* allocate(std::size_t bytes) {
  void* const all = ::mmap(nullptr, bytes + kHugePage, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  auto* const at = reinterpret_cast<std::byte*>(whole_pages(reinterpret_cast<std::uintptr_t>(all)));
  if (::mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
      MAP_FAILED) {
    throw std::system_error(errno, std::generic_category(), "mmap");
  }
  for (std::size_t page = 0; page < bytes; page += kHugePage) {
    at[page] = at[page + kHugePage - 4096] = std::byte{0};
  }
  ::madvise(at, bytes, kCollapse);
  return at;
}

}  // namespace

BareWorkers::BareWorkers(std::uint32_t most, Run run)
    : bytes_(kHugePage + 2 * whole_pages(most * sizeof(std::uint32_t))) {
  std::byte* const memory = allocate(bytes_);
  shared_ = ::new (memory) Shared{};
  items_ = reinterpret_cast<std::uint32_t*>(memory + kHugePage);
  results_ = items_ + whole_pages(most * sizeof(std::uint32_t)) / sizeof(std::uint32_t);
  for (pid_t& pid : pids_) {
    pid = fork_peer();
    if (pid == 0) work(run);
  }
}

void BareWorkers::work(Run run) {
  for (std::uint32_t seen = 0;; ++seen) {
    std::atomic<std::uint32_t>& round = shared_->round.value;
    for (int looks = 0; round.load() == seen; ++looks) {
      if (looks > 2000) sleep_while(round, seen);
    }
    const std::uint32_t count = shared_->count.value.load();
    for (;;) {
      const std::uint32_t begin = shared_->taken.value.fetch_add(kChunk);
      if (begin >= count) break;
      const std::uint32_t end = std::min(count, begin + kChunk);
      while (shared_->copied.value.load() < end) {
      }
      run(items_ + begin, results_ + begin, end - begin);
    }
    if (shared_->done.value.fetch_add(1) == kWorkers - 1) wake(shared_->done.value);
  }
}

std::vector<std::uint32_t> BareWorkers::map(const std::vector<std::uint32_t>& items) {
  const auto count = static_cast<std::uint32_t>(items.size());
  shared_->count.value = count;
  shared_->copied.value = shared_->taken.value = shared_->done.value = 0;
  ++shared_->round.value;
  wake(shared_->round.value);
  for (std::uint32_t begin = 0; begin < count; begin += kChunk) {
    const std::uint32_t end = std::min(count, begin + kChunk);
    std::memcpy(items_ + begin, items.data() + begin, (end - begin) * sizeof(std::uint32_t));
    shared_->copied.value.store(end, std::memory_order_release);
  }
  for (std::uint32_t done; (done = shared_->done.value.load()) != kWorkers;) {
    sleep_while(shared_->done.value, done);
  }
  return {results_, results_ + count};
}

BareWorkers::~BareWorkers() {
  for (const pid_t pid : pids_) end_peer(pid);
  ::munmap(shared_, bytes_);
}

}  // namespace bench
