// Layer: manager
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/shareable_list.hpp>
#include <brood/shared_memory.hpp>

namespace brood {

/// Makes shared memory with names, and takes the names away when it goes.
///
///     {
///       brood::SharedMemoryManager manager;
///       auto picture = manager.shared_memory(1 << 20);
///       auto settings = manager.shareable_list({1, 2.5, "text"});
///       ...                                            // others attach by the names
///     }                                                // nobody finds them any more
///
/// It needs no process of its own: when the one that made it dies, however, the family's watchdog
/// takes the names away. Who has attached keeps the memory. Who may use it: any threads of the
/// process that made it (but destruction by one); in a forked child it is inert: calls throw
/// StateError, and its destructor takes nothing away. Its bytes are this process's; for the rest
/// see SharedMemory and ShareableList. Errors: theirs; StateError after shutdown().
class SharedMemoryManager {
 public:
  SharedMemoryManager();
  SharedMemoryManager(const SharedMemoryManager&) = delete;
  SharedMemoryManager& operator=(const SharedMemoryManager&) = delete;
  /// As shutdown().
  ~SharedMemoryManager();

  /// As SharedMemory::create; an empty name is one that nobody else has.
  SharedMemory shared_memory(std::size_t bytes, const std::string& name = {},
                             const std::function<void(SharedMemory::Bytes)>& fill = {});
  ShareableList shareable_list(std::initializer_list<ShareableList::Value> values,
                               const std::string& name = {});
  template <std::ranges::input_range Range>
  ShareableList shareable_list(Range&& range, const std::string& name = {}) {
    require_open();
    ShareableList list(std::forward<Range>(range), {.name = name, .lifetime = Lifetime::object});
    add(list.memory());
    return list;
  }

  /// Takes all names away. Again does nothing.
  void shutdown() noexcept;
  /// The names that it made, in order.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  void require_open() const;
  void add(SharedMemory memory);

  const int pid_;
  mutable std::mutex mutex_;
  std::vector<SharedMemory> made_;  // guarded by mutex_, as below
  bool shut_down_ = false;
};

}  // namespace brood
