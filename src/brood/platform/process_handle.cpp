#include <brood/platform/process_handle.hpp>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/copy_guard.hpp>
#include <brood/platform/program.hpp>

namespace brood::detail {
namespace {

constexpr int kPidfdIdType = 3;  // P_PIDFD

// ioctl(pidfd, PIDFD_GET_INFO), Linux 6.13; the exit code since 6.15.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroupid;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr std::uint64_t kPidfdInfoExit = 1U << 3U;

ExitCode from_status(int status) {
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/// The beginning of a file of /proc, as a string. False when it cannot be read.
template <std::size_t N>
bool read_text(const char* path, std::array<char, N>& text) {
  text.fill('\0');
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t got = ::read(fd, text.data(), text.size() - 1);
  close_fd(fd);
  return got > 0;
}

ExitCode from_siginfo(const siginfo_t& info) {
  return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

}  // namespace

ProcessHandle ProcessHandle::try_open(int pid) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U));
  // EINVAL: so say older kernels of the leader of a group or session that was reaped while others
  // of it live on.
  const bool gone = fd < 0 && (errno == ESRCH || (errno == EINVAL && pid > 0));
  if (fd < 0 && !gone) throw SystemError("pidfd_open", fmt::format("pid {}", pid), errno);
  constexpr int kStandardStreams = 3;  // which may be closed, but not taken by something else
  return ProcessHandle(fd >= 0 && fd < kStandardStreams ? move_high(Fd(fd)) : Fd(fd));
}

ProcessHandle ProcessHandle::open(int pid) {
  ProcessHandle handle = try_open(pid);
  if (!handle.valid()) throw SystemError("pidfd_open", fmt::format("pid {}", pid), ESRCH);
  return handle;
}

ProcessHandle ProcessHandle::of_ended() {
  Fd event(::eventfd(1, EFD_CLOEXEC));
  if (!event.valid()) throw SystemError("eventfd", "", errno);
  return ProcessHandle(std::move(event));
}

ProcessHandle ProcessHandle::open_child(int pid) {
  try {
    return open(pid);
  } catch (...) {
    // Not reaped yet, so the number is still the child's.
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
    throw;
  }
}

bool ProcessHandle::signal(int number) const {
  if (::syscall(SYS_pidfd_send_signal, fd_.get(), number, nullptr, 0U) == 0) return true;
  if (errno == ESRCH) return false;
  throw SystemError("pidfd_send_signal", fmt::format("signal {}", number), errno);
}

bool ProcessHandle::wait_ended(Deadline deadline) const {
  for (;;) {
    pollfd poll{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    std::timespec left{};
    if (!deadline.is_never()) left = deadline.remaining();
    const int rc = ::ppoll(&poll, 1, deadline.is_never() ? nullptr : &left, nullptr);
    if (rc > 0) return true;
    if (rc == 0) return false;
    if (errno != EINTR) throw SystemError("ppoll", "a process descriptor", errno);
  }
}

ProcessHandle::Reap ProcessHandle::reap(ExitCode& code, ResourceUsage* usage) const {
  siginfo_t info{};
  rusage used{};
  // NOTE: the C library's waitid() does not pass on what the kernel says of the usage.
  while (::syscall(SYS_waitid, kPidfdIdType, fd_.get(), &info, WEXITED | WNOHANG, &used) != 0) {
    if (errno == EINTR) continue;
    if (errno == ECHILD) return Reap::not_a_child;
    throw SystemError("waitid", "a process descriptor", errno);
  }
  if (info.si_pid == 0) return Reap::running;
  code = from_siginfo(info);
  if (usage != nullptr) {
    const auto time = [](const timeval& value) {
      return std::chrono::seconds(value.tv_sec) + std::chrono::microseconds(value.tv_usec);
    };
    *usage = {.peak_bytes = static_cast<std::size_t>(used.ru_maxrss) * 1024,
              .user = time(used.ru_utime),
              .system = time(used.ru_stime)};
  }
  return Reap::reaped;
}

std::optional<ExitCode> ProcessHandle::exit_code_from_kernel() const {
  // Before it is reaped /proc knows, afterwards the descriptor.
  if (const std::optional<ExitCode> code = exit_code_of_zombie()) return code;
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  const unsigned long request = _IOWR(0xFF, 11, PidfdInfo);
  if (::ioctl(fd_.get(), request, &info) != 0 || (info.mask & kPidfdInfoExit) == 0) {
    return std::nullopt;
  }
  return from_status(info.exit_code);
}

std::optional<ExitCode> ProcessHandle::exit_code_of_zombie() const {
  std::array<char, 64> path{};
  std::array<char, 1024> text{};
  fmt::format_to_n(path.data(), path.size() - 1, "/proc/self/fdinfo/{}", fd_.get());
  if (!read_text(path.data(), text)) return std::nullopt;
  const char* line = std::strstr(text.data(), "\nPid:");
  const long pid = line != nullptr ? std::strtol(line + std::strlen("\nPid:"), nullptr, 10) : -1;
  if (pid <= 0) return std::nullopt;
  path.fill('\0');
  fmt::format_to_n(path.data(), path.size() - 1, "/proc/{}/stat", pid);
  if (!read_text(path.data(), text)) return std::nullopt;
  // proc(5): the state follows the command, the exit status is the 52nd field.
  const char* at = std::strrchr(text.data(), ')');
  if (at == nullptr || std::strncmp(at, ") Z", 3) != 0) return std::nullopt;
  for (int field = 2; at != nullptr && field < 52; ++field) at = std::strchr(at + 1, ' ');
  if (at == nullptr) return std::nullopt;
  const int status = static_cast<int>(std::strtol(at, nullptr, 10));
  // SUBTLE: not reaped even now, so nobody else can have had the number when the file was read.
  if (::syscall(SYS_pidfd_send_signal, fd_.get(), 0, nullptr, 0U) != 0) return std::nullopt;
  return from_status(status);
}

// Asked several times in each call over a connection, where a system call each is felt. The page is
// empty again in every copy, also in one that was made without the C library's fork, which runs no
// handlers.
int current_pid() noexcept {
  static std::atomic<int>* const known = [] {
    const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* const page =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return static_cast<std::atomic<int>*>(nullptr);
    if (::madvise(page, bytes, MADV_WIPEONFORK) == 0) return ::new (page) std::atomic<int>(0);
    ::munmap(page, bytes);
    return static_cast<std::atomic<int>*>(nullptr);
  }();
  if (known == nullptr) return ::getpid();
  int pid = known->load(std::memory_order_relaxed);  // whoever stores stores the same
  if (pid == 0) {
    pid = ::getpid();
    known->store(pid, std::memory_order_relaxed);
  }
  return pid;
}
int parent_pid() noexcept { return ::getppid(); }
int current_tid() noexcept { return static_cast<int>(::syscall(SYS_gettid)); }

int fork_process() {
  const int pid = fork_member();
  if (pid < 0) throw SystemError("fork", "", errno);
  return pid;
}

void note_exit_status(std::atomic<std::int32_t>* where) noexcept {
  static int noted_in = 0;
  noted_in = ::getpid();
  ::on_exit(
      [](int status, void* place) {
        if (noted_in != ::getpid()) return;  // a fork of the process that is meant
        // As a parent will see it.
        static_cast<std::atomic<std::int32_t>*>(place)->store(status & 0xff);
      },
      where);
}

void exit_now(int code) noexcept { ::_exit(code); }

void kill_self() noexcept {
  ::kill(::getpid(), SIGKILL);
  ::_exit(128 + SIGKILL);
}

std::optional<std::chrono::nanoseconds> cpu_time_of(int pid) noexcept {
  clockid_t clock{};
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) {
    return std::nullopt;
  }
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

int thread_count() noexcept {
  // Links of the directory: itself, its parent, and a folder for each thread. No descriptor needed.
  struct stat tasks {};
  if (::stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 2) {
    return static_cast<int>(tasks.st_nlink) - 2;
  }
  return __libc_single_threaded != 0 ? 1 : 2;
}

void set_thread_name(const char* name) noexcept { ::prctl(PR_SET_NAME, name); }

}  // namespace brood::detail
