// Layer: platform
// The program and the shared libraries that are loaded in this process, and where their code is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace brood::detail {

/// A place in a module's code that means the same in every process which has loaded the same build
/// of the module, wherever it lies there.
struct CodePlace {
  std::uint64_t module = 0;  ///< the module's key
  std::uint64_t offset = 0;  ///< from where the module is loaded

  friend bool operator==(const CodePlace&, const CodePlace&) = default;
};

/// One module. Its key is a hash of the GNU build id, which the linker makes of all that it links;
/// a module without one is known by its program headers and the beginning of each piece of its
/// code, which tells builds apart less surely.
struct Module {
  struct Range {
    std::uintptr_t begin;
    std::uintptr_t end;
  };
  std::uint64_t key = 0;
  bool has_build_id = false;
  std::uintptr_t base =
      0;             ///< what offsets count from; 0 for a program that is loaded at a fixed place
  std::string path;  ///< of the file; the program's own is "", as the dynamic linker has it
  std::vector<Range> executable;

  [[nodiscard]] bool executes(std::uintptr_t address) const;
};

/// All loaded modules, the program first. Reads them anew; takes some microseconds for each module
/// that was not there before. Any thread may call it, but no signal handler.
std::vector<Module> loaded_modules();

/// The place of a code address; nullopt if it lies in no module's code, as code made at run time.
std::optional<CodePlace> place_of(const void* address);

/// As place_of(), for signal handlers: it takes no lock, allocates nothing and does not fail. The
/// module is 0, and the offset the address itself, where it lies in no module's code, or the C
/// library (glibc before 2.35) does not know without a lock.
struct SignalSafePlace {
  CodePlace place;
  const char* path = nullptr;  ///< of the module's file, "" for the program; null if there is none
};
SignalSafePlace place_in_signal_handler(std::uintptr_t address) noexcept;

/// What came of a place that another process named.
struct FoundCode {
  void* address = nullptr;  ///< null if there is no such place
  bool module_is_loaded = false;
};

/// The address of a place in this process: null if the module is not loaded, or if the offset does
/// not lie in its code.
FoundCode find_code(CodePlace place);

}  // namespace brood::detail
