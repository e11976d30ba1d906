// The fork server dies or is stopped: the family goes on.
// Not for ThreadSanitizer: processes.
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <brood/dict.hpp>
#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/process/family.hpp>
#include <brood/shared_memory.hpp>
#include <brood/shared_memory_info.hpp>
#include <brood/value.hpp>

#include "support/eventually.hpp"
#include "support/kill_at_one_stroke.hpp"
#include "support/shared_objects.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace family_server_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Process;
using brood::StartMethod;

/// The process that watches the family at present.
int server_pid() {
  const auto family = brood::detail::Family::require();
  const auto tag = brood::detail::Tag::from_bits(family->segment().header().watchdog.load());
  return family->registry().record(tag).pid.load();
}
/// Those that watch and live: it, and its guardian.
std::vector<int> watcher_pids() {
  const auto family = brood::detail::Family::require();
  std::vector<int> pids;
  family->registry().for_each([&](brood::detail::Tag tag, const auto&) {
    const auto& record = family->registry().record(tag);
    if (record.role == static_cast<std::uint32_t>(brood::detail::Role::watchdog) &&
        family->registry().alive(tag)) {
      pids.push_back(record.pid.load());
    }
  });
  return pids;
}
/// Of the two, when both are there, the one that stands by; 0 if there never are.
int guardian_pid() {
  std::vector<int> pids;
  const auto both = [&] {
    pids = watcher_pids();
    return pids.size() == 2 && std::erase(pids, server_pid()) == 1;
  };
  return eventually(both) ? pids.at(0) : 0;
}
bool server_lives() { return brood::detail::Family::require()->watched(); }

void kill_server() {
  const int pid = server_pid();
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return process_ended(pid); }));
}

/// Since Linux 6.15 anybody who holds a process's descriptor learns how it ended.
bool kernel_tells_exit_codes() {
  utsname name{};
  int major = 0;
  int minor = 0;
  return ::uname(&name) == 0 && std::sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
         (major > 6 || (major == 6 && minor >= 15));
}

class FamilyServerTest : public EveryStartMethod {
 protected:
  void SetUp() override {
    EveryStartMethod::SetUp();
    if (!IsSkipped()) {
      // The one that a test before this one killed may have none in its place yet.
      Process process({.start_method = StartMethod::forkserver}, [] {});
      process.start().join();
    }
  }
  TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(FamilyServerTest);

int end_with(std::string there, std::string go, int how) {
  give_sign(there);
  await_sign(go);
  switch (how) {
    case 0:
      return 0;
    case 1:
      if (std::freopen("/dev/null", "w", stderr) == nullptr) std::exit(9);
      throw std::runtime_error("expected");
    case 2:
      std::exit(7);
    case 3:
      ::raise(SIGKILL);
      break;
    default:
      ::_exit(8);
  }
  return 0;
}
constexpr int kCodes[] = {0, 1, 7, -SIGKILL, 8};

TEST_P(FamilyServerTest, RunningChildrenGoOnAndTheirExitCodesAreRight) {
  const std::string go = dir_.file("go");
  std::vector<Process> children;
  for (int how = 0; how < 5; ++how) {
    const std::string there = dir_.file("there" + std::to_string(how));
    children.emplace_back(end_with, there, go, how).start();
    await_sign(there);
  }
  kill_server();
  EXPECT_FALSE(children[0].join(20ms));
  EXPECT_TRUE(children[0].is_alive());
  give_sign(go);
  for (std::size_t how = 0; how < children.size(); ++how) {
    children[how].join();
    const int code = children[how].exitcode().value();
    // What a child did not return from, only the kernel knows then.
    const bool may_be_unknown = how >= 2 && !kernel_tells_exit_codes();
    EXPECT_TRUE(code == kCodes[how] || (may_be_unknown && code == 255)) << how << ": " << code;
  }
}

/// Who started a child by forkserver just now.
int starter_pid() {
  brood::Value<int> parent(0);
  Process child(
      {.start_method = StartMethod::forkserver},
      [](brood::Value<int> result) { result.set(::getppid()); }, parent);
  child.start().join();
  EXPECT_EQ(child.exitcode(), 0);
  return parent.get();
}

TEST_P(FamilyServerTest, ItsGuardianTakesItsPlace) {
  for (int round = 0; round < 5; ++round) {
    const int guardian = guardian_pid();
    ASSERT_GT(guardian, 0);
    kill_server();
    EXPECT_EQ(starter_pid(), guardian);
    EXPECT_EQ(server_pid(), guardian);
  }
}

TEST_P(FamilyServerTest, ManyThatFollowEachOtherNeedNoMoreMemoryThanOne) {
  if (GetParam() != StartMethod::forkserver) GTEST_SKIP() << "it is the same for all";
  const auto stack_kilobytes = [] {
    std::ifstream status("/proc/" + std::to_string(server_pid()) + "/status");
    for (std::string word; status >> word;) {
      if (word == "VmStk:" && status >> word) return std::stoi(word);
    }
    return 0;
  };
  ASSERT_GT(guardian_pid(), 0);
  const int before = stack_kilobytes();
  ASSERT_GT(before, 0);
  for (int i = 0; i < 600; ++i) {
    ASSERT_NO_FATAL_FAILURE(kill_server());
    ASSERT_GT(guardian_pid(), 0);
  }
  EXPECT_LE(stack_kilobytes(), before + 100);
  EXPECT_GT(starter_pid(), 0);
}

TEST_P(FamilyServerTest, ItsPlaceIsTakenForAllThatHadTheOldOne) {
  brood::Value<int> turns(0);
  brood::Value<int> others(0);
  const int guardian = guardian_pid();
  ASSERT_GT(guardian, 0);
  Process other(
      [](brood::Value<int> turn, brood::Value<int> mine) {
        for (int i = 1; i != 6; ++i) {
          if (!eventually([&] { return turn.get() >= i; })) std::exit(1);
          mine.set(starter_pid());
          turn.set(-i);
        }
      },
      turns, others);
  other.start();
  kill_server();
  for (int i = 1; i != 6; ++i) {
    EXPECT_EQ(starter_pid(), guardian);
    turns.set(i);
    ASSERT_TRUE(eventually([&] { return turns.get() == -i; }));
    EXPECT_EQ(others.get(), guardian);
  }
  other.join();
  EXPECT_EQ(other.exitcode(), 0);
  EXPECT_EQ(server_pid(), guardian) << "nobody has needed another";
}

TEST_P(FamilyServerTest, WhatTheDeadWasAskedItsGuardianAnswers) {
  const int guardian = guardian_pid();
  const int server = server_pid();
  ASSERT_GT(guardian, 0);
  for (const int pid : {guardian, server}) {
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    ASSERT_TRUE(eventually([&] { return process_state(pid) == 'T'; }));
  }
  Process child({.start_method = StartMethod::forkserver}, [] { std::exit(7); });
  {
    const std::jthread starter([&] { child.start(); });
    const auto socket = brood::detail::Family::require()->server_socket();
    int unread = 0;
    EXPECT_TRUE(
        eventually([&] { return ::ioctl(socket->get(), SIOCOUTQ, &unread) == 0 && unread > 0; }));
    EXPECT_EQ(::kill(server, SIGKILL), 0);
    EXPECT_TRUE(eventually([&] { return process_ended(server); }));
    EXPECT_EQ(::kill(guardian, SIGCONT), 0);
  }
  child.join();
  EXPECT_EQ(child.exitcode(), 7);
  EXPECT_EQ(server_pid(), guardian);
}

/// It and its guardian.
void kill_all_watchers() {
  ASSERT_TRUE(eventually([] { return watcher_pids().size() == 2; }));
  ASSERT_TRUE(kill_at_one_stroke(watcher_pids()));
}

TEST_P(FamilyServerTest, WhenItsGuardianDiedTooTheNextStartMakesANewOne) {
  for (int round = 0; round < 3; ++round) {
    const std::vector<int> before = watcher_pids();
    ASSERT_NO_FATAL_FAILURE(kill_all_watchers());
    EXPECT_FALSE(server_lives());
    const int starter = starter_pid();
    EXPECT_EQ(std::ranges::count(before, starter), 0);
    EXPECT_EQ(server_pid(), starter);
  }
}

TEST_P(FamilyServerTest, WhoMakesANameWhenNobodyWatchesIsWatchedAgain) {
  for (int round = 0; round < 2; ++round) {
    ASSERT_NO_FATAL_FAILURE(kill_all_watchers());
    const auto named =
        brood::SharedMemory::create(10, {.name = "brood_test_watched_" + std::to_string(::getpid()),
                                         .lifetime = brood::Lifetime::object});
    EXPECT_TRUE(eventually(server_lives));
  }
}

/// Of the family's memory, what is in the name of a process.
std::size_t bytes_of(brood::detail::Tag tag) {
  std::size_t bytes = 0;
  const auto use = brood::detail::Heap::measure(brood::detail::Family::require()->segment());
  for (const auto& [holder, held] : use.held) {
    if (holder == tag) bytes += held;
  }
  return bytes;
}

// Nobody watches when it dies, and its parent forgets it before somebody does: what it held is
// found by its tag.
TEST_P(FamilyServerTest, WhoDiedUnwatchedHoldsNothing) {
  const auto hold = [](std::string there, std::string name) {
    auto& member = *brood::detail::Member::require();
    member.heap().allocate(1U << 22U);
    member.heap().allocate(64);
    member.segment().extents().allocate(1, member.self(), 3);
    const auto named =
        brood::SharedMemory::create(10, {.name = name, .lifetime = brood::Lifetime::object});
    give_sign(there);
    for (;;) ::pause();
  };
  const auto family = brood::detail::Family::require();
  const std::string name = "brood_test_forgotten_" + std::to_string(::getpid());
  brood::detail::Tag tag;
  {
    Process child(hold, dir_.file("there"), name);
    child.start();
    await_sign(dir_.file("there"));
    tag = family->children().back();
    ASSERT_GE(bytes_of(tag), 1U << 22U);
    ASSERT_NO_FATAL_FAILURE(kill_all_watchers());
    child.kill();
    child.join();
  }
  ASSERT_FALSE(family->registry().word(tag)) << "its record is free again";
  EXPECT_GE(bytes_of(tag), 1U << 22U) << "nobody was there to clean up";
  EXPECT_TRUE(sign_given("/dev/shm/" + name));

  Process next({.start_method = StartMethod::forkserver}, [] {});
  next.start().join();
  EXPECT_TRUE(eventually([&] { return bytes_of(tag) == 0; }));
  EXPECT_TRUE(eventually([&] { return !sign_given("/dev/shm/" + name); }));
}

/// What a child held that was started just now is free when it has been killed.
void expect_to_be_watched(const std::string& there) {
  const auto hold = [](std::string sign) {
    const brood::Dict<int, std::string> texts;
    brood::detail::Member::require()->heap().allocate(1U << 22U);
    give_sign(sign);
    for (;;) ::pause();
  };
  const std::size_t before = brood::testing::shared_objects();
  Process child(hold, there);
  child.start();
  await_sign(there);
  const brood::detail::Tag tag = brood::detail::Family::require()->children().back();
  EXPECT_GE(bytes_of(tag), 1U << 22U);
  child.kill();
  child.join();
  EXPECT_TRUE(eventually([&] { return bytes_of(tag) == 0; }));
  EXPECT_TRUE(eventually([&] { return brood::testing::shared_objects() == before; }))
      << brood::testing::shared_objects() - before;
}

TEST_P(FamilyServerTest, WhoIsStartedAfterItsEndIsWatchedByItsGuardian) {
  kill_server();
  expect_to_be_watched(dir_.file("there"));
}

TEST_P(FamilyServerTest, WhoIsStartedWhenNobodyWatchesIsWatchedAgain) {
  ASSERT_NO_FATAL_FAILURE(kill_all_watchers());
  expect_to_be_watched(dir_.file("there"));
}

TEST_P(FamilyServerTest, WhatItFreesForTheDeadIsFreeForAll) {
  const auto held = [] {
    for (const auto& process : brood::shared_memory_info().processes) {
      if (process.pid == server_pid()) return process.bytes;
    }
    return std::size_t{0};
  };
  const std::size_t before = brood::testing::shared_objects();
  for (int i = 0; i < 3; ++i) {
    Process child([] {
      const brood::Dict<int, std::string> texts;
      texts.insert_or_assign(1, std::string(3U << 20U, 'x'));
      ::raise(SIGKILL);
    });
    child.start();
    child.join();
  }
  EXPECT_TRUE(eventually([&] { return brood::testing::shared_objects() == before; }));
  EXPECT_TRUE(eventually([&] { return held() == 0; })) << held() << " bytes";
}

TEST_P(FamilyServerTest, WhatItHeldItselfIsFreeWhenItDied) {
  auto& segment = brood::detail::Family::require()->segment();
  for (int round = 0; round < 3; ++round) {
    const auto server = brood::detail::Tag::from_bits(segment.header().watchdog.load());
    // As if it were killed between taking what a dead process held and making it free for all.
    segment.extents().allocate(1, server, 3);
    ASSERT_GT(bytes_of(server), 0u);
    kill_server();
    EXPECT_TRUE(eventually([&] { return bytes_of(server) == 0; }));
    EXPECT_GT(starter_pid(), 0);
  }
}

TEST_P(FamilyServerTest, APoolLosesNothing) {
  const brood::Pool pool({.workers = 2});
  const auto twice = [](int n) { return 2 * n; };
  std::vector<int> expected;
  for (int i = 0; i < 100; ++i) expected.push_back(2 * i);
  for (int round = 0; round < 3; ++round) {
    kill_server();
    EXPECT_EQ(pool.map(twice, std::views::iota(0, 100)), expected);
    for (const int pid : pool.worker_pids()) ::kill(pid, SIGKILL);
    EXPECT_EQ(pool.map(twice, std::views::iota(0, 100)), expected);
    kill_server();
    const auto outcomes = pool.try_map(
        [](int n) {
          if (n == 3) ::raise(SIGKILL);
          return n;
        },
        std::views::iota(0, 20));
    for (std::size_t i = 0; i < outcomes.size(); ++i) EXPECT_EQ(outcomes[i].has_value(), i != 3);
  }
}

TEST_P(FamilyServerTest, ANestedProcessNoticesToo) {
  const std::string there = dir_.file("there");
  const std::string go = dir_.file("go");
  Process child(
      [](std::string sign, std::string open) {
        give_sign(sign);
        await_sign(open);
        Process grandchild([] { std::exit(7); });
        grandchild.start().join();
        std::exit(grandchild.exitcode() == 7 ? 6 : 1);
      },
      there, go);
  child.start();
  await_sign(there);
  kill_server();
  give_sign(go);
  child.join();
  EXPECT_EQ(child.exitcode(), 6);
  Process mine([] { std::exit(5); });
  mine.start().join();
  EXPECT_EQ(mine.exitcode(), 5);
}

TEST_P(FamilyServerTest, SeveralThreadsMayNoticeAtOnce) {
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "fork is refused beside other threads";
  for (int round = 0; round < 3; ++round) {
    kill_server();
    std::atomic<int> right{0};
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
          try {
            Process child({.start_method = StartMethod::forkserver}, [] { std::exit(7); });
            child.start().join();
            right += child.exitcode() == 7 ? 1 : 0;
          } catch (const brood::Error& e) {
            ADD_FAILURE() << e.what();
          }
        });
      }
    }
    EXPECT_EQ(right, 4);
  }
}

TEST_P(FamilyServerTest, AStoppedOneIsWaitedForAndItsChildrenCanBeJoined) {
  const std::string go = dir_.file("go");
  Process running(end_with, dir_.file("there"), go, 0);
  running.start();
  await_sign(dir_.file("there"));
  const int server = server_pid();
  ASSERT_EQ(::kill(server, SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return process_state(server) == 'T'; }));
  EXPECT_TRUE(server_lives()) << "stopped is not dead";
  give_sign(go);
  running.join();
  EXPECT_EQ(running.exitcode(), 0);
  std::atomic<bool> started{false};
  Process next({.start_method = StartMethod::forkserver}, [] { std::exit(7); });
  {
    const std::jthread starter([&] {
      next.start();
      started = true;
    });
    // Asked: it has nobody to answer, so the starter sleeps.
    std::this_thread::sleep_for(30ms);
    EXPECT_FALSE(started);
    ASSERT_EQ(::kill(server, SIGCONT), 0);
  }
  EXPECT_EQ(server_pid(), server);
  next.join();
  EXPECT_EQ(next.exitcode(), 7);
}

TEST_P(FamilyServerTest, WhoeverHasJoinedTheDeadFindsTheFamilyTold) {
  // The server stands still after it has noted how the child ended, before it tells the others.
  const std::string go = dir_.file("go");
  Process child({.start_method = StartMethod::forkserver}, end_with, dir_.file("there"), go, 3);
  child.start();
  await_sign(dir_.file("there"));
  const int server = server_pid();
  ASSERT_EQ(::kill(server, SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return process_state(server) == 'T'; }));
  give_sign(go);
  const auto family = brood::detail::Family::require();
  auto& registry = family->registry();
  brood::detail::Tag tag;
  registry.for_each([&](brood::detail::Tag each, const brood::detail::RecordWord&) {
    if (registry.record(each).pid.load() == *child.pid()) tag = each;
  });
  ASSERT_TRUE(eventually([&] { return process_state(*child.pid()) == 'Z'; }));
  ASSERT_TRUE(registry.note_ended(tag, -SIGKILL));
  const auto& deaths = family->segment().header().death_epoch;
  const auto before = deaths.load();
  child.join();
  EXPECT_NE(deaths.load(), before) << "so nobody looks for what it held";
  EXPECT_EQ(child.exitcode(), -SIGKILL);
  ASSERT_EQ(::kill(server, SIGCONT), 0);
}

TEST_P(FamilyServerTest, AStormOfKillsDoesNotLoseProcesses) {
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "fork is refused beside other threads";
  // About as long as a new one takes to start a process on this machine.
  const auto before = std::chrono::steady_clock::now();
  kill_server();
  Process({.start_method = GetParam()}, [] {}).start().join();
  const auto period =
      std::max<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - before, 20ms);
  int refused = 0;
  {
    std::jthread killer([period](std::stop_token stop) {
      while (!stop.stop_requested()) {
        if (server_lives()) ::kill(server_pid(), SIGKILL);
        std::this_thread::sleep_for(period);
      }
    });
    for (int i = 0; i < 40; ++i) {
      Process child({.start_method = GetParam()}, [] { std::exit(7); });
      try {
        child.start();
      } catch (const brood::StartError&) {
        ++refused;  // it died three times while it should start this one
        continue;
      }
      child.join();
      const int code = child.exitcode().value();
      EXPECT_TRUE(code == 7 || (code == 255 && !kernel_tells_exit_codes())) << code;
    }
  }
  EXPECT_LT(refused, 40) << "killed every "
                         << std::chrono::duration_cast<std::chrono::milliseconds>(period).count()
                         << " ms";
}

}  // namespace
}  // namespace family_server_test
