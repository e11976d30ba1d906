// What a death in the family leaves behind: nothing, and everybody else alone.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/process/family.hpp>

#include "support/eventually.hpp"
#include "support/forked.hpp"
#include "support/kill_at_one_stroke.hpp"
#include "support/program.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace family_death_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Process;
using brood::StartMethod;

class FamilyDeathTest : public EveryStartMethod {
 protected:
  /// A program with members of every kind: busy and idle workers, daemons, others, nested pools.
  static void await_full_house(const Program& program) {
    ASSERT_TRUE(eventually([&] {
      const std::string out = program.out();
      return std::count(out.begin(), out.end(), 'u') == 6 && out.find("ready") != std::string::npos;
    })) << program.describe();
  }
  // The fork server's id, when both of those that watch the family are at work.
  static int await_watchers(const Program& program) {
    int server = 0;
    EXPECT_TRUE(eventually([&] {
      server = program.find("brood-server");
      return server > 0 && program.find("brood-guardian") > 0;
    })) << program.describe();
    return server;
  }
  Program::Start brood_of_all_kinds() {
    return {.arguments = {"brood", brood::to_string(GetParam())}};
  }
  TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(FamilyDeathTest);

TEST_P(FamilyDeathTest, TheRootsEndIsEverybodysWithinASecond) {
  for (const int signal : {SIGKILL, SIGTERM, SIGSEGV}) {
    Program program("family_program", brood_of_all_kinds());
    await_full_house(program);
    EXPECT_GE(program.family().size(), 10u) << program.describe();
    ::kill(program.pid(), signal);
    EXPECT_TRUE(program.wait());
    EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
  }
}

// As a terminal does it: the signal goes to all of them, again and again, busy or idle.
TEST_P(FamilyDeathTest, CtrlCEndsEverybodyWithinASecondAndNobodyComplains) {
  for (const int presses : {1, 5}) {
    Program::Start start = brood_of_all_kinds();
    start.prepare = [] { return ::signal(SIGINT, SIG_DFL) != SIG_ERR; };
    Program program("family_program", start);
    await_full_house(program);
    for (int i = 0; i != presses; ++i) ::kill(-program.pid(), SIGINT);
    EXPECT_EQ(program.wait(), -SIGINT) << program.describe();
    EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
    EXPECT_EQ(program.err(), "") << "who pressed it knows, and says so";
  }
}

// The fork server had no processor until it was pressed.
TEST_P(FamilyDeathTest, CtrlCBeforeTheForkServerIsUpEndsEverybodyToo) {
  if (GetParam() == StartMethod::forkserver) GTEST_SKIP() << "starts wait for the server";
  Program::Start start = brood_of_all_kinds();
  start.arguments.emplace_back("late_server");
  start.prepare = [] { return ::signal(SIGINT, SIG_DFL) != SIG_ERR; };
  Program program("family_program", start);
  await_full_house(program);
  const int server = program.await_stopped();
  ASSERT_GT(server, 0) << program.describe();
  ::kill(-program.pid(), SIGINT);
  EXPECT_EQ(program.wait(), -SIGINT) << program.describe();
  ::kill(server, SIGCONT);
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
}

TEST_P(FamilyDeathTest, TheRootsEndIsEverybodysEvenWithoutTheForkServer) {
  Program program("family_program", brood_of_all_kinds());
  await_full_house(program);
  const int server = await_watchers(program);
  ASSERT_GT(server, 0) << program.describe();
  ::kill(server, SIGKILL);
  ASSERT_TRUE(eventually([&] { return process_ended(server); }));
  ::kill(program.pid(), SIGKILL);
  EXPECT_EQ(program.wait(), -SIGKILL);
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
}

TEST_P(FamilyDeathTest, TheRootAndTheForkServerMayDieTogether) {
  for (int round = 0; round < 3; ++round) {
    Program program("family_program", brood_of_all_kinds());
    await_full_house(program);
    const int server = await_watchers(program);
    ASSERT_GT(server, 0) << program.describe();
    ::kill(program.pid(), SIGKILL);
    ::kill(server, SIGKILL);
    EXPECT_EQ(program.wait(), -SIGKILL);
    EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
  }
}

// The guardian had no processor until they were dead.
TEST_P(FamilyDeathTest, TheRootAndTheForkServerMayDieBeforeTheirGuardianIsUp) {
  Program::Start start = brood_of_all_kinds();
  start.arguments.emplace_back("late_guardian");
  Program program("family_program", start);
  await_full_house(program);
  const int guardian = program.await_stopped();
  ASSERT_GT(guardian, 0) << program.describe();
  const int server = program.find("brood-server");
  ASSERT_GT(server, 0) << program.describe();
  ::kill(program.pid(), SIGKILL);
  ::kill(server, SIGKILL);
  EXPECT_EQ(program.wait(), -SIGKILL);
  ASSERT_TRUE(eventually([&] { return process_ended(server); }));
  ::kill(guardian, SIGCONT);
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
}

// A child that the fork server had just forked has the other end of its socket still: what is sent
// there arrives, and yet there is nobody who watches.
TEST_P(FamilyDeathTest, AChildWithTheSocketOfTheDeadServerIsNotTakenForAServer) {
  if (GetParam() == StartMethod::forkserver) GTEST_SKIP() << "the start waits for that child";
  Program program("family_program", {.arguments = {"start_again_when_told",
                                                   brood::to_string(GetParam()), "late_spare"}});
  ASSERT_GT(program.await_stopped(), 0) << program.describe();
  const int server = await_watchers(program);
  ASSERT_TRUE(kill_at_one_stroke({server, program.find("brood-guardian")}));
  ::kill(program.pid(), SIGUSR1);
  EXPECT_EQ(program.wait(), 0) << program.describe();
  EXPECT_NE(program.out().find("watched"), std::string::npos) << program.describe();
}

TEST_P(FamilyDeathTest, AForkServerThatDiedBeforeItWasUpIsFollowedByAnother) {
  Program program("family_program",
                  {.arguments = {"start_when_told", brood::to_string(GetParam()), "late_server"}});
  const int server = program.await_stopped();
  ASSERT_GT(server, 0) << program.describe();
  ASSERT_TRUE(eventually([&] { return program.out() == "ready\n"; })) << program.describe();
  ::kill(server, SIGKILL);
  ASSERT_TRUE(eventually([&] { return process_ended(server); }));
  ::kill(program.pid(), SIGUSR1);
  EXPECT_EQ(program.wait(), 0) << program.describe();
  EXPECT_NE(program.out().find("watched"), std::string::npos) << program.describe();
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
}

TEST_P(FamilyDeathTest, HoweverTheRootLeavesNobodyStays) {
  for (const char* how : {"exit", "_exit", "abort"}) {
    SCOPED_TRACE(how);
    Program program("family_program", {.arguments = {how, brood::to_string(GetParam())}});
    EXPECT_EQ(program.wait(), how == std::string("abort") ? -SIGABRT : 5) << program.describe();
    EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
  }
}

TEST_P(FamilyDeathTest, TheRuntimeWaitsForChildrenThatAreLeftAndEndsDaemons) {
  Program program("family_program", {.arguments = {"leave", brood::to_string(GetParam())}});
  EXPECT_EQ(program.wait(), 0) << program.describe();
  EXPECT_NE(program.out().find("the child finished"), std::string::npos) << program.describe();
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
}

void note_and_wait(std::string path) {
  write_file(path + ".part", std::to_string(::getpid()));
  std::filesystem::rename(path + ".part", path);
  for (;;) ::pause();
}
void note_and_await(std::string path, std::string go, std::string done) {
  write_file(path + ".part", std::to_string(::getpid()));
  std::filesystem::rename(path + ".part", path);
  await_sign(go);
  give_sign(done);
}

TEST_P(FamilyDeathTest, AParentsDeathEndsItsDaemonsAndWorkersAndNoOthers) {
  const std::string base = dir_.file("");
  Process parent(
      [](std::string files) {
        const brood::Pool pool({.workers = 2});
        Process daemon({.daemon = true}, note_and_wait, files + "daemon");
        Process other(note_and_await, files + "other", files + "go", files + "done");
        static_cast<void>(pool.submit(note_and_wait, files + "busy"));
        daemon.start();
        other.start();
        std::string idle;
        for (const int pid : pool.worker_pids()) idle += std::to_string(pid) + " ";
        write_file(files + "workers", idle);
        note_and_wait(files + "parent");
      },
      base);
  parent.start();
  for (const char* name : {"daemon", "other", "busy", "parent"}) await_sign(base + name);
  const auto pid_in = [&](const char* name) { return std::stoi(read_file(base + name)); };
  const std::string workers = read_file(base + "workers");
  parent.kill();
  parent.join();
  EXPECT_EQ(parent.exitcode(), -SIGKILL);
  EXPECT_TRUE(eventually([&] { return process_ended(pid_in("daemon")); }));
  EXPECT_TRUE(eventually([&] { return process_ended(pid_in("busy")); }));
  std::istringstream text(workers);
  for (int pid = 0; text >> pid;)
    EXPECT_TRUE(eventually([&] { return process_ended(pid); })) << pid;
  EXPECT_FALSE(process_ended(pid_in("other")));
  give_sign(base + "go");
  await_sign(base + "done");
  EXPECT_TRUE(eventually([&] { return process_ended(pid_in("other")); }));
}

// As a wild pointer does it.
TEST_P(FamilyDeathTest, ARecordThatIsWrittenOverIsNoStrangersDeath) {
  const std::string base = dir_.file("");
  Process parent(
      [](std::string files) {
        Process daemon({.daemon = true}, note_and_wait, files + "daemon");
        daemon.start();
        note_and_wait(files + "parent");
      },
      base);
  parent.start();
  for (const char* name : {"daemon", "parent"}) await_sign(base + name);
  const int daemon = std::stoi(read_file(base + "daemon"));
  Forked stranger([] {
    for (;;) ::pause();
  });
  auto& registry = brood::detail::Family::require()->registry();
  registry.for_each([&](brood::detail::Tag tag, const auto&) {
    auto& pid = registry.record(tag).pid;
    if (pid.load() == daemon) pid.store(stranger.pid());
  });
  parent.kill();
  parent.join();
  EXPECT_TRUE(eventually([&] { return process_ended(daemon); }));
  EXPECT_FALSE(process_ended(stranger.pid()));
  stranger.kill();
}

TEST_P(FamilyDeathTest, AChildOfADeadParentCanStillHaveChildren) {
  const std::string base = dir_.file("");
  Process parent(
      [](std::string files) {
        Process child(
            [](std::string its_files) {
              give_sign(its_files + "there");
              await_sign(its_files + "go");
              const brood::Pool pool({.workers = 2});
              const auto results = pool.map([](int n) { return 2 * n; }, std::vector<int>{1, 2});
              if (results == std::vector<int>{2, 4}) give_sign(its_files + "right");
              give_sign(its_files + "done");
            },
            files);
        child.start();
        for (;;) ::pause();
      },
      base);
  parent.start();
  await_sign(base + "there");
  parent.kill();
  parent.join();
  give_sign(base + "go");
  await_sign(base + "done");
  EXPECT_TRUE(sign_given(base + "right"));
}

}  // namespace
}  // namespace family_death_test
