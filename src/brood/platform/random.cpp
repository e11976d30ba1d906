#include <brood/platform/random.hpp>

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {

void fill_random(std::span<std::byte> bytes) {
  constexpr std::size_t kMostAtOnce = 256;  // so many come whole, or not at all
  while (!bytes.empty()) {
    const std::span<std::byte> part = bytes.first(std::min(bytes.size(), kMostAtOnce));
    if (::getrandom(part.data(), part.size(), 0) == static_cast<ssize_t>(part.size())) {
      bytes = bytes.subspan(part.size());
    } else if (errno != EINTR) {
      throw SystemError("getrandom", fmt::format("{} bytes", part.size()), errno);
    }
  }
}

}  // namespace brood::detail
