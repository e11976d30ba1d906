// Not for ThreadSanitizer: processes.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include <brood/platform/cpu.hpp>

#include "support/forked.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::detail::cpu_test {
namespace {

using namespace brood::testing;
namespace fs = std::filesystem;

TEST(Cpu, CountsWhatAffinityAllows) {
  cpu_set_t allowed;
  ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
  EXPECT_EQ(affinity_count(), CPU_COUNT(&allowed));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    in_child([&] {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
      EXPECT_EQ(affinity_count(), 1);
    });
    break;
  }
  EXPECT_EQ(affinity_count(), CPU_COUNT(&allowed));
}

TEST(Cpu, LibrariesComputeWithSoManyThreads) {
  in_child([] {
    ::unsetenv("OMP_NUM_THREADS");
    void* const openmp = ::dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL);
    limit_library_threads(3);
    EXPECT_STREQ(std::getenv("OMP_NUM_THREADS"), "3");
    EXPECT_STREQ(std::getenv("OPENBLAS_NUM_THREADS"), "3");
    if (openmp == nullptr) return;
    auto* const most = reinterpret_cast<int (*)()>(::dlsym(openmp, "omp_get_max_threads"));
    ASSERT_NE(most, nullptr);
    EXPECT_EQ(most(), 3);
    ::setenv("OMP_NUM_THREADS", "3", 1);  // as if by the user
    limit_library_threads(2);
    EXPECT_STREQ(std::getenv("OMP_NUM_THREADS"), "3");
    EXPECT_EQ(most(), 3);
  });
}

TEST(Cpu, ProcessesAreBoundToOneAfterTheOther) {
  const int count = affinity_count();
  for (int i = 0; i != 2 * count; ++i) {
    in_child([&] {
      pin_to_cpu(static_cast<unsigned>(i));
      EXPECT_EQ(affinity_count(), 1);
      const int cpu = ::sched_getcpu();
      pin_to_cpu(7);
      EXPECT_EQ(::sched_getcpu(), cpu) << "there is no other left";
    });
  }
}

bool write_to(const fs::path& file, const std::string& text) {
  std::ofstream out(file);
  out << text << std::flush;
  return out.good();
}

/// A control group below `parent`; removed again.
class Group {
 public:
  explicit Group(const fs::path& parent, const std::string& name = "brood test") {
    path_ = parent / (name + " " + std::to_string(::getpid()));
    std::error_code error;
    made_ = fs::create_directory(path_, error);
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group() {
    // A process that left is taken from its group a moment after it was reaped.
    for (int i = 0; made_ && ::rmdir(path_.c_str()) != 0 && i < 1000; ++i) ::usleep(1000);
  }
  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] const fs::path& path() const { return path_; }
  [[nodiscard]] bool set(const std::string& file, const std::string& text) const {
    return write_to(path_ / file, text);
  }
  /// The quota that a process in this group sees; -1000 when it cannot be moved there.
  [[nodiscard]] int quota_inside() const {
    return exit_code_of([&] {
      if (!set("cgroup.procs", std::to_string(::getpid()))) ::_exit(200);
      ::_exit(cgroup_quota());
    });
  }

 private:
  fs::path path_;
  bool made_ = false;
};

/// Where the v1 controller `cpu` is mounted, and this process's group in it.
std::optional<fs::path> own_v1_group() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t at = line.find(":cpu:");
    if (at == std::string::npos) continue;
    fs::path group = "/sys/fs/cgroup/cpu" + line.substr(at + 5);
    if (fs::exists(group / "cpu.cfs_quota_us")) return group;
  }
  return std::nullopt;
}

TEST(Cpu, QuotaOfAV1GroupIsRoundedUp) {
  const auto here = own_v1_group();
  if (!here) GTEST_SKIP() << "no cpu controller of control groups v1 at /sys/fs/cgroup/cpu";
  const Group group(*here);
  if (!group.made()) GTEST_SKIP() << "no permission to make a control group";
  const int unlimited = cgroup_quota();
  EXPECT_EQ(group.quota_inside(), unlimited) << "a new group has no limit of its own";
  if (unlimited != 0) GTEST_SKIP() << "this process is limited already";
  const struct {
    const char* quota;
    const char* period;
    int cpus;
  } kCases[] = {{"100000", "100000", 1}, {"150000", "100000", 2}, {"200000", "100000", 2},
                {"5000", "100000", 1},   {"25000", "10000", 3},   {"-1", "100000", 0}};
  for (const auto& [quota, period, cpus] : kCases) {
    ASSERT_TRUE(group.set("cpu.cfs_quota_us", "-1"));
    ASSERT_TRUE(group.set("cpu.cfs_period_us", period));
    ASSERT_TRUE(group.set("cpu.cfs_quota_us", quota));
    EXPECT_EQ(group.quota_inside(), cpus) << quota << " of " << period;
  }
}

TEST(Cpu, TheTightestQuotaOnTheWayUpCounts) {
  const auto here = own_v1_group();
  if (!here) GTEST_SKIP() << "no cpu controller of control groups v1 at /sys/fs/cgroup/cpu";
  if (cgroup_quota() != 0) GTEST_SKIP() << "this process is limited already";
  const Group outer(*here);
  if (!outer.made()) GTEST_SKIP() << "no permission to make a control group";
  const Group inner(outer.path());
  ASSERT_TRUE(inner.made());
  ASSERT_TRUE(outer.set("cpu.cfs_quota_us", "300000"));
  EXPECT_EQ(inner.quota_inside(), 3) << "the outer one's";
  ASSERT_TRUE(inner.set("cpu.cfs_quota_us", "200000"));
  EXPECT_EQ(inner.quota_inside(), 2) << "the inner one's";
  EXPECT_EQ(outer.quota_inside(), 3);
}

TEST(Cpu, QuotaOfAV2GroupIsRoundedUp) {
  std::ifstream groups("/proc/self/cgroup");
  fs::path here;
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::")) here = "/sys/fs/cgroup" + line.substr(3);
  }
  if (here.empty() || !fs::exists(here / "cpu.max")) {
    GTEST_SKIP() << "no cpu controller of control groups v2 for this process";
  }
  if (cgroup_quota() != 0) GTEST_SKIP() << "this process is limited already";
  const Group group(here);
  if (!group.made() || !group.set("cpu.max", "150000 100000")) {
    GTEST_SKIP() << "no permission to limit a control group";
  }
  const int quota = group.quota_inside();
  if (quota == 200) GTEST_SKIP() << "no permission to enter a control group";
  EXPECT_EQ(quota, 2);
  ASSERT_TRUE(group.set("cpu.max", "max 100000"));
  EXPECT_EQ(group.quota_inside(), 0);
}

TEST(Cpu, WithoutProcThereIsNoQuota) {
  const TempDir empty;
  const int code = exit_code_of([&] {
    if (::chroot(empty.path().c_str()) != 0) ::_exit(50);
    EXPECT_EQ(cgroup_quota(), 0);
    EXPECT_GE(affinity_count(), 1);
  });
  if (code == 50) GTEST_SKIP() << "chroot is not permitted here";
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace brood::detail::cpu_test
