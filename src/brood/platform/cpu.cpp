#include <brood/platform/cpu.hpp>

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <brood/platform/control_group.hpp>

namespace brood::detail {
namespace {

namespace fs = std::filesystem;

/// CPUs by `cpu.max` ("max 100000" or "150000 100000"); 0 for none.
double quota_v2(const fs::path& group) {
  std::ifstream file(group / "cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::strtod(quota.c_str(), nullptr) / period;
}

double quota_v1(const fs::path& group) {
  std::ifstream quota_file(group / "cpu.cfs_quota_us");
  std::ifstream period_file(group / "cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return 0;
  return quota / period;
}

/// The tightest limit from `group` up to `mount`.
double tightest(const fs::path& mount, const std::string& group, double (*quota)(const fs::path&)) {
  double least = 0;
  fs::path at = mount;
  const auto consider = [&] {
    const double here = quota(at);
    if (here > 0 && (least <= 0 || here < least)) least = here;
  };
  consider();
  for (const fs::path& part : fs::path(group).relative_path()) {
    at /= part;
    consider();
  }
  return least;
}

}  // namespace

int affinity_count() noexcept {
  // A fixed set fails with EINVAL on machines of more than 1024 CPUs: ask with larger ones.
  for (int size = CPU_SETSIZE; size <= (1 << 16); size *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(size));
    if (set == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(size));
    const int count = ::sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return 1;
}

int cgroup_quota() noexcept {
  try {
    double least = 0;
    for (const ControlGroup& group : own_control_groups("cpu")) {
      const double limit =
          tightest(group.mount, group.path, group.version == 2 ? quota_v2 : quota_v1);
      if (limit > 0 && (least <= 0 || limit < least)) least = limit;
    }
    return least > 0 ? std::max(1, static_cast<int>(std::ceil(least - 1e-6))) : 0;
  } catch (...) {
    return 0;
  }
}

}  // namespace brood::detail
