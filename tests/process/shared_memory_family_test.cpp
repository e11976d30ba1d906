// Shared memory with a name travels as a value, and its name does not survive the family.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <brood/errors.hpp>
#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/shareable_list.hpp>
#include <brood/shared_memory.hpp>

#include "support/eventually.hpp"
#include "support/program.hpp"
#include "support/start_methods.hpp"

namespace shared_memory_family_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Lifetime;
using brood::SharedMemory;

const std::string kPrefix = "brood_test_family_" + std::to_string(::getpid());

std::set<std::string> names_left() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename();
    if (name.starts_with(kPrefix)) names.insert(name.substr(kPrefix.size() + 1));
    if (name.starts_with(".brood_")) names.insert(name);
  }
  return names;
}

class SharedMemoryFamilyTest : public EveryStartMethod {
 protected:
  using Names = std::set<std::string>;
  void TearDown() override {
    for (const std::string& name : names_left()) SharedMemory::unlink(kPrefix + "_" + name);
    EveryStartMethod::TearDown();
  }
  std::vector<std::string> arguments() { return {brood::to_string(GetParam()), kPrefix}; }
  static void await_child(const Program& program) {
    ASSERT_TRUE(eventually([&] { return program.out().find("child\n") != std::string::npos; }))
        << program.describe();
    EXPECT_EQ(names_left(), Names({"child", "childs_object", "dropped", "kept", "root"}));
  }
  static int await_watchers(const Program& program) {
    int server = 0;
    EXPECT_TRUE(eventually([&] {
      server = program.find("brood-server");
      return server > 0 && program.find("brood-guardian") > 0;
    })) << program.describe();
    return server;
  }
};
BROOD_UNDER_EVERY_START_METHOD(SharedMemoryFamilyTest);

struct Job {
  std::vector<SharedMemory> memories;
  std::map<std::string, SharedMemory> by_name;
};
void add_one(const SharedMemory& memory) { ++memory.as<int>(); }

TEST_P(SharedMemoryFamilyTest, TravelsAsAnArgumentInAnAggregateAndThroughAPool) {
  const auto memory = SharedMemory::create(4, {.lifetime = Lifetime::object});
  brood::Process process(add_one, memory);
  process.start().join();
  EXPECT_EQ(process.exitcode(), 0);
  EXPECT_EQ(memory.as<int>(), 1);
  brood::Process nested(
      [](const Job& job) {
        for (const SharedMemory& each : job.memories) add_one(each);
        add_one(job.by_name.at("x"));
      },
      Job{{memory, memory}, {{"x", memory}}});
  nested.start().join();
  EXPECT_EQ(nested.exitcode(), 0);
  EXPECT_EQ(memory.as<int>(), 4);
  const brood::Pool pool({.workers = 2});
  const auto back = pool.apply(
      [](SharedMemory there) {
        add_one(there);
        return there;
      },
      memory);
  EXPECT_EQ(back, memory);
  EXPECT_EQ(back.as<int>(), 5);
  const auto made = pool.apply([] {
    auto fresh = SharedMemory::create(4);
    fresh.as<int>() = 42;
    return fresh;
  });
  EXPECT_EQ(made.as<int>(), 42);
  made.unlink();
}

TEST_P(SharedMemoryFamilyTest, WhoseNameIsGoneOrAnothersIsRefusedWhereItArrives) {
  const std::string name = kPrefix + "_dead";
  const auto memory = SharedMemory::create(4, {.name = name});
  const brood::Pool pool({.workers = 1});
  memory.unlink();
  EXPECT_THROW(pool.apply(add_one, memory), brood::SystemError);
  const auto other = SharedMemory::create(4, {.name = name, .lifetime = Lifetime::object});
  EXPECT_THROW(pool.apply(add_one, memory), brood::SystemError);
  EXPECT_EQ(other.as<int>(), 0);
  EXPECT_NO_THROW(pool.apply(add_one, other));
}

TEST_P(SharedMemoryFamilyTest, TheRootsDeathTakesAllNamesAwayButTheKept) {
  for (const int signal : {SIGKILL, SIGTERM}) {
    Program program("named_program", {.arguments = arguments()});
    await_child(program);
    ::kill(program.pid(), signal);
    EXPECT_TRUE(program.wait());
    EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
    EXPECT_EQ(names_left(), Names({"kept"}));
    SharedMemory::unlink(kPrefix + "_kept");
  }
}

TEST_P(SharedMemoryFamilyTest, AlsoWithoutTheForkServer) {
  Program program("named_program", {.arguments = arguments()});
  await_child(program);
  const int server = await_watchers(program);
  ASSERT_GT(server, 0) << program.describe();
  ::kill(program.pid(), SIGKILL);
  ::kill(server, SIGKILL);
  EXPECT_TRUE(program.wait());
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
  EXPECT_EQ(names_left(), Names({"kept"}));
}

TEST_P(SharedMemoryFamilyTest, AlsoWhereThreadsRanBeforeTheRuntimeAndNobodyWatchedYet) {
  auto more = arguments();
  more.emplace_back("alone");
  Program program("named_program", {.arguments = more});
  ASSERT_TRUE(eventually([&] { return program.out() == "alone\n"; })) << program.describe();
  EXPECT_EQ(names_left(), Names({"dropped", "root"}));
  ::kill(program.pid(), SIGKILL);
  EXPECT_TRUE(program.wait());
  EXPECT_TRUE(eventually([] { return names_left().empty(); })) << program.describe();
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
}

TEST_P(SharedMemoryFamilyTest, AListTravelsToo) {
  const brood::ShareableList list({1, "text"}, {.lifetime = Lifetime::object});
  const auto set = [](const brood::ShareableList& there) {
    there.set(0, 2.5);
    there.set(1, "word");
    return there;
  };
  brood::Process process(set, list);
  process.start().join();
  EXPECT_EQ(process.exitcode(), 0);
  EXPECT_EQ(list[0], brood::ShareableList::Value(2.5));
  EXPECT_EQ(list[1], brood::ShareableList::Value("word"));
  const brood::Pool pool({.workers = 1});
  EXPECT_EQ(pool.apply(set, list)[1], brood::ShareableList::Value("word"));
}

TEST_P(SharedMemoryFamilyTest, AMembersDeathTakesAwayWhatDiesWithItsObject) {
  Program program("named_program", {.arguments = arguments()});
  await_child(program);
  ASSERT_TRUE(eventually([&] {
    const std::string out = program.out();
    return out.find('\n', out.find("pid ")) != std::string::npos &&
           out.find("pid ") != std::string::npos;
  })) << program.describe();
  const std::string out = program.out();
  ::kill(std::stoi(out.substr(out.find("pid ") + 4)), SIGKILL);
  EXPECT_TRUE(eventually([] {
    return names_left() == Names({"child", "dropped", "kept", "root"});
  })) << program.describe();
  ::kill(program.pid(), SIGKILL);
  EXPECT_TRUE(program.wait());
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
  EXPECT_EQ(names_left(), Names({"kept"}));
}

TEST_P(SharedMemoryFamilyTest, TheEndInOrderTakesThemAwayToo) {
  auto more = arguments();
  more.emplace_back("end");
  Program program("named_program", {.arguments = more});
  EXPECT_EQ(program.wait(), 0) << program.describe();
  EXPECT_TRUE(program.all_gone(within(1s))) << program.describe();
  EXPECT_EQ(names_left(), Names({"kept"}));
}

}  // namespace
}  // namespace shared_memory_family_test
