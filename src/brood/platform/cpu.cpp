#include <brood/platform/cpu.hpp>

#include <dlfcn.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include <brood/errors.hpp>
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

void pin_to_cpu(unsigned index) {
  // As large as the kernel's own set, whatever that is.
  constexpr int kMost = 1 << 16;
  const std::size_t bytes = CPU_ALLOC_SIZE(kMost);
  std::vector<std::byte> memory(2 * bytes);
  auto* const allowed = reinterpret_cast<cpu_set_t*>(memory.data());
  auto* const one = reinterpret_cast<cpu_set_t*>(memory.data() + bytes);
  if (::sched_getaffinity(0, bytes, allowed) != 0) {
    throw SystemError("sched_getaffinity", "this thread", errno);
  }
  const auto count = static_cast<unsigned>(CPU_COUNT_S(bytes, allowed));
  unsigned left = index % std::max(count, 1U);
  for (int cpu = 0; cpu != kMost; ++cpu) {
    if (!CPU_ISSET_S(cpu, bytes, allowed) || left-- != 0) continue;
    CPU_SET_S(cpu, bytes, one);
    if (::sched_setaffinity(0, bytes, one) != 0) {
      throw SystemError("sched_setaffinity", fmt::format("cpu={}", cpu), errno);
    }
    return;
  }
}

int niceness() noexcept { return ::getpriority(PRIO_PROCESS, 0); }

void set_niceness(int niceness) {
  if (::setpriority(PRIO_PROCESS, 0, niceness) != 0) {
    throw SystemError("setpriority", fmt::format("niceness={}", niceness), errno);
  }
}

void limit_library_threads(int threads) noexcept {
  struct Library {
    const char* variable;
    const char* function;  // void f(int)
  };
  // Their functions for those that have read the variable when they were loaded. OpenMP's is also
  // what most of the others compute with.
  constexpr Library kLibraries[] = {{"OMP_NUM_THREADS", "omp_set_num_threads"},
                                    {"OPENBLAS_NUM_THREADS", "openblas_set_num_threads"},
                                    {"MKL_NUM_THREADS", "MKL_Set_Num_Threads"},
                                    {"BLIS_NUM_THREADS", nullptr},
                                    {"NUMEXPR_NUM_THREADS", nullptr},
                                    {"VECLIB_MAXIMUM_THREADS", nullptr}};
  char text[16];
  *fmt::format_to_n(text, sizeof text - 1, "{}", threads).out = '\0';
  for (const auto& [variable, function] : kLibraries) {
    if (std::getenv(variable) != nullptr) continue;  // NOLINT(concurrency-mt-unsafe)
    ::setenv(variable, text, 1);                     // NOLINT(concurrency-mt-unsafe)
    if (function == nullptr) continue;
    if (void* const found = ::dlsym(RTLD_DEFAULT, function)) {
      reinterpret_cast<void (*)(int)>(found)(threads);
    }
  }
}

}  // namespace brood::detail
