#include <brood/platform/clock.hpp>

#include <ctime>

namespace brood::detail {

std::int64_t coarse_nanoseconds() noexcept {
  std::timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace brood::detail
