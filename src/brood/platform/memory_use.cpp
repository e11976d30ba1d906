#include <brood/platform/memory_use.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include <brood/platform/fd.hpp>

namespace brood::detail {

std::uint64_t private_memory() noexcept {
  const Fd file(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
  std::array<char, 256> text{};
  if (!file.valid() || ::read(file.get(), text.data(), text.size() - 1) <= 0) return 0;
  unsigned long long size = 0;
  unsigned long long resident = 0;
  unsigned long long shared = 0;
  if (std::sscanf(text.data(), "%llu %llu %llu", &size, &resident, &shared) != 3) return 0;
  return resident > shared
             ? (resident - shared) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))
             : 0;
}

}  // namespace brood::detail
