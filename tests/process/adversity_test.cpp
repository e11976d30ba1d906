// Machines that deny what every program is used to have: each gives a working family, or one clear
// error, exit code 1 and nobody left; never a hang or a crash.
// Not for ThreadSanitizer: processes.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "support/program.hpp"
#include "support/sanitizers.hpp"
#include "support/start_methods.hpp"

namespace adversity_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::StartMethod;

class AdversityTest : public EveryStartMethod {
 protected:
  void SetUp() override {
    EveryStartMethod::SetUp();
    if (kAddressSanitizer && !IsSkipped())
      GTEST_SKIP() << "the sanitizer needs what is denied here";
  }

  enum class Outcome { works, fails_clearly, cannot_prepare, other };

  /// Runs a mode of family_program as prepared, and says what came of it.
  static Outcome run(const std::string& mode, std::function<bool()> prepare,
                     const std::vector<int>& closed = {}) {
    Program program("family_program", {.arguments = {mode, brood::to_string(GetParam())},
                                       .prepare = std::move(prepare),
                                       .closed_streams = closed});
    const std::optional<int> code = program.wait(60s);
    if (code == Program::kCannotPrepare) return Outcome::cannot_prepare;
    const std::string err = program.err();
    EXPECT_TRUE(code == 0 || code == 1)
        << (code ? "exit code " + std::to_string(*code) : "no end") << '\n'
        << program.describe();
    EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
    const bool hears = std::find(closed.begin(), closed.end(), 2) == closed.end();
    if (code == 0) {
      EXPECT_EQ(program.out(), mode == "scribble" ? "" : "fine\n");
      EXPECT_EQ(err, "") << "it works in silence";
      return Outcome::works;
    }
    if (hears) {
      EXPECT_TRUE(err.starts_with("error: ")) << err;
      EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
      EXPECT_GT(err.size(), 30u) << err;
      if (std::getenv("BROOD_TEST_VERBOSE") != nullptr) std::printf("    %s", err.c_str());
    }
    return code == 1 ? Outcome::fails_clearly : Outcome::other;
  }

  static std::function<bool()> limit(__rlimit_resource what, rlim_t most) {
    return [=] {
      const rlimit limits{most, most};
      return ::setrlimit(what, &limits) == 0;
    };
  }
  static constexpr rlim_t kMiB = 1 << 20U;
};
BROOD_UNDER_EVERY_START_METHOD(AdversityTest);

TEST_P(AdversityTest, LittleAddressSpace) {
  EXPECT_EQ(run("work", limit(RLIMIT_AS, 300 * kMiB)), Outcome::works);
  EXPECT_EQ(run("work", limit(RLIMIT_AS, 100 * kMiB)), Outcome::works);
  for (const rlim_t megabytes : {60U, 40U, 25U, 20U, 18U, 16U, 14U, 12U, 10U}) {
    SCOPED_TRACE(megabytes);
    // Below some size the program itself cannot be loaded; the dynamic linker says so.
    Program probe("family_program",
                  {.arguments = {}, .prepare = limit(RLIMIT_AS, megabytes * kMiB)});
    const auto loads = probe.wait();
    if (loads != 2 && probe.err().find("error: ") != 0) break;
    run("work", limit(RLIMIT_AS, megabytes * kMiB));
  }
  EXPECT_EQ(run("heavy_work", limit(RLIMIT_AS, 200 * kMiB)), Outcome::fails_clearly);
}

TEST_P(AdversityTest, FewDescriptors) {
  for (const rlim_t most : {4U, 5U, 6U, 7U, 8U, 9U, 10U, 11U, 12U, 13U, 14U, 16U, 18U}) {
    SCOPED_TRACE(most);
    run("work", limit(RLIMIT_NOFILE, most));
  }
  EXPECT_EQ(run("work", limit(RLIMIT_NOFILE, 24)), Outcome::works);
}

TEST_P(AdversityTest, FewProcesses) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become a user without other processes";
  for (const rlim_t most : {1U, 2U, 3U, 4U, 5U}) {
    SCOPED_TRACE(most);
    const Outcome outcome = run("work", [most] {
      const uid_t nobody = 54321;
      return ::setresgid(nobody, nobody, nobody) == 0 && ::setresuid(nobody, nobody, nobody) == 0 &&
             limit(RLIMIT_NPROC, most)();
    });
    if (outcome == Outcome::cannot_prepare) {
      GTEST_SKIP() << "another user may not run programs of this folder";
    }
    if (most == 1) {
      EXPECT_EQ(outcome, Outcome::fails_clearly);
    }
  }
}

/// A cgroup with little memory; gone with this object.
class MemoryGroup {
 public:
  explicit MemoryGroup(rlim_t bytes)
      : path_(fmt::format("/sys/fs/cgroup/memory/brood-test-{}", ::getpid())) {
    if (::mkdir(path_.c_str(), 0700) != 0) return;
    valid_ = write("memory.limit_in_bytes", std::to_string(bytes));
  }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;
  ~MemoryGroup() { ::rmdir(path_.c_str()); }
  [[nodiscard]] bool valid() const { return valid_; }
  [[nodiscard]] bool enter() const { return write("cgroup.procs", "0"); }

 private:
  [[nodiscard]] bool write(const char* file, const std::string& text) const {
    const int fd = ::open((path_ + "/" + file).c_str(), O_WRONLY | O_CLOEXEC);
    const bool done =
        fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    return done;
  }
  std::string path_;
  bool valid_ = false;
};

TEST_P(AdversityTest, LittleMemory) {
  for (const rlim_t megabytes : {64U, 32U}) {
    SCOPED_TRACE(megabytes);
    const MemoryGroup group(megabytes * kMiB);
    if (!group.valid()) GTEST_SKIP() << "no memory cgroup can be made here";
    EXPECT_EQ(run("work", [&] { return group.enter(); }), Outcome::works);
  }
  const MemoryGroup group(96 * kMiB);
  if (!group.valid()) GTEST_SKIP() << "no memory cgroup can be made here";
  // Two results of 32 MB, copied out: more than there is.
  EXPECT_EQ(run("heavy_work", [&] { return group.enter(); }), Outcome::fails_clearly);
}

/// Mounts of this process's own.
bool unshare_mounts() {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

TEST_P(AdversityTest, ReadOnlySharedMemoryDirectory) {
  const Outcome outcome = run("work", [] {
    return unshare_mounts() && ::mount("none", "/dev/shm", "tmpfs", MS_RDONLY, nullptr) == 0;
  });
  if (outcome == Outcome::cannot_prepare) GTEST_SKIP() << "mounts cannot be changed here";
  EXPECT_EQ(outcome, Outcome::works) << "nothing is kept there";
}

TEST_P(AdversityTest, NoProc) {
  const Outcome outcome =
      run("work", [] { return unshare_mounts() && ::umount2("/proc", MNT_DETACH) == 0; });
  if (outcome == Outcome::cannot_prepare) GTEST_SKIP() << "mounts cannot be changed here";
  EXPECT_EQ(outcome, Outcome::works);
}

TEST_P(AdversityTest, ClosedStandardStreams) {
  for (const std::vector<int>& closed :
       {std::vector<int>{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}}) {
    SCOPED_TRACE(fmt::format("{} closed, the last is {}", closed.size(), closed.back()));
    EXPECT_EQ(run("scribble", {}, closed), Outcome::works);
  }
}

}  // namespace
}  // namespace adversity_test
