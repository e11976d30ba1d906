#include <brood/platform/module.hpp>

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include <brood/platform/round_up.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kCodeSample = 16384;  // bytes of each executable segment, without a build id

class Hash {  // FNV-1a, 64 bits
 public:
  void add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < size; ++i) value_ = (value_ ^ bytes[i]) * 0x100000001b3U;
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325U;
};

/// The build id among the notes of one segment; empty if it is not there.
std::string_view build_id_in(const char* notes, std::size_t size, std::size_t alignment) {
  if (alignment < 4) alignment = 4;
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes, sizeof(note));
    const std::size_t name_end = sizeof(note) + note.n_namesz;
    const std::size_t value_at = round_up(name_end, alignment);
    const std::size_t length = round_up(value_at + note.n_descsz, alignment);
    if (name_end > size || value_at + note.n_descsz > size) return {};
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(ELF_NOTE_GNU) &&
        std::memcmp(notes + sizeof(note), ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0) {
      return {notes + value_at, note.n_descsz};
    }
    if (length >= size) return {};
    notes += length;
    size -= length;
  }
  return {};
}

struct ModuleKey {
  std::uint64_t key = 0;
  bool has_build_id = false;
};

// Allocates nothing and takes no lock: signal handlers come here too.
ModuleKey key_of(std::uintptr_t base, const ElfW(Phdr) * headers, std::size_t count) noexcept {
  std::string_view build_id;
  for (std::size_t i = 0; i < count && build_id.empty(); ++i) {
    if (headers[i].p_type != PT_NOTE) continue;
    build_id = build_id_in(reinterpret_cast<const char*>(base + headers[i].p_vaddr),
                           headers[i].p_memsz, headers[i].p_align);
  }
  Hash hash;
  if (!build_id.empty()) {
    hash.add(build_id.data(), build_id.size());
    return {.key = hash.value(), .has_build_id = true};
  }
  hash.add(headers, count * sizeof(ElfW(Phdr)));
  for (std::size_t i = 0; i < count; ++i) {
    const ElfW(Phdr)& header = headers[i];
    // Only what can be read too: code may be execute-only.
    if (header.p_type != PT_LOAD || (header.p_flags & (PF_X | PF_R)) != (PF_X | PF_R)) continue;
    hash.add(reinterpret_cast<const void*>(base + header.p_vaddr),
             std::min<std::size_t>(header.p_filesz, kCodeSample));
  }
  return {.key = hash.value(), .has_build_id = false};
}

Module describe(const dl_phdr_info& info) {
  Module module;
  module.base = info.dlpi_addr;
  module.path = info.dlpi_name != nullptr ? info.dlpi_name : "";
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info.dlpi_phdr[i];
    const std::uintptr_t begin = info.dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0) {
      module.executable.push_back({begin, begin + header.p_memsz});
    }
  }
  const ModuleKey key = key_of(info.dlpi_addr, info.dlpi_phdr, info.dlpi_phnum);
  module.key = key.key;
  module.has_build_id = key.has_build_id;
  return module;
}

/// What dl_iterate_phdr() calls for each module; it must not throw through C code.
struct Reading {
  std::vector<Module> modules;
  unsigned long long loads = 0;  // by the dynamic linker, since the program began
  unsigned long long unloads = 0;
  const Reading* known = nullptr;  // nothing is read if nothing has changed since
  std::exception_ptr error;

  static int look(dl_phdr_info* info, std::size_t, void* data) {
    auto& self = *static_cast<Reading*>(data);
    if (self.known != nullptr && self.known->loads == info->dlpi_adds &&
        self.known->unloads == info->dlpi_subs) {
      return 1;
    }
    self.known = nullptr;
    self.loads = info->dlpi_adds;
    self.unloads = info->dlpi_subs;
    try {
      self.modules.push_back(describe(*info));
      return 0;
    } catch (...) {
      self.error = std::current_exception();
      return 1;
    }
  }
};

/// Reads anew what has changed since `known`; false if nothing has.
bool read_modules(Reading& reading, const Reading* known) {
  reading.known = known;
  dl_iterate_phdr(&Reading::look, &reading);
  if (reading.error != nullptr) std::rethrow_exception(reading.error);
  return reading.known == nullptr;
}

/// The modules as they are now. The mutex is never held while the dynamic linker's own lock is
/// waited for, because dlopen() holds that one while it runs constructors, which may come here.
template <class Use>
auto with_modules(Use use) {
  static std::mutex mutex;
  static auto& latest = *new std::shared_ptr<const Reading>;  // never destroyed: used at exit too
  std::shared_ptr<const Reading> known;
  {
    const std::scoped_lock lock(mutex);
    known = latest;
  }
  Reading reading;
  if (!read_modules(reading, known.get())) return use(known->modules);
  known = std::make_shared<const Reading>(std::move(reading));
  {
    const std::scoped_lock lock(mutex);
    latest = known;
  }
  return use(known->modules);
}

}  // namespace

bool Module::executes(std::uintptr_t address) const {
  return std::any_of(executable.begin(), executable.end(), [address](const Range& range) {
    return address >= range.begin && address < range.end;
  });
}

std::vector<Module> loaded_modules() {
  return with_modules([](const std::vector<Module>& modules) { return modules; });
}

std::optional<CodePlace> place_of(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  return with_modules([at](const std::vector<Module>& modules) -> std::optional<CodePlace> {
    for (const Module& module : modules) {
      if (module.executes(at)) return CodePlace{module.key, at - module.base};
    }
    return std::nullopt;
  });
}

SignalSafePlace place_in_signal_handler(std::uintptr_t address) noexcept {
  SignalSafePlace found{.place = {.module = 0, .offset = address}, .path = nullptr};
#ifdef DLFO_EH_SEGMENT_TYPE  // glibc 2.35
  dl_find_object object{};
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  if (_dl_find_object(reinterpret_cast<void*>(address), &object) != 0) return found;
  const auto* begin = static_cast<const char*>(object.dlfo_map_start);
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(begin);
  if (object.dlfo_link_map == nullptr || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_phentsize != sizeof(ElfW(Phdr))) {
    return found;
  }
  const auto* headers = reinterpret_cast<const ElfW(Phdr)*>(begin + header->e_phoff);
  const std::uintptr_t base = object.dlfo_link_map->l_addr;
  for (std::size_t i = 0; i < header->e_phnum; ++i) {
    if (headers[i].p_type != PT_LOAD || (headers[i].p_flags & PF_X) == 0 ||
        address - (base + headers[i].p_vaddr) >= headers[i].p_memsz) {
      continue;
    }
    found.place = {.module = key_of(base, headers, header->e_phnum).key, .offset = address - base};
    found.path = object.dlfo_link_map->l_name;
    break;
  }
#endif
  return found;
}

FoundCode find_code(CodePlace place) {
  return with_modules([place](const std::vector<Module>& modules) {
    FoundCode found;
    for (const Module& module : modules) {
      if (module.key != place.module) continue;
      found.module_is_loaded = true;
      const std::uintptr_t address = module.base + place.offset;
      if (module.executes(address)) {
        found.address = reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
        break;
      }
    }
    return found;
  });
}

}  // namespace brood::detail
