#include <brood/platform/cpu.hpp>

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

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

struct Mounts {
  std::string v2;
  std::string v1_cpu;
};

Mounts find_mounts() {
  Mounts mounts;
  std::ifstream file("/proc/self/mounts");
  std::string device;
  std::string where;
  std::string type;
  std::string options;
  std::string rest;
  while (file >> device >> where >> type >> options && std::getline(file, rest)) {
    if (type == "cgroup2" && mounts.v2.empty()) mounts.v2 = where;
    if (type != "cgroup" || !mounts.v1_cpu.empty()) continue;
    std::istringstream list(options);
    for (std::string option; std::getline(list, option, ',');) {
      if (option == "cpu") mounts.v1_cpu = where;
    }
  }
  return mounts;
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
    const Mounts mounts = find_mounts();
    double least = 0;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {  // "4:cpu,cpuacct:/path" or "0::/path"
      const std::size_t first = line.find(':');
      const std::size_t second = line.find(':', first + 1);
      if (first == std::string::npos || second == std::string::npos) continue;
      const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
      const std::string path = line.substr(second + 1);
      double limit = 0;
      if (controllers == ",," && !mounts.v2.empty()) limit = tightest(mounts.v2, path, quota_v2);
      if (controllers.find(",cpu,") != std::string::npos && !mounts.v1_cpu.empty()) {
        limit = tightest(mounts.v1_cpu, path, quota_v1);
      }
      if (limit > 0 && (least <= 0 || limit < least)) least = limit;
    }
    return least > 0 ? std::max(1, static_cast<int>(std::ceil(least - 1e-6))) : 0;
  } catch (...) {
    return 0;
  }
}

}  // namespace brood::detail
