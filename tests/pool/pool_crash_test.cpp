// What is known of a worker that died: where, of what, and what it had used.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/platform/code_location.hpp>
#include <brood/platform/control_group.hpp>
#include <brood/process.hpp>

#include "pool_test_support.hpp"

namespace pool_crash_test {
namespace {

using namespace brood::testing;
using brood::Pool;
using brood::StartMethod;
using brood::WorkerCrashed;
using namespace std::chrono_literals;

class PoolCrashTest : public PoolTest {
 protected:
  void SetUp() override {
    PoolTest::SetUp();
    if (kAddressSanitizer && !IsSkipped()) {
      GTEST_SKIP() << "the sanitizer's own handlers are left alone";
    }
  }
};
BROOD_UNDER_EVERY_START_METHOD(PoolCrashTest);

void no_core() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

[[gnu::noinline]] void write_there(std::uintptr_t address) {
  *reinterpret_cast<volatile int*>(address) = 1;
}
[[gnu::noinline]] int read_input(int n) {
  no_core();
  if (n == 3) write_there(0x18);
  return n;
}
int recurse(int depth) {
  no_core();
  static volatile bool deeper = true;
  volatile char frame[256];
  frame[0] = static_cast<char>(depth);
  return deeper ? recurse(depth + 1) + frame[0] : 0;
}
int give_up(int) {
  no_core();
  std::abort();
}

std::string all_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}
void expect_in_stack(const WorkerCrashed& crash, const std::string& function) {
  EXPECT_FALSE(crash.stack().empty());
  if (!brood::detail::reads_debug_information()) return;
  EXPECT_NE(all_of(crash.stack()).find(function), std::string::npos) << crash.describe();
}

TEST_P(PoolCrashTest, SaysWhere) {
  Pool pool({.workers = 2});
  const auto outcomes = pool.try_map(read_input, first_integers(6));
  const auto crash = as<WorkerCrashed>(outcomes[3].error());
  EXPECT_EQ(crash.signal(), SIGSEGV);
  EXPECT_EQ(crash.crash().address, 0x18u);
  EXPECT_EQ(crash.crash().reason, "nothing is mapped there");
  expect_in_stack(crash, "write_there");
  expect_in_stack(crash, "read_input");
  const std::string what = crash.what();
  EXPECT_EQ(what, "worker " + crash.worker() + " (pid " + std::to_string(crash.pid()) +
                      ") was killed by SIGSEGV at address 0x18 while it computed item 3");
  EXPECT_TRUE(crash.describe().starts_with(what + "\n  reason: nothing is mapped there\n    "))
      << crash.describe();
  const WorkerCrashed copy = crash;
  EXPECT_EQ(&copy.stack(), &crash.stack());
  for (std::size_t i = 0; i < 6; ++i) EXPECT_TRUE(i == 3 || outcomes[i].has_value());
}

TEST_P(PoolCrashTest, EachDeathIsItsOwn) {
  Pool pool({.workers = 1});
  const auto overflow = as<WorkerCrashed>(thrown_by([&] { pool.submit(recurse, 0).get(); }));
  EXPECT_EQ(overflow.signal(), SIGSEGV);
  expect_in_stack(overflow, "recurse");
  const auto abort = as<WorkerCrashed>(thrown_by([&] { pool.submit(give_up, 0).get(); }));
  EXPECT_EQ(abort.signal(), SIGABRT);
  EXPECT_EQ(abort.crash().address, 0u);
  expect_in_stack(abort, "give_up");
  const auto kill =
      as<WorkerCrashed>(thrown_by([&] { pool.submit([] { ::raise(SIGKILL); }).get(); }));
  EXPECT_EQ(kill.signal(), SIGKILL);
  EXPECT_TRUE(kill.stack().empty());
  EXPECT_FALSE(kill.out_of_memory());
  const auto exit = as<WorkerCrashed>(thrown_by([&] { pool.submit([] { ::_exit(3); }).get(); }));
  EXPECT_TRUE(exit.stack().empty());
  EXPECT_EQ(exit.crash().reason, "");
}

TEST_P(PoolCrashTest, OfAPoolInAWorkerToo) {
  Pool pool({.workers = 1});
  const auto inner = [] {
    Pool mine({.workers = 1});
    mine.submit(read_input, 3).get();
  };
  const auto crash = as<WorkerCrashed>(thrown_by([&] { pool.submit(inner).get(); }));
  EXPECT_EQ(crash.crash().address, 0x18u);
  EXPECT_EQ(crash.crash().reason, "nothing is mapped there");
  EXPECT_TRUE(crash.crash().usage);
  expect_in_stack(crash, "write_there");
}

TEST_P(PoolCrashTest, AHandlerOfTheUsersOwn) {
  Pool pool({.workers = 1, .initializer = [] { ::signal(SIGSEGV, [](int) { ::_exit(77); }); }});
  const auto crash = as<WorkerCrashed>(thrown_by([&] { pool.submit(read_input, 3).get(); }));
  EXPECT_EQ(crash.signal(), 0);
  EXPECT_EQ(crash.exit_code(), 77);
  EXPECT_TRUE(crash.stack().empty());
}

TEST_P(PoolCrashTest, WhatItHadUsed) {
  Pool pool({.workers = 1});
  const auto work = [] {
    constexpr std::size_t kBytes = 64 << 20U;
    const auto memory = std::make_unique<char[]>(kBytes);
    std::memset(memory.get(), 1, kBytes);
    asm volatile("" : : "r"(memory.get()) : "memory");
    timespec used{};
    do {
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec == 0 && used.tv_nsec < 60'000'000);
    ::raise(SIGKILL);
  };
  const auto crash = as<WorkerCrashed>(thrown_by([&] { pool.submit(work).get(); }));
  ASSERT_TRUE(crash.crash().usage);
  const brood::ResourceUsage usage = *crash.crash().usage;
  EXPECT_GE(usage.peak_bytes, std::size_t{64} << 20U);
  EXPECT_GE(usage.user + usage.system, 50ms);
  EXPECT_LT(usage.user + usage.system, 60s);
  EXPECT_NE(crash.describe().find(" MiB of memory"), std::string::npos) << crash.describe();
}

/// A control group of this process's own group, with little memory; gone with it.
class SmallGroup {
 public:
  SmallGroup() {
    for (const auto& group : brood::detail::own_control_groups("memory")) {
      const auto folder = group.folder() / ("brood-test-" + std::to_string(::getpid()));
      if (::mkdir(folder.c_str(), 0755) != 0) continue;
      const bool v1 = group.version == 1;
      std::ofstream limit(folder / (v1 ? "memory.limit_in_bytes" : "memory.max"));
      limit << (96 << 20U) << std::flush;
      if (limit.good() && std::filesystem::exists(folder / "cgroup.procs")) {
        folder_ = folder;
        return;
      }
      ::rmdir(folder.c_str());
    }
  }
  SmallGroup(const SmallGroup&) = delete;
  SmallGroup& operator=(const SmallGroup&) = delete;
  ~SmallGroup() {
    if (!folder_.empty())
      static_cast<void>(eventually([&] { return ::rmdir(folder_.c_str()) == 0; }));
  }
  [[nodiscard]] std::string door() const {
    return folder_.empty() ? "" : (folder_ / "cgroup.procs").string();
  }

 private:
  std::filesystem::path folder_;
};

/// In a process that has moved into the group at `door`, so that its pool's workers are in it too.
void run_out_of_memory(const std::string& door, const std::string& report) {
  std::ofstream(door) << ::getpid() << std::flush;
  Pool pool({.workers = 1, .start_method = StartMethod::fork});
  const auto greedy = [] {
    std::vector<std::unique_ptr<char[]>> all;
    for (int i = 0; i < 400; ++i) {
      all.push_back(std::make_unique<char[]>(1 << 20U));
      std::memset(all.back().get(), i, 1 << 20U);
    }
  };
  std::string text;
  try {
    pool.submit(greedy).get();
  } catch (const WorkerCrashed& crash) {
    text = crash.what();
    if (!crash.out_of_memory()) text += " (not of it)";
  }
  try {
    pool.submit([] { ::raise(SIGKILL); }).get();
  } catch (const WorkerCrashed& crash) {
    text += crash.out_of_memory() ? "\nagain" : "\nkilled";
  }
  write_file(report, text);
}

TEST_P(PoolCrashTest, MemoryHadRunOut) {
  const SmallGroup group;
  if (group.door().empty()) GTEST_SKIP() << "no memory control group can be made here";
  brood::Process child(run_out_of_memory, group.door(), dir_.file("report"));
  child.start();
  child.join();
  const std::string report = read_file(dir_.file("report"));
  EXPECT_NE(report.find(") was killed by the kernel, as memory had run out"), std::string::npos)
      << report;
  EXPECT_TRUE(report.ends_with("\nkilled")) << report;
}

}  // namespace
}  // namespace pool_crash_test
