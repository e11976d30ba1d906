#include <brood/channel/thunk.hpp>

#include <mutex>
#include <new>
#include <optional>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/module.hpp>

namespace brood::detail {
namespace {

const char* name_of(ThunkKind kind) {
  switch (kind) {
    case ThunkKind::process:
      return "process";
    case ThunkKind::task:
      return "task";
    case ThunkKind::map:
      return "map";
    case ThunkKind::call:
      return "call";
    case ThunkKind::stage:
      return "a stage of a pipeline";
  }
  return "unknown";
}

}  // namespace

/// All entries of all modules, and an index of them that is brought up to date when it is used.
class ThunkTable {
 public:
  // NOTE: made at the first use and never destroyed: entries come before main() and go after it, in
  // an order that nobody knows.
  static ThunkTable& instance() {
    alignas(ThunkTable) static std::byte memory[sizeof(ThunkTable)];
    static auto* const table = new (memory) ThunkTable;
    return *table;
  }

  void add(ThunkEntry& entry) noexcept {
    const std::scoped_lock lock(mutex_);
    entry.next_ = entries_;
    if (entries_ != nullptr) entries_->previous_ = &entry;
    entries_ = &entry;
    changed_ = true;
  }

  void remove(ThunkEntry& entry) noexcept {
    const std::scoped_lock lock(mutex_);
    if (entry.next_ != nullptr) entry.next_->previous_ = entry.previous_;
    (entry.previous_ != nullptr ? entry.previous_->next_ : entries_) = entry.next_;
    index_.clear();
    changed_ = true;
  }

  void* find(FunctionId id, ThunkKind kind) {
    {
      const std::scoped_lock lock(mutex_);
      if (!changed_) return look_up(id, kind);
    }
    // Not under the mutex: dlopen() may hold the dynamic linker's lock and wait in add() for ours.
    const std::vector<Module> modules = loaded_modules();
    const std::scoped_lock lock(mutex_);
    build_index(modules);
    return look_up(id, kind);
  }

 private:
  struct Key {
    FunctionId id;
    ThunkKind kind;
    friend bool operator==(const Key&, const Key&) = default;
  };

  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return key.id.module ^
             (key.id.offset * 0x9e3779b97f4a7c15U + static_cast<unsigned>(key.kind));
    }
  };

  ThunkTable() = default;

  [[nodiscard]] void* look_up(FunctionId id, ThunkKind kind) const {
    const auto found = index_.find(Key{id, kind});
    return found == index_.end() ? nullptr : found->second;
  }

  void build_index(const std::vector<Module>& modules) {
    index_.clear();
    changed_ = false;
    for (const ThunkEntry* entry = entries_; entry != nullptr; entry = entry->next_) {
      const auto address = reinterpret_cast<std::uintptr_t>(entry->address_);
      bool found = false;
      for (const Module& module : modules) {
        if (!module.executes(address)) continue;
        index_.try_emplace(Key{{module.key, address - module.base}, entry->kind_}, entry->address_);
        found = true;
        break;
      }
      if (!found) changed_ = true;  // it came after the modules were read: look again next time
    }
  }

  std::mutex mutex_;
  ThunkEntry* entries_ = nullptr;
  std::unordered_map<Key, void*, KeyHash> index_;
  bool changed_ = false;
};

ThunkEntry::ThunkEntry(void* address, ThunkKind kind) noexcept : address_(address), kind_(kind) {
  ThunkTable::instance().add(*this);
}

ThunkEntry::~ThunkEntry() { ThunkTable::instance().remove(*this); }

FunctionId ThunkEntry::id() const {
  const std::optional<CodePlace> place = place_of(address_);
  if (!place) {
    throw Error(
        fmt::format("the function at {} lies in no module that the dynamic linker knows, so "
                    "other processes cannot find it",
                    address_));
  }
  return {place->module, place->offset};
}

void* resolve_thunk(FunctionId id, ThunkKind kind) {
  if (void* const address = ThunkTable::instance().find(id, kind)) [[likely]]
    return address;
  for (const Module& module : loaded_modules()) {
    if (module.key != id.module) continue;
    throw UnknownFunction(fmt::format(
        "there is no {} function at offset {:#x} of {}: the bytes that name it are damaged, or the "
        "module was being unloaded",
        name_of(kind), id.offset, module.path.empty() ? "this program" : module.path));
  }
  throw UnknownFunction(fmt::format(
      "no module with the key {:#018x} is loaded here, so its {} function at offset {:#x} cannot "
      "be "
      "called: the sender runs another build of the program, or has loaded a library that this "
      "process has not (dlopen it here too, or before the processes are started)",
      id.module, name_of(kind), id.offset));
}

}  // namespace brood::detail
