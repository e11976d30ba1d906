#include <brood/platform/memory_use.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <utility>

#include <brood/platform/fd.hpp>

namespace brood::detail {

namespace {

/// In bytes; all 0 without /proc.
struct Use {
  std::uint64_t resident = 0;
  std::uint64_t shared = 0;
  std::uint64_t data = 0;
};

Fd open_use() noexcept { return Fd(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC)); }

/// Opened in advance; never closed.
std::atomic<int> kept{-1};

Use read_use() noexcept {
  const int from = kept.load(std::memory_order_relaxed);
  const Fd file = from < 0 ? open_use() : Fd();
  std::array<char, 256> text{};
  if (::pread(from < 0 ? file.get() : from, text.data(), text.size() - 1, 0) <= 0) return {};
  unsigned long long resident = 0;
  unsigned long long shared = 0;
  unsigned long long data = 0;
  if (std::sscanf(text.data(), "%*u %llu %llu %*u %*u %llu", &resident, &shared, &data) != 3) {
    return {};
  }
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return {.resident = resident * page, .shared = shared * page, .data = data * page};
}

}  // namespace

std::uint64_t private_memory() noexcept {
  const Use use = read_use();
  return use.resident > use.shared ? use.resident - use.shared : 0;
}

void keep_memory_use_readable() noexcept { kept.store(open_use().release()); }

std::uint64_t data_memory() noexcept { return read_use().data; }

DataLimit::DataLimit(std::uint64_t bytes) noexcept {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur <= bytes) return;
  const rlim_t before = std::exchange(limit.rlim_cur, bytes);
  if (::setrlimit(RLIMIT_DATA, &limit) == 0) before_ = before;
}

DataLimit::~DataLimit() {
  struct rlimit limit {};
  if (!before_ || ::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = *before_;
  ::setrlimit(RLIMIT_DATA, &limit);
}

}  // namespace brood::detail
