#include <brood/platform/crash_note.hpp>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <ctime>
#include <exception>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <brood/platform/copy_guard.hpp>
#include <brood/platform/stack_trace.hpp>

namespace brood::detail {
namespace {

constexpr std::array kSignals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};

/// What the handler may use, set up before there is one.
struct Recorder {
  CrashNote* note = nullptr;
  int pid = 0;
  std::array<struct sigaction, kSignals.size()> before{};
  std::atomic<int> walking{0};  // the thread that walks its stack
  sigjmp_buf way_out{};         // from a fault in that walk
};
Recorder recorder;

int this_thread() noexcept { return static_cast<int>(::syscall(SYS_gettid)); }

struct Walk {
  CrashNote* note;
  std::uintptr_t from;  // frames before the one with this address are the handler's; 0: none are
  bool is_return;       // that address is one to return to
};

void add_name(CrashNote& note, std::uint64_t module, const char* path) noexcept {
  if (path == nullptr || *path == '\0') return;
  for (CrashNote::Name& entry : note.names) {
    if (entry.module == module) return;
    if (entry.module != 0) continue;
    const char* name = path;
    for (const char* at = path; *at != '\0'; ++at) {
      if (*at == '/') name = at + 1;
    }
    std::size_t size = 0;
    while (size + 1 < entry.name.size() && name[size] != '\0') {
      entry.name[size] = name[size];
      ++size;
    }
    entry.name[size] = '\0';
    entry.module = module;
    return;
  }
}

bool add_frame(CrashNote& note, std::uintptr_t instruction) noexcept {
  const std::uint32_t at = note.frames.load(std::memory_order_relaxed);
  if (at >= CrashNote::kMaxFrames) return false;
  const SignalSafePlace found = place_in_signal_handler(instruction);
  note.stack[at] = found.place;
  add_name(note, found.place.module, found.path);
  // Pairs with nothing: readers come when the process has ended. One by one, so that a frame which
  // cannot be read costs those behind it only.
  note.frames.store(at + 1, std::memory_order_relaxed);
  return true;
}

_Unwind_Reason_Code note_frame(_Unwind_Context* context, void* argument) {
  Walk& walk = *static_cast<Walk*>(argument);
  int is_instruction = 0;
  const std::uintptr_t address = _Unwind_GetIPInfo(context, &is_instruction);
  if (address == 0) return _URC_END_OF_STACK;
  bool exact = is_instruction != 0;
  if (walk.from != 0) {
    if (address != walk.from) return _URC_NO_REASON;
    walk.from = 0;
    exact = !walk.is_return;
  }
  return add_frame(*walk.note, exact ? address : address - 1) ? _URC_NO_REASON : _URC_END_OF_STACK;
}

#if defined(__x86_64__)
/// After a call into nowhere: as it was before the call, when the return address was on top of the
/// stack. The unwinder reads these registers where the kernel has saved them.
struct BeforeCall {
  explicit BeforeCall(ucontext_t& context)
      : pc(context.uc_mcontext.gregs[REG_RIP]), sp(context.uc_mcontext.gregs[REG_RSP]) {}
  void enter(ucontext_t& context) const {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): a fault here is seen to
    context.uc_mcontext.gregs[REG_RIP] = *reinterpret_cast<const greg_t*>(sp);
    context.uc_mcontext.gregs[REG_RSP] = sp + static_cast<greg_t>(sizeof(greg_t));
  }
  void leave(ucontext_t& context) const {
    context.uc_mcontext.gregs[REG_RIP] = pc;
    context.uc_mcontext.gregs[REG_RSP] = sp;
  }
  greg_t pc;
  greg_t sp;
};
std::uintptr_t pc_of(const ucontext_t& context) {
  return static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
}
#elif defined(__aarch64__)
struct BeforeCall {
  explicit BeforeCall(ucontext_t& context) : pc(context.uc_mcontext.pc) {}
  void enter(ucontext_t& context) const { context.uc_mcontext.pc = context.uc_mcontext.regs[30]; }
  void leave(ucontext_t& context) const { context.uc_mcontext.pc = pc; }
  unsigned long long pc;
};
std::uintptr_t pc_of(const ucontext_t& context) { return context.uc_mcontext.pc; }
#else
struct BeforeCall {
  explicit BeforeCall(ucontext_t&) {}
  void enter(ucontext_t&) const {}
  void leave(ucontext_t&) const {}
};
std::uintptr_t pc_of(const ucontext_t&) { return 0; }
#endif

void walk_stack(CrashNote& note, ucontext_t& context) noexcept {
  const BeforeCall before(context);
  recorder.walking.store(this_thread());
  // NOTE: a frame may be damaged. A fault while it is read comes back here; with what is noted.
  if (sigsetjmp(recorder.way_out, 1) == 0) {
    Walk walk{.note = &note, .from = pc_of(context), .is_return = false};
    if (walk.from != 0 && place_in_signal_handler(walk.from).place.module == 0) {
      add_frame(note, walk.from);
      before.enter(context);
      walk.from = pc_of(context);
      walk.is_return = true;
    } else if (pc_of(context) == 0) {
      before.enter(context);
      walk.from = pc_of(context);
      walk.is_return = true;
    }
    const std::uint32_t noted = note.frames.load(std::memory_order_relaxed);
    _Unwind_Backtrace(&note_frame, &walk);
    if (note.frames.load(std::memory_order_relaxed) == noted && walk.from != 0) {
      add_frame(note, walk.is_return ? walk.from - 1 : walk.from);
    }
  }
  recorder.walking.store(0);
  before.leave(context);
}

void write_note(CrashNote& note, int signal, const siginfo_t& info, ucontext_t& context) noexcept {
  std::uint32_t empty = CrashNote::kEmpty;
  if (!note.state.compare_exchange_strong(empty, CrashNote::kWriting)) {
    // Another thread dies too, and was first: its words are waited for, but not for ever.
    const timespec pause{.tv_sec = 0, .tv_nsec = 1'000'000};
    for (int i = 0; i < 1000 && note.state.load() == CrashNote::kWriting; ++i) {
      ::nanosleep(&pause, nullptr);
    }
    return;
  }
  note.pid = recorder.pid;
  note.thread = this_thread();
  note.signal = signal;
  note.code = info.si_code;
  note.system_call = signal == SIGSYS && info.si_code > 0 ? info.si_syscall : -1;
  note.address =
      is_fault(signal, info.si_code) ? reinterpret_cast<std::uintptr_t>(info.si_addr) : 0;
  walk_stack(note, context);
  note.state.store(CrashNote::kComplete);
}

/// It comes again when the handler returns: the instruction is still there.
bool repeats(int signal, int code) noexcept {
  return code > 0 && signal != SIGTRAP && signal != SIGSYS && signal != SIGABRT;
}

void on_crash(int signal, siginfo_t* info, void* context) noexcept {
  const int error = errno;
  if (recorder.walking.load() == this_thread()) siglongjmp(recorder.way_out, 1);
  if (recorder.pid == ::getpid()) {
    write_note(*recorder.note, signal, *info, *static_cast<ucontext_t*>(context));
  } else if (signal == SIGSEGV) {
    end_if_copy(info->si_addr);
  }
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] == signal) ::sigaction(signal, &recorder.before[i], nullptr);
  }
  // NOTE: with what came with it, which a handler may look at. Not blocked, so it is here at once.
  if (!repeats(signal, info->si_code) &&
      ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), this_thread(), signal, info) != 0) {
    ::syscall(SYS_tgkill, ::getpid(), this_thread(), signal);
  }
  errno = error;
}

void reserve_stack() noexcept {
  stack_t now{};
  if (::sigaltstack(nullptr, &now) != 0 || (now.ss_flags & SS_DISABLE) == 0) return;
  constexpr std::size_t kRoom = 64 << 10U;  // for the unwinder, beside what the kernel saves
  const long least = ::sysconf(_SC_MINSIGSTKSZ);
  const std::size_t size = kRoom + static_cast<std::size_t>(std::max(least, 16384L));
  void* memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return;
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = size;
  if (::sigaltstack(&stack, nullptr) != 0) ::munmap(memory, size);
}

_Unwind_Reason_Code count_frame(_Unwind_Context* context, void*) {
  int is_instruction = 0;
  static_cast<void>(place_in_signal_handler(_Unwind_GetIPInfo(context, &is_instruction)));
  return _URC_NO_REASON;
}

std::string_view name_in(const CrashNote::Name& entry) {
  const std::string_view all(entry.name.data(), entry.name.size());
  return all.substr(0, all.find('\0'));
}

}  // namespace

void CrashNote::clear() noexcept {
  state.store(kEmpty);
  frames.store(0);
  for (Name& entry : names) entry.module = 0;
}

bool is_fault(int signal, int code) noexcept {
  return code > 0 &&
         (signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL) &&
         code != SI_KERNEL;
}

std::optional<CrashData> read(const CrashNote& note, int pid, int signal) {
  if (note.state.load() == CrashNote::kEmpty || note.pid != pid || note.signal != signal) {
    return std::nullopt;
  }
  CrashData data{.signal = note.signal,
                 .code = note.code,
                 .system_call = note.system_call,
                 .address = note.address,
                 .stack = {},
                 .names = {}};
  const std::size_t frames =
      std::min<std::size_t>(note.frames.load(std::memory_order_relaxed), CrashNote::kMaxFrames);
  data.stack.assign(note.stack.begin(), note.stack.begin() + static_cast<std::ptrdiff_t>(frames));
  for (const CrashNote::Name& entry : note.names) {
    if (entry.module != 0) {
      data.names.push_back({.module = entry.module, .name = std::string(name_in(entry))});
    }
  }
  return data;
}

std::vector<std::string> CrashData::describe_stack() const noexcept {
  std::vector<std::string> lines;
  try {
    std::vector<std::uintptr_t> here;  // as StackTrace has them: but the first, what is returned to
    for (const CodePlace& place : stack) {
      const auto found = reinterpret_cast<std::uintptr_t>(find_code(place).address);
      if (found == 0) break;
      here.push_back(here.empty() ? found : found + 1);
    }
    // Whole, so that what belongs to the runtime below a throw is recognised.
    if (here.size() == stack.size()) return symbolize(StackTrace(here, true));
    for (const CodePlace& place : stack) {
      const auto found = reinterpret_cast<std::uintptr_t>(find_code(place).address);
      if (found != 0) {
        const std::array<std::uintptr_t, 1> one{found};
        for (std::string& line : symbolize(StackTrace(one, true))) lines.push_back(std::move(line));
        continue;
      }
      const auto named = std::find_if(names.begin(), names.end(), [&](const Name& entry) {
        return place.module != 0 && entry.module == place.module;
      });
      lines.push_back(named == names.end()
                          ? fmt::format("? ({:#x})", place.offset)
                          : fmt::format("? ({}+{:#x})", named->name, place.offset));
    }
  } catch (const std::exception& e) {
    static_cast<void>(e);  // no memory: what there is must do
  }
  return lines;
}

std::string describe_signal_code(int signal, int code) {
  if (code <= 0) return code == SI_USER || code == SI_QUEUE || code == SI_TKILL ? "sent" : "";
  const std::pair<int, int> which(signal, code);
  static constexpr std::pair<std::pair<int, int>, const char*> kTexts[] = {
      {{SIGSEGV, SEGV_MAPERR}, "nothing is mapped there"},
      {{SIGSEGV, SEGV_ACCERR}, "it may not be accessed in this way"},
      {{SIGBUS, BUS_ADRALN}, "it is not aligned"},
      {{SIGBUS, BUS_ADRERR}, "there is no memory for it, or the file has become shorter"},
      {{SIGFPE, FPE_INTDIV}, "integer division by zero"},
      {{SIGFPE, FPE_INTOVF}, "integer overflow"},
      {{SIGFPE, FPE_FLTDIV}, "division by zero"},
      {{SIGFPE, FPE_FLTOVF}, "overflow"},
      {{SIGFPE, FPE_FLTINV}, "invalid operation"},
      {{SIGILL, ILL_ILLOPC}, "no instruction"},
      {{SIGILL, ILL_ILLOPN}, "no instruction"},
      {{SIGSYS, 1}, "a system call that a filter refuses"},  // SYS_SECCOMP
  };
  for (const auto& [known, text] : kTexts) {
    if (known == which) return text;
  }
  return "";
}

void leave_crash_note_in(CrashNote& note) noexcept {
  recorder.note = &note;
  recorder.pid = ::getpid();
  // The unwinder, with what it binds and sets up the first time.
  _Unwind_Backtrace(&count_frame, nullptr);
  reserve_stack();
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction before {};
    if (::sigaction(kSignals[i], nullptr, &before) != 0) continue;
    // Also this handler itself, in a fork of a process that had it.
    if ((before.sa_flags & SA_SIGINFO) != 0 || before.sa_handler != SIG_DFL) continue;
    recorder.before[i] = before;
    struct sigaction handler {};
    handler.sa_sigaction = &on_crash;
    // NOTE: not masked meanwhile: a fault in the handler must come to it.
    handler.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    ::sigemptyset(&handler.sa_mask);
    ::sigaction(kSignals[i], &handler, nullptr);
  }
}

}  // namespace brood::detail
