// Layer: platform
#include <brood/platform/code_location.hpp>
#include <brood/platform/stack_trace.hpp>

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#ifndef BROOD_HAS_LIBDW
#define BROOD_HAS_LIBDW 0
#endif
#if BROOD_HAS_LIBDW
#include <elfutils/libdwfl.h>

#include <atomic>
#include <cerrno>
#include <compare>
#include <cstddef>
#include <map>
#include <memory>
#include <type_traits>
#endif

namespace brood::detail {

namespace {

struct LoadedModule {
  std::string path;
  std::uintptr_t bias = 0;
};

// The program itself is reported without a name. /proc knows the file even when it was deleted or
// replaced; where there is no /proc, the kernel still passed the name it was started by.
std::string program_path() {
  char path[4096];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  if (size > 0) return std::string(path, static_cast<std::size_t>(size));
  const auto* started_as = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  return started_as != nullptr ? started_as : "";
}

struct ModuleSearch {
  std::uintptr_t address;
  LoadedModule found = {};
  bool is_found = false;
};

// Asks the dynamic linker, not /proc/self/maps.
int match_module(dl_phdr_info* info, std::size_t, void* argument) noexcept try {
  ModuleSearch& search = *static_cast<ModuleSearch*>(argument);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& part = info->dlpi_phdr[i];
    const std::uintptr_t begin = info->dlpi_addr + part.p_vaddr;
    if (part.p_type != PT_LOAD || search.address < begin ||
        search.address - begin >= part.p_memsz) {
      continue;
    }
    search.found.path = info->dlpi_name;
    search.found.bias = info->dlpi_addr;
    search.is_found = true;
    return 1;
  }
  return 0;
} catch (...) {
  return 1;  // no memory, and no exception may pass through the dynamic linker
}

bool find_module(std::uintptr_t address, LoadedModule& out) {
  ModuleSearch search{.address = address};
  ::dl_iterate_phdr(&match_module, &search);
  if (!search.is_found) return false;
  out = std::move(search.found);
  if (out.path.empty()) out.path = program_path();
  return true;
}

std::string_view file_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  std::string_view name = slash == path.npos ? path : path.substr(slash + 1);
  // What /proc/self/exe says of a program whose file was replaced while it runs.
  static constexpr std::string_view kDeleted = " (deleted)";
  if (name.ends_with(kDeleted)) name.remove_suffix(kDeleted.size());
  return name;
}

// The C and C++ runtimes. What they export has a name without opening a file, nobody looks for his
// mistake in their lines, and where their debug information is installed it takes a quarter of a
// second to unpack.
bool is_runtime(std::string_view module) {
  return module.starts_with("libc.so") || module.starts_with("libstdc++.so") ||
         module.starts_with("libgcc_s.so") || module.starts_with("ld-linux");
}

// The name of the function as it stands in the source: compilers move the unlikely part of a
// function, and throws are unlikely, into one of its own.
std::string function_name(const char* symbol) {
  std::string name = demangle(symbol);
  const std::size_t clone = name.find(" [clone .");
  if (clone != name.npos) name.resize(clone);
  // A C function's parts are not mangled: "parse.cold".
  if (name.find('(') == name.npos) {
    const std::size_t dot = name.find_first_of(".@");  // or have a version: "f@@GLIBC_2.34"
    if (dot != name.npos && dot > 0) name.resize(dot);
  }
  return name;
}

#if BROOD_HAS_LIBDW

// libdw is loaded when the first exception is reported and not linked: at its start it loads a
// dozen libraries for compression and downloads, which every process of a family would pay for.
class LibDw {
 public:
  /// nullptr where there is none. That is not remembered: what failed for want of a descriptor may
  /// succeed later.
  static const LibDw* get() {
    static std::atomic<const LibDw*> loaded{nullptr};
    if (const LibDw* library = loaded.load()) return library;
    auto library = std::make_unique<LibDw>();
    if (!library->load()) return nullptr;
    const LibDw* expected = nullptr;
    if (loaded.compare_exchange_strong(expected, library.get())) return library.release();
    return expected;
  }

// NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration
#define BROOD_DW_FUNCTION(name) decltype(&::name) name = nullptr
  BROOD_DW_FUNCTION(dwfl_begin);
  BROOD_DW_FUNCTION(dwfl_end);
  BROOD_DW_FUNCTION(dwfl_report_begin);
  BROOD_DW_FUNCTION(dwfl_report_end);
  BROOD_DW_FUNCTION(dwfl_report_elf);
  BROOD_DW_FUNCTION(dwfl_addrmodule);
  BROOD_DW_FUNCTION(dwfl_module_getsymtab);
  BROOD_DW_FUNCTION(dwfl_module_getsym_info);
  BROOD_DW_FUNCTION(dwfl_module_getsrc);
  BROOD_DW_FUNCTION(dwfl_module_nextcu);
  BROOD_DW_FUNCTION(dwfl_lineinfo);
  BROOD_DW_FUNCTION(dwarf_ranges);
  BROOD_DW_FUNCTION(dwarf_getsrc_die);
  BROOD_DW_FUNCTION(dwarf_linesrc);
  BROOD_DW_FUNCTION(dwarf_lineno);
  BROOD_DW_FUNCTION(dwfl_build_id_find_debuginfo);
#undef BROOD_DW_FUNCTION

 private:
  bool load() {
    void* handle = ::dlopen("libdw.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (handle == nullptr) return false;
    const auto find = [handle](auto& function, const char* name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, name));
      return function != nullptr;
    };
    return find(dwfl_begin, "dwfl_begin") && find(dwfl_end, "dwfl_end") &&
           find(dwfl_report_begin, "dwfl_report_begin") &&
           find(dwfl_report_end, "dwfl_report_end") && find(dwfl_report_elf, "dwfl_report_elf") &&
           find(dwfl_addrmodule, "dwfl_addrmodule") &&
           find(dwfl_module_getsymtab, "dwfl_module_getsymtab") &&
           find(dwfl_module_getsym_info, "dwfl_module_getsym_info") &&
           find(dwfl_module_getsrc, "dwfl_module_getsrc") && find(dwfl_lineinfo, "dwfl_lineinfo") &&
           find(dwfl_module_nextcu, "dwfl_module_nextcu") && find(dwarf_ranges, "dwarf_ranges") &&
           find(dwarf_getsrc_die, "dwarf_getsrc_die") && find(dwarf_linesrc, "dwarf_linesrc") &&
           find(dwarf_lineno, "dwarf_lineno") &&
           find(dwfl_build_id_find_debuginfo, "dwfl_build_id_find_debuginfo");
  }
};

// dwfl_report_elf opened the file already.
int find_no_elf(Dwfl_Module*, void**, const char*, Dwarf_Addr, char**, Elf**) { return -1; }

// Debug information split from its module is looked for by its build id on this machine only. The
// library's own default would go on to ask servers on the network, for minutes.
int find_debug_file(Dwfl_Module* module, void** user, const char* name, Dwarf_Addr base,
                    const char* file, const char* link, GElf_Word crc, char** found) {
  return LibDw::get()->dwfl_build_id_find_debuginfo(module, user, name, base, file, link, crc,
                                                    found);
}

/// An address whose frame is to be filled in.
struct Query {
  std::uintptr_t address;
  CodeLocation* frame;
};

/// Calls `found` with each of the `queries`, which are sorted, that lies in [begin, end).
template <class Found>
void for_each_within(std::span<const Query> queries, std::uintptr_t begin, std::uintptr_t end,
                     Found found) {
  // As std::lower_bound does, without its calls: for hundreds of thousands of symbols they are what
  // takes the time in builds that are not optimised.
  const Query* query = queries.data();
  for (std::size_t left = queries.size(); left > 0;) {
    const std::size_t half = left / 2;
    if (query[half].address < begin) {
      query += half + 1;
      left -= half + 1;
    } else {
      left = half;
    }
  }
  const Query* const last = queries.data() + queries.size();
  for (; query != last && query->address < end; ++query) found(*query);
}

// The modules of one call, opened; closed with it. A module's symbols, and its units, are gone
// through once for all addresses: asked for each, libdw goes through all of them each time.
class DebugFiles {
 public:
  DebugFiles() {
    errno = 0;
    dw_ = LibDw::get();
    if (dw_ == nullptr) {
      note_shortage();
      return;
    }
    static const Dwfl_Callbacks callbacks = {.find_elf = &find_no_elf,
                                             .find_debuginfo = &find_debug_file,
                                             .section_address = nullptr,
                                             .debuginfo_path = nullptr};
    session_ = dw_->dwfl_begin(&callbacks);
    if (session_ != nullptr) dw_->dwfl_report_begin(session_);
  }
  DebugFiles(const DebugFiles&) = delete;
  DebugFiles& operator=(const DebugFiles&) = delete;
  ~DebugFiles() {
    if (session_ != nullptr) dw_->dwfl_end(session_);
  }

  void add(const LoadedModule& module) {
    if (session_ == nullptr) return;
    if (std::find(reported_.begin(), reported_.end(), module.path) != reported_.end()) return;
    reported_.push_back(module.path);
    // A replaced program can still be opened by this name, but not by its own.
    const bool deleted = module.path.ends_with(" (deleted)");
    const char* file = deleted ? "/proc/self/exe" : module.path.c_str();
    errno = 0;
    if (dw_->dwfl_report_elf(session_, module.path.c_str(), file, -1, module.bias, true) ==
        nullptr) {
      note_shortage();
    }
  }

  /// Something could not be opened that might be another time.
  [[nodiscard]] bool was_short() const { return short_; }

  void all_added() {
    if (session_ != nullptr) dw_->dwfl_report_end(session_, nullptr, nullptr);
  }

  void describe(std::span<const std::uintptr_t> addresses, std::span<CodeLocation> frames) const {
    if (session_ == nullptr) return;
    std::map<Dwfl_Module*, std::vector<Query>> modules;
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      if (Dwfl_Module* module = dw_->dwfl_addrmodule(session_, addresses[i])) {
        modules[module].push_back({addresses[i], &frames[i]});
      }
    }
    for (auto& [module, queries] : modules) {
      std::ranges::sort(queries, {}, &Query::address);
      name_functions(module, queries);
      std::erase_if(queries, [&](const Query& query) { return find_line(module, query); });
      if (!queries.empty()) find_lines_without_index(module, queries);
    }
  }

 private:
  void name_functions(Dwfl_Module* module, std::span<const Query> queries) const {
    struct Candidate {
      std::uintptr_t start = 0;
      int rank = -1;  // below every symbol's
      auto operator<=>(const Candidate&) const = default;
    };
    std::map<const CodeLocation*, Candidate> best;
    const int count = dw_->dwfl_module_getsymtab(module);
    for (int i = 1; i < count; ++i) {
      GElf_Sym symbol;
      GElf_Addr start = 0;
      const char* name =
          dw_->dwfl_module_getsym_info(module, i, &symbol, &start, nullptr, nullptr, nullptr);
      const auto type = GELF_ST_TYPE(symbol.st_info);
      if (name == nullptr || (type != STT_FUNC && type != STT_GNU_IFUNC)) continue;
      // Of names for the same place, what others can call is the better known.
      const int rank = GELF_ST_BIND(symbol.st_info) == STB_LOCAL ? 0 : 1;
      for_each_within(queries, start, start + symbol.st_size, [&](const Query& query) {
        Candidate& known = best[query.frame];
        if (Candidate{start, rank} <= known) return;
        known = {start, rank};
        query.frame->function = function_name(name);
      });
    }
  }

  bool find_line(Dwfl_Module* module, const Query& query) const {
    Dwfl_Line* line = dw_->dwfl_module_getsrc(module, query.address);
    if (line == nullptr) return false;
    int number = 0;
    const char* file = dw_->dwfl_lineinfo(line, nullptr, &number, nullptr, nullptr, nullptr);
    if (file != nullptr) {
      query.frame->file = file;
      query.frame->source_line = number;
    }
    return true;
  }

  // Clang leaves out the index from addresses to compilation units (.debug_aranges), without which
  // dwfl_module_getsrc finds nothing. So ask the units one by one.
  void find_lines_without_index(Dwfl_Module* module, std::span<const Query> queries) const {
    Dwarf_Addr bias = 0;
    for (Dwarf_Die* unit = dw_->dwfl_module_nextcu(module, nullptr, &bias); unit != nullptr;
         unit = dw_->dwfl_module_nextcu(module, unit, &bias)) {
      Dwarf_Addr base = 0;
      Dwarf_Addr begin = 0;
      Dwarf_Addr end = 0;
      for (std::ptrdiff_t at = 0; (at = dw_->dwarf_ranges(unit, at, &base, &begin, &end)) > 0;) {
        for_each_within(queries, begin + bias, end + bias, [&](const Query& query) {
          Dwarf_Line* line = dw_->dwarf_getsrc_die(unit, query.address - bias);
          const char* file = line != nullptr ? dw_->dwarf_linesrc(line, nullptr, nullptr) : nullptr;
          if (file == nullptr) return;
          query.frame->file = file;
          dw_->dwarf_lineno(line, &query.frame->source_line);
        });
      }
    }
  }

  void note_shortage() {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) short_ = true;
  }

  const LibDw* dw_ = nullptr;
  Dwfl* session_ = nullptr;
  bool short_ = false;
  std::vector<std::string> reported_;
};

#else

class DebugFiles {
 public:
  void add(const LoadedModule&) {}
  void all_added() {}
  void describe(std::span<const std::uintptr_t>, std::span<CodeLocation>) const {}
  static bool was_short() { return false; }
};

#endif

}  // namespace

std::vector<CodeLocation> locate_code(std::span<const std::uintptr_t> addresses) {
  std::vector<CodeLocation> frames(addresses.size());
  DebugFiles files;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    LoadedModule module;
    if (!find_module(addresses[i], module)) {
      frames[i].offset = addresses[i];
      continue;
    }
    frames[i].module = file_name(module.path);
    frames[i].offset = addresses[i] - module.bias;
    if (!is_runtime(frames[i].module)) files.add(module);
  }
  files.all_added();
  files.describe(addresses, frames);
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    frames[i].provisional = files.was_short();
    if (!frames[i].function.empty()) continue;
    Dl_info exported{};  // what the dynamic linker knows costs nothing and needs no file
    if (::dladdr(reinterpret_cast<void*>(addresses[i]), &exported) != 0 &&
        exported.dli_sname != nullptr) {
      frames[i].function = function_name(exported.dli_sname);
    }
  }
  return frames;
}

bool reads_debug_information() noexcept {
#if BROOD_HAS_LIBDW
  try {
    return LibDw::get() != nullptr;
  } catch (...) {
  }
#endif
  return false;
}

std::string CodeLocation::line() const {
  // Template arguments can fill pages, and file and line come after them.
  static constexpr std::size_t kLongestName = 240;
  std::string text = function.empty() ? "?" : function.substr(0, kLongestName);
  if (function.size() > kLongestName) text += "...";
  if (!file.empty()) text += fmt::format(" at {}:{}", file, source_line);
  if (module.empty()) return text + fmt::format(" ({:#x})", offset);
  return text + fmt::format(" ({}+{:#x})", module, offset);
}

}  // namespace brood::detail
