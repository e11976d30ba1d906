// Other processes, for tests of what lies below the start methods: forked, told apart, killed.
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include <brood/platform/deadline.hpp>
#include <brood/platform/poller.hpp>

namespace brood::testing {

/// How long a test waits for what must happen before it calls it a failure.
inline detail::Deadline patience() { return detail::Deadline::after(std::chrono::seconds(20)); }

/// A T that this process and all that it forks from now on see.
template <class T>
class Shared {
 public:
  Shared()
      : value_(new(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                          -1, 0)) T{}) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(static_cast<void*>(value_), sizeof(T)); }
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

/// Opened once for each pass(), across processes. Make it before the fork.
class Gate {
 public:
  Gate() : fd_(::eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC)) {}
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() { ::close(fd_); }
  void open(std::uint64_t times = 1) const {
    if (::write(fd_, &times, sizeof times) != sizeof times) throw std::runtime_error("Gate::open");
  }
  /// False when nobody opened it in time.
  [[nodiscard]] bool pass(detail::Deadline deadline = patience()) const {
    std::uint64_t one = 0;
    return detail::wait_readable(fd_, deadline) && ::read(fd_, &one, sizeof one) == sizeof one;
  }

 private:
  int fd_;
};

/// The state letter of a thread in /proc: 'S' sleeping, 'T' stopped, 'Z' zombie; '?' when gone.
inline char state_of(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text, '\0');  // all of it, or nothing when the process ends meanwhile
  const std::size_t end = text.rfind(')');
  return end == std::string::npos ? '?' : text[end + 2];
}

/// Waits until the thread is in that state; false when it never is.
[[nodiscard]] inline bool await_state(int pid, char state) {
  const detail::Deadline deadline = patience();
  while (state_of(pid) != state) {
    if (deadline.passed()) return false;
    ::usleep(200);
  }
  return true;
}

/// A child that runs `body` and exits; with 1 when an expectation failed in it, with 99 when an
/// exception left it. Killed and reaped with this object; dies with this process.
class Forked {
 public:
  template <class Body>
  explicit Forked(Body body) {
    const pid_t parent = ::getpid();
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(98);
    int code = 0;
    try {
      body();
      code = ::testing::Test::HasFailure() ? 1 : 0;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "child: %s\n", e.what());
      code = 99;
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  Forked(Forked&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Forked(const Forked&) = delete;
  Forked& operator=(const Forked&) = delete;
  ~Forked() { kill(); }

  [[nodiscard]] int pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  /// Reaps it: its exit code, or minus the signal that killed it.
  int wait() {
    if (pid_ < 0) return 0;
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  void kill() {
    if (pid_ < 0) return;
    signal(SIGKILL);
    wait();
  }

 private:
  pid_t pid_ = -1;
};

/// Its exit code, or minus the signal that killed it.
template <class Body>
int exit_code_of(Body body) {
  return Forked(std::move(body)).wait();
}

/// Runs `body` in a child, in which all must be as expected.
template <class Body>
void in_child(Body body) {
  EXPECT_EQ(exit_code_of(std::move(body)), 0) << "see above for what the child saw";
}

}  // namespace brood::testing
