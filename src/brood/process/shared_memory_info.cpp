#include <brood/shared_memory_info.hpp>

#include <algorithm>

#include <brood/memory/heap.hpp>
#include <brood/process/family.hpp>

namespace brood {

SharedMemoryInfo shared_memory_info() {
  const std::shared_ptr<detail::Family> family = detail::Family::require();
  const detail::MemoryUse use = detail::Heap::measure(family->segment());
  SharedMemoryInfo info{.total = use.total,
                        .used = use.total - use.free,
                        .free = use.free,
                        .shared_objects = use.shared};
  for (const auto& [tag, bytes] : use.held) {
    SharedMemoryInfo::Process process{.bytes = bytes};
    // A tag of a process that is gone, and not yet cleaned up after, must not name another.
    if (family->registry().word(tag)) {
      process.pid = family->registry().record(tag).pid.load();
      process.name = family->registry().name(tag);
    }
    info.processes.push_back(std::move(process));
  }
  std::stable_sort(info.processes.begin(), info.processes.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return info;
}

void trim_shared_memory() noexcept {
  const std::shared_ptr<detail::Family> family = detail::Family::current();
  if (family && family->is_this_process()) family->heap().give_back();
}

}  // namespace brood
