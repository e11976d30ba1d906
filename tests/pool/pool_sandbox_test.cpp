// What a worker in a sandbox cannot do, and that it works as ever otherwise.
// Not for ThreadSanitizer: processes.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/worker_state.hpp>

#include "pool_test_support.hpp"

namespace pool_sandbox_test {
namespace {

using namespace brood::testing;
using brood::Pool;
using brood::Sandbox;
using brood::WorkerCrashed;
using namespace std::chrono_literals;

class PoolSandboxTest : public PoolTest {
 protected:
  void SetUp() override {
    PoolTest::SetUp();
    if (kAddressSanitizer && !IsSkipped()) {
      GTEST_SKIP() << "the sanitizer opens files and traces its own process when it ends";
    }
  }
};
BROOD_UNDER_EVERY_START_METHOD(PoolSandboxTest);

/// 0, or errno.
int error_of(long result) { return result < 0 ? errno : 0; }

int open_to_read(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  const int error = error_of(fd);
  if (fd >= 0) ::close(fd);
  return error;
}
int open_to_write(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  const int error = error_of(fd);
  if (fd >= 0) ::close(fd);
  return error;
}
int make_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  const int error = error_of(child);
  if (child > 0) ::waitpid(child, nullptr, 0);
  return error;
}
int spawn_program() {
  std::string name = "true";
  char* arguments[] = {name.data(), nullptr};
  char* environment[] = {nullptr};
  pid_t child = 0;
  const int error = ::posix_spawn(&child, "/bin/true", nullptr, nullptr, arguments, environment);
  if (error == 0) ::waitpid(child, nullptr, 0);
  return error;
}

TEST_P(PoolSandboxTest, ItComputesAndNothingElse) {
  const std::string file = dir_.file("data");
  give_sign(file);
  Pool pool({.workers = 2, .sandbox = Sandbox{}});
  EXPECT_EQ(pool.apply(open_to_read, file), EPERM);
  EXPECT_EQ(pool.apply(open_to_write, file), EPERM);
  EXPECT_EQ(
      pool.apply([](const std::string& path) { return error_of(::unlink(path.c_str())); }, file),
      EPERM);
  EXPECT_EQ(pool.apply(make_process), EPERM);
  EXPECT_EQ(pool.apply(spawn_program), EPERM);
  for (const int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK}) {
    EXPECT_EQ(pool.apply([](int of) { return error_of(::socket(of, SOCK_STREAM, 0)); }, family),
              EPERM);
  }
  EXPECT_EQ(pool.apply([] { return error_of(::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600)); }),
            EPERM);
  EXPECT_TRUE(sign_given(file));
  EXPECT_EQ(pool.counts().crashed, 0U);
}

TEST_P(PoolSandboxTest, OtherProcessesAreOutOfReach) {
  Pool pool({.workers = 1, .sandbox = Sandbox{.files = Sandbox::Files::write}});
  const int self = ::getpid();
  EXPECT_EQ(pool.apply([](int pid) { return error_of(::kill(pid, 0)); }, self), EPERM);
  EXPECT_EQ(pool.apply([](int) { return error_of(::kill(0, 0)); }, self), EPERM);
  EXPECT_EQ(pool.apply([](int) { return error_of(::kill(::getpid(), 0)); }, self), 0);
  EXPECT_EQ(pool.apply([](int pid) { return error_of(::ptrace(PTRACE_ATTACH, pid, 0, 0)); }, self),
            EPERM);
  EXPECT_EQ(pool.apply(
                [](int pid) {
                  char byte = 0;
                  const iovec here{&byte, 1};
                  const iovec there{&byte, 1};
                  return error_of(::process_vm_readv(pid, &here, 1, &there, 1, 0));
                },
                self),
            EPERM);
  EXPECT_EQ(
      pool.apply(
          [](int pid) {
            rlimit limit{};
            return error_of(::prlimit(static_cast<pid_t>(pid), RLIMIT_NOFILE, nullptr, &limit));
          },
          self),
      EPERM);
  EXPECT_EQ(
      pool.apply(
          [](int pid) { return error_of(::setpriority(PRIO_PROCESS, static_cast<id_t>(pid), 19)); },
          self),
      EPERM);
}

TEST_P(PoolSandboxTest, PrivilegesAreGone) {
  Pool pool({.workers = 1, .sandbox = Sandbox{.files = Sandbox::Files::write}});
  EXPECT_EQ(pool.apply([] { return error_of(::setuid(0)); }), EPERM);
  EXPECT_EQ(pool.apply([] { return error_of(::chroot("/")); }), EPERM);
  EXPECT_NE(pool.apply([] {
    const rlimit more{1U << 20U, 1U << 20U};
    return error_of(::setrlimit(RLIMIT_CORE, &more));  // to get it back needs a privilege
  }),
            0);
  // What belongs to somebody else is closed, to root too.
  if (::getuid() != 0) return;
  const std::string other = dir_.file("other");
  give_sign(other);
  ASSERT_EQ(::chown(other.c_str(), 65534, 65534), 0);
  ASSERT_EQ(::chmod(other.c_str(), 0600), 0);
  EXPECT_EQ(pool.apply(open_to_read, other), EACCES);
}

TEST_P(PoolSandboxTest, WhatIsAllowedWorks) {
  const std::string file = dir_.file("data");
  give_sign(file);
  {
    Pool pool({.workers = 1, .sandbox = Sandbox{.files = Sandbox::Files::read}});
    EXPECT_EQ(pool.apply(open_to_read, file), 0);
    EXPECT_EQ(pool.apply(open_to_write, file), EPERM);
    EXPECT_EQ(
        pool.apply([](const std::string& path) { return error_of(::open(path.c_str(), O_RDWR)); },
                   file),
        EPERM);
    EXPECT_EQ(pool.apply(
                  [](const std::string& path) {
                    return error_of(::rename(path.c_str(), (path + "2").c_str()));
                  },
                  file),
              EPERM);
    EXPECT_EQ(pool.apply(
                  [](const std::string& path) {
                    std::ifstream in(path);
                    return std::string(std::istreambuf_iterator<char>(in), {});
                  },
                  file),
              ".");
  }
  {
    Pool pool({.workers = 1, .sandbox = Sandbox{.files = Sandbox::Files::write}});
    EXPECT_EQ(pool.apply(open_to_write, dir_.file("new")), 0);
    EXPECT_EQ(pool.apply(make_process), EPERM);
  }
  {
    Pool pool({.workers = 1, .sandbox = Sandbox{.network = true}});
    EXPECT_EQ(pool.apply([] {
      const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
      const int error = error_of(fd);
      ::close(fd);
      return error;
    }),
              0);
  }
  {
    Pool pool(
        {.workers = 1,
         .sandbox = Sandbox{.files = Sandbox::Files::read, .programs = true, .processes = true}});
    EXPECT_EQ(pool.apply(make_process), 0);
    EXPECT_EQ(pool.apply(spawn_program), 0);
    EXPECT_EQ(pool.apply([] { return std::system("exit 3"); }), 3 << 8);
    EXPECT_EQ(pool.apply(open_to_write, dir_.file("another")), EPERM);
  }
}

std::vector<double> make_much(int n) {
  return std::vector<double>(1U << 20U, static_cast<double>(n));
}
int throw_deep(int n) {
  if (n == 3) throw std::out_of_range("three");
  return n;
}

TEST_P(PoolSandboxTest, WorkersWorkAsEver) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers, .sandbox = Sandbox{}});
    EXPECT_EQ(pool.map([](int n) { return n + 1; }, first_integers(1000))[999], 1000);
    EXPECT_EQ(pool.apply(make_much, 4), make_much(4));
    try {
      pool.map(throw_deep, first_integers(10));
      FAIL() << "nothing was thrown";
    } catch (const std::out_of_range& e) {
      const brood::RemoteTrace* const trace = brood::remote_trace(e);
      ASSERT_NE(trace, nullptr);
      EXPECT_FALSE(trace->stack().empty());
    }
    const auto abort = as<WorkerCrashed>(thrown_by([&] { pool.apply([] { std::abort(); }); }));
    EXPECT_EQ(abort.signal(), SIGABRT);
    EXPECT_FALSE(abort.stack().empty());
    EXPECT_EQ(pool.apply(
                  [](int n) {
                    int result = 0;
                    std::thread([&] { result = n; }).join();
                    return result;
                  },
                  7),
              7);
    EXPECT_THROW(pool.with({.timeout = 50ms}).apply([] {
      for (;;) ::pause();
    }),
                 brood::TaskTimeout);
    const auto needs = [](int megabytes) {
      const std::unique_ptr<char[]> block(new char[static_cast<std::size_t>(megabytes) << 20U]);
      return block[0] == 1 ? 1 : 0;
    };
    EXPECT_THROW(pool.with({.memory = 64U << 20U}).apply(needs, 128), brood::MemoryLimitExceeded);
    EXPECT_EQ(pool.with({.memory = 64U << 20U}).apply(needs, 16), 0);
    pool.close();
    pool.join();
  }
}

TEST_P(PoolSandboxTest, TheInitializerIsBefore) {
  const std::string file = dir_.file("model");
  give_sign(file);
  const auto load = [](const std::string& path) {
    auto& model = brood::worker_state<std::string>();
    std::ifstream in(path);
    model.assign(std::istreambuf_iterator<char>(in), {});
  };
  Pool pool({.workers = 2, .initializer = brood::bind(load, file), .sandbox = Sandbox{}});
  EXPECT_EQ(pool.apply([] { return brood::worker_state<std::string>(); }), ".");
  EXPECT_EQ(pool.apply(open_to_read, file), EPERM);
  // And so for those who come later.
  EXPECT_THROW(pool.apply([] { std::abort(); }), WorkerCrashed);
  EXPECT_EQ(pool.apply(open_to_read, file), EPERM);
  EXPECT_EQ(pool.apply([] { return brood::worker_state<std::string>(); }), ".");
}

TEST_P(PoolSandboxTest, LimitsOfTheSystem) {
  Pool pool(
      {.workers = 1,
       .sandbox = Sandbox{.files = Sandbox::Files::read, .memory = 64U << 20U, .open_files = 32}});
  const auto keep = [](int megabytes) {
    auto& kept = brood::worker_state<std::vector<std::unique_ptr<char[]>>>();
    kept.push_back(std::make_unique<char[]>(static_cast<std::size_t>(megabytes) << 20U));
    return kept.size();
  };
  // All items together.
  EXPECT_EQ(pool.apply(keep, 40), 1U);
  EXPECT_THROW(pool.apply(keep, 40), std::bad_alloc);
  EXPECT_EQ(pool.apply([] {
    for (int i = 0; i < 32; ++i) {
      if (::dup(1) < 0) return errno;
    }
    return 0;
  }),
            EMFILE);
}

TEST_P(PoolSandboxTest, TheCallerIsNotPutIntoOne) {
  EXPECT_THROW(Pool({.workers = 0, .sandbox = Sandbox{}}), brood::ArgumentError);
  EXPECT_EQ(open_to_write(dir_.file("mine")), 0);
}

}  // namespace
}  // namespace pool_sandbox_test
