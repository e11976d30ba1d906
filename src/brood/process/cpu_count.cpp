#include <brood/cpu_count.hpp>

#include <algorithm>
#include <charconv>
#include <string>

#include <brood/platform/cpu.hpp>
#include <brood/platform/program.hpp>

namespace brood {

int cpu_count() {
  if (const auto text = detail::environment_variable("BROOD_CPU_COUNT")) {
    int count = 0;
    const char* end = text->data() + text->size();
    if (std::from_chars(text->data(), end, count).ptr == end && count > 0) return count;
  }
  const int allowed = detail::affinity_count();
  const int quota = detail::cgroup_quota();
  return quota > 0 ? std::min(allowed, quota) : allowed;
}

void detail::share_cpus(int cpus) {
  detail::set_environment_variable("BROOD_CPU_COUNT", std::to_string(cpus));
  limit_library_threads(cpus);
}

}  // namespace brood
