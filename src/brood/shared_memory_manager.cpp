#include <brood/shared_memory_manager.hpp>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood {

SharedMemoryManager::SharedMemoryManager() : pid_(detail::current_pid()) {}

SharedMemoryManager::~SharedMemoryManager() { shutdown(); }

void SharedMemoryManager::require_open() const {
  if (detail::current_pid() != pid_) {
    throw StateError("a SharedMemoryManager can be used only by the process that made it");
  }
  const std::scoped_lock guard(mutex_);
  if (shut_down_) throw StateError("this SharedMemoryManager was shut down");
}

void SharedMemoryManager::add(SharedMemory memory) {
  const std::scoped_lock guard(mutex_);
  // The name of one that comes too late goes with its last handle, or this process.
  if (!shut_down_) made_.push_back(std::move(memory));
}

SharedMemory SharedMemoryManager::shared_memory(
    std::size_t bytes, const std::string& name,
    const std::function<void(SharedMemory::Bytes)>& fill) {
  require_open();
  SharedMemory memory =
      SharedMemory::create(bytes, {.name = name, .lifetime = Lifetime::object}, fill);
  add(memory);
  return memory;
}

ShareableList SharedMemoryManager::shareable_list(
    std::initializer_list<ShareableList::Value> values, const std::string& name) {
  require_open();
  ShareableList list(values, {.name = name, .lifetime = Lifetime::object});
  add(list.memory());
  return list;
}

void SharedMemoryManager::shutdown() noexcept {
  if (detail::current_pid() != pid_) return;
  std::vector<SharedMemory> made;
  {
    const std::scoped_lock guard(mutex_);
    shut_down_ = true;
    made.swap(made_);
  }
  for (const SharedMemory& memory : made) {
    try {
      memory.unlink();
    } catch (const Error& e) {
      static_cast<void>(e);  // somebody has taken the name away already
    }
  }
}

std::vector<std::string> SharedMemoryManager::names() const {
  const std::scoped_lock guard(mutex_);
  std::vector<std::string> names;
  names.reserve(made_.size());
  for (const SharedMemory& memory : made_) names.push_back(memory.name());
  return names;
}

}  // namespace brood
