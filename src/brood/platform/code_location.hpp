// Layer: platform
// Names and lines of code addresses of this process.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace brood::detail {

/// What is known about one address; what is not known is empty.
struct CodeLocation {
  std::string function;  ///< readable: "parse(std::string const&)"
  std::string file;      ///< source file as the compiler was given it
  int source_line = 0;
  std::string module;         ///< file name of the program or library, without its folder
  std::uintptr_t offset = 0;  ///< of the address in the module's file, as addr2line takes it
  bool provisional = false;   ///< descriptors or memory were short: there may be more to know later

  /// "function(args) at file.cpp:12 (module+0x1f)"
  [[nodiscard]] std::string line() const;
};

/// One frame for each address. Each call opens and reads the modules anew and closes them, which
/// takes milliseconds: symbolize() caches. Names of functions that a module does not export, and
/// lines, need libdw (elfutils) at run time and a build with BROOD_HAS_LIBDW=1.
/// Throws std::bad_alloc only.
std::vector<CodeLocation> locate_code(std::span<const std::uintptr_t> addresses);

/// Whether functions that are not exported can be named, and lines, where modules have them.
bool reads_debug_information() noexcept;

}  // namespace brood::detail
