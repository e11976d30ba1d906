// Layer: channel
// Functions that another process may ask this one to call, by a number that means the same in both.
#pragma once

#include <cstddef>
#include <cstdint>

namespace brood::detail {

/// Names a function in every process that has loaded the same build of the module which contains
/// it, wherever the module lies there. All zero: none.
struct FunctionId {
  std::uint64_t module = 0;  ///< key of the module
  std::uint64_t offset = 0;  ///< in the module; never 0 for a function

  friend bool operator==(const FunctionId&, const FunctionId&) = default;
};
static_assert(sizeof(FunctionId) == 16, "it lies in shared memory and in messages");

/// What a function is called with; each kind has a signature of its own.
enum class ThunkKind : std::uint8_t { process, task, map, call, stage };

/// An entry in the table of functions, for as long as the module is loaded that holds it. It is
/// made before main(), or while dlopen() runs, so it only links itself into a list.
class ThunkEntry {
 public:
  ThunkEntry(void* address, ThunkKind kind) noexcept;
  ThunkEntry(const ThunkEntry&) = delete;
  ThunkEntry& operator=(const ThunkEntry&) = delete;
  ~ThunkEntry();

  /// Throws Error if the function lies in no module, which cannot be.
  [[nodiscard]] FunctionId id() const;

 private:
  friend class ThunkTable;
  void* address_;
  ThunkKind kind_;
  ThunkEntry* next_ = nullptr;
  ThunkEntry* previous_ = nullptr;
};

// NOTE: hidden, so that each module has entries of its own: otherwise gcc makes one for the whole
// process (STB_GNU_UNIQUE), and a library that contains such a symbol can never be unloaded.
template <auto Function, ThunkKind Kind>
struct [[gnu::visibility("hidden")]] ThunkRegistrar {
  static inline ThunkEntry entry{reinterpret_cast<void*>(Function), Kind};
};

/// The id of `Function`, a function known at compile time (such as a specialisation of a template
/// for a user's callable). That this is instantiated, called or not, puts the function into the
/// table of its module when the module is loaded, in every process. Any thread may call it.
template <auto Function, ThunkKind Kind>
[[gnu::visibility("hidden")]] FunctionId thunk_id() {
  static const FunctionId id = ThunkRegistrar<Function, Kind>::entry.id();
  return id;
}

/// The address of the function in this process. Only what is in the table is found: an id from
/// outside cannot name any other address. Any thread may call it; takes a lock and a hash lookup,
/// so keep what it returns. Throws UnknownFunction: the module (this build of it) is not loaded
/// here, or has no such entry.
void* resolve_thunk(FunctionId id, ThunkKind kind);

}  // namespace brood::detail
