// The log of a family: silent until it is switched on, for all at once, under every start method.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <brood/array.hpp>
#include <brood/event.hpp>
#include <brood/log.hpp>
#include <brood/process.hpp>
#include <brood/process/current_task.hpp>
#include <brood/value.hpp>

#include "support/eventually.hpp"
#include "support/program.hpp"
#include "support/sanitizers.hpp"
#include "support/start_methods.hpp"

namespace brood::log_test {
namespace {

using namespace std::chrono_literals;
using log::Level;

struct Line {
  std::string process;
  int pid = 0;
  Level level = Level::info;
  std::optional<log::Task> task;
  std::string text;
};

/// What came to the root.
class Collected {
 public:
  void add(const log::Record& record) {
    const std::scoped_lock guard(mutex_);
    lines_.push_back({std::string(record.process), record.pid, record.level, record.task,
                      std::string(record.text)});
  }
  [[nodiscard]] std::vector<Line> lines() const {
    const std::scoped_lock guard(mutex_);
    return lines_;
  }
  [[nodiscard]] std::vector<std::string> texts(int pid) const {
    std::vector<std::string> texts;
    for (const Line& line : lines()) {
      if (line.pid == pid) texts.push_back(line.text);
    }
    return texts;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Line> lines_;
};

class Log : public testing::EveryStartMethod {
 protected:
  void TearDown() override {
    log::off();
    EveryStartMethod::TearDown();
  }
  void collect(Level level = Level::info) {
    log::to_root([this](const log::Record& record) { collected_.add(record); }, level);
  }
  static void run(Process& process) {
    process.start();
    process.join();
    EXPECT_EQ(process.exitcode(), 0);
  }
  Collected collected_;
};
BROOD_UNDER_EVERY_START_METHOD(Log);

void count_up(int to) {
  for (int i = 0; i != to; ++i) log::info("{}", i);
}

std::vector<std::string> numbers(int to) {
  std::vector<std::string> all;
  for (int i = 0; i != to; ++i) all.push_back(std::to_string(i));
  return all;
}

TEST_P(Log, IsSilentUntilItIsSwitchedOn) {
  EXPECT_EQ(log::level(), Level::off);
  const std::uint64_t lost = log::lost();
  ::testing::internal::CaptureStderr();
  count_up(3);
  Process child(count_up, 3);
  run(child);
  log::critical("nobody hears this");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(log::lost(), lost);
  EXPECT_TRUE(log::flush());
}

TEST_P(Log, AllComesToTheRootInOrder) {
  collect();
  log::info("first");
  Process a({.name = "a"}, count_up, 500);
  Process b({.name = "b"}, count_up, 500);
  a.start();
  b.start();
  a.join();
  b.join();
  log::warn("last");
  EXPECT_TRUE(log::flush());
  const std::vector<Line> lines = collected_.lines();
  ASSERT_EQ(lines.size(), 1002u);
  EXPECT_EQ(lines.front().text, "first");
  EXPECT_EQ(lines.front().process, "main");
  EXPECT_EQ(lines.front().pid, ::getpid());
  EXPECT_EQ(lines.back().text, "last");
  EXPECT_EQ(lines.back().level, Level::warn);
  EXPECT_EQ(collected_.texts(*a.pid()), numbers(500));
  EXPECT_EQ(collected_.texts(*b.pid()), numbers(500));
  EXPECT_EQ(lines[1].process.size(), 1u);
  EXPECT_FALSE(lines[1].task);
  log::off();
  log::info("not any more");
  EXPECT_EQ(collected_.lines().size(), 1002u);
}

void write_when_told(Event told, Event done) {
  log::debug("not yet");
  log::error("as well");
  done.set();
  told.wait();
  log::debug("now");
}

TEST_P(Log, TheLevelTravelsAndChangesForAll) {
  collect(Level::error);
  Event told;
  Event done;
  Process child(write_when_told, told, done);
  child.start();
  done.wait();
  log::set_level(Level::debug);
  EXPECT_TRUE(log::enabled(Level::debug));
  EXPECT_FALSE(log::enabled(Level::trace));
  told.set();
  child.join();
  EXPECT_TRUE(log::flush());
  EXPECT_EQ(collected_.texts(*child.pid()), (std::vector<std::string>{"as well", "now"}));
}

void switch_on() {
  log::set_level(Level::trace);
  log::trace("a child says so");
}

TEST_P(Log, AnyProcessMayChangeTheLevel) {
  collect(Level::off);
  log::critical("off");
  Process child(switch_on);
  run(child);
  log::trace("here too");
  EXPECT_TRUE(log::flush());
  const std::vector<Line> lines = collected_.lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].text, "a child says so");
  EXPECT_EQ(lines[1].text, "here too");
}

void count_up_and_die(int to) {
  count_up(to);
  ::kill(::getpid(), SIGKILL);
}

TEST_P(Log, TheLastRecordsOfTheKilledAreThere) {
  collect();
  Process child(count_up_and_die, 1000);
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), -SIGKILL);
  EXPECT_TRUE(log::flush());
  EXPECT_EQ(collected_.texts(*child.pid()), numbers(1000));
}

std::vector<std::string> last_words(const std::string& file) {
  std::vector<std::string> words;
  std::istringstream text(testing::read_file(file));
  for (std::string line; std::getline(text, line);) {
    words.push_back(line.substr(line.rfind(' ') + 1));
  }
  return words;
}

TEST_P(Log, OneFileForEachProcess) {
  const testing::TempDir dir;
  const std::uint64_t lost = log::lost();
  log::to_files(dir.file("logs"));
  log::info("in the root");
  Process child({.name = "re/ader"}, count_up_and_die, 100);
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), -SIGKILL);
  const std::string mine =
      testing::read_file(dir.file("logs/main." + std::to_string(::getpid()) + ".log"));
  EXPECT_NE(mine.find(" info main[" + std::to_string(::getpid()) + "]: in the root\n"),
            std::string::npos)
      << mine;
  EXPECT_EQ(last_words(dir.file("logs/re_ader." + std::to_string(*child.pid()) + ".log")),
            numbers(100));
  EXPECT_EQ(log::lost(), lost);
}

TEST_P(Log, FilesThatGrowAreRotated) {
  const testing::TempDir dir;
  log::to_files(dir.file("logs"), Level::info, {.bytes = 2000, .keep = 2});
  Process child({.name = "r"}, count_up_and_die, 300);
  child.start();
  child.join();
  const std::string name = dir.file("logs/r." + std::to_string(*child.pid()));
  std::vector<std::string> words = last_words(name + ".2.log");
  for (const std::string& file : {name + ".1.log", name + ".log"}) {
    EXPECT_LE(std::filesystem::file_size(file), 2000u);
    const std::vector<std::string> more = last_words(file);
    words.insert(words.end(), more.begin(), more.end());
  }
  ASSERT_GT(words.size(), 40u);
  std::vector<std::string> expected = numbers(300);
  expected.erase(expected.begin(), expected.end() - static_cast<std::ptrdiff_t>(words.size()));
  EXPECT_EQ(words, expected);
  EXPECT_FALSE(std::filesystem::exists(name + ".3.log"));
}

void write_as_task(int item) {
  const detail::CurrentTask::Scope task(
      [](const void* context, detail::TaskNote& note) {
        note = {.item = static_cast<std::size_t>(*static_cast<const int*>(context)), .attempt = 2};
        return true;
      },
      &item);
  log::info("in it");
}

TEST_P(Log, ARecordNamesItsTask) {
  collect();
  Process child(write_as_task, 17);
  run(child);
  EXPECT_TRUE(log::flush());
  const std::vector<Line> lines = collected_.lines();
  ASSERT_EQ(lines.size(), 1u);
  ASSERT_TRUE(lines[0].task);
  EXPECT_EQ(lines[0].task->item, 17u);
  EXPECT_EQ(lines[0].task->attempt, 2u);
}

void must_not_be_root() {
  try {
    log::to_root();
  } catch (const StateError&) {
    std::_Exit(7);
  }
}

TEST_P(Log, OnlyTheRootCollects) {
  Process child(must_not_be_root);
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), 7);
}

TEST_P(Log, WhatCannotBeHadIsSaid) {
  EXPECT_THROW(log::to_files("/proc/no/such/folder"), SystemError);
  EXPECT_THROW(log::to_root("/proc/no/such/file"), SystemError);
  EXPECT_THROW(log::to_root("/tmp/" + std::string(2000, 'x')), Error);
  EXPECT_EQ(log::level(), Level::off) << "nothing has changed";
}

TEST(LogOfOne, AFullRingLosesAndSaysSo) {
  std::promise<void> entered;
  std::promise<void> go_on;
  std::shared_future<void> may_go_on = go_on.get_future().share();
  std::vector<std::string> texts;
  const std::uint64_t before = log::lost();
  log::to_root([&, first = true](const log::Record& record) mutable {
    if (first) entered.set_value();
    first = false;
    may_go_on.wait();
    texts.emplace_back(record.text);
  });
  log::info("0");
  entered.get_future().wait();
  int written = 1;
  // Each waits for room once, then the others are lost at once.
  for (; log::lost() < before + 100 && written < 100'000; ++written) log::info("{}", written);
  EXPECT_LT(written, 100'000);
  go_on.set_value();
  EXPECT_TRUE(log::flush());
  log::off();
  const std::uint64_t lost = log::lost() - before;
  EXPECT_EQ(lost, 100u);
  ASSERT_EQ(texts.size() + lost, static_cast<std::size_t>(written) + 1);
  EXPECT_EQ(texts.back().find("100 records of the family"), 0u) << texts.back();
  texts.pop_back();
  EXPECT_EQ(texts, numbers(written - 100));
}

TEST(LogOfOne, TheCallbackMayLogAndThrow) {
  std::vector<std::string> texts;
  const std::uint64_t before = log::lost();
  log::to_root([&](const log::Record& record) {
    texts.emplace_back(record.text);
    if (record.text == "a") {
      log::info("b");
      log::flush();
      throw 17;
    }
  });
  log::info("a");
  EXPECT_TRUE(log::flush());
  log::off();
  ASSERT_GE(texts.size(), 2u);
  EXPECT_EQ(texts[0], "a");
  EXPECT_EQ(texts[1], "b");
  EXPECT_EQ(log::lost(), before + 1);
}

class LogProgram : public testing::EveryStartMethod {
 protected:
  void SetUp() override {
    EveryStartMethod::SetUp();
    if (testing::kAddressSanitizer && !IsSkipped()) GTEST_SKIP() << "it has nothing new to say";
  }
};
BROOD_UNDER_EVERY_START_METHOD(LogProgram);

TEST_P(LogProgram, LinesOnStderrDoNotMix) {
  testing::Program program("log_program", {.arguments = {"stderr", to_string(GetParam())}});
  EXPECT_EQ(program.wait(), 0) << program.describe();
  std::map<std::string, int> found;
  std::istringstream text(program.err());
  for (std::string line; std::getline(text, line);) {
    // "2026-05-04 12:00:00.123456 info reader-1[123]: 5 and more"
    std::istringstream words(line);
    std::string date;
    std::string time;
    std::string level;
    std::string who;
    int number = -1;
    std::string rest;
    words >> date >> time >> level >> who >> number;
    std::getline(words, rest);
    EXPECT_EQ(date.size(), 10u) << line;
    EXPECT_EQ(time.size(), 15u) << line;
    EXPECT_EQ(level, "info") << line;
    EXPECT_EQ(rest, " and more") << line;
    EXPECT_EQ(number, found[who.substr(0, who.find('['))]++) << line;
  }
  EXPECT_EQ(found, (std::map<std::string, int>{{"main", 200}, {"a", 200}, {"b", 200}}));
}

/// What the program wrote in its mode "die".
void expect_both_once(const testing::Program& program) {
  const std::string err = program.err();
  for (const char* text : {": from the child\n", ": from the root\n"}) {
    const std::size_t found = err.find(text);
    EXPECT_NE(found, std::string::npos) << program.describe();
    EXPECT_EQ(err.find(text, found + 1), std::string::npos) << program.describe();
  }
}

// A root that is killed, while children and it have written what nobody has passed on: the fork
// server does it.
TEST_P(LogProgram, WhatAKilledRootHadNotPassedOnIsWritten) {
  testing::Program program("log_program", {.arguments = {"die", to_string(GetParam())}});
  EXPECT_EQ(program.wait(), -SIGKILL) << program.describe();
  EXPECT_TRUE(program.all_gone()) << program.describe();
  expect_both_once(program);
}

// The fork server had no processor until the root was dead.
TEST_P(LogProgram, WhatAKilledRootHadNotPassedOnIsWrittenByALateForkServer) {
  if (GetParam() == StartMethod::forkserver) GTEST_SKIP() << "its child would wait for the server";
  testing::Program program("log_program",
                           {.arguments = {"die", to_string(GetParam()), "late_server"}});
  EXPECT_EQ(program.wait(), -SIGKILL) << program.describe();
  const int server = program.await_stopped();
  ASSERT_GT(server, 0) << program.describe();
  ::kill(server, SIGCONT);
  EXPECT_TRUE(program.all_gone()) << program.describe();
  expect_both_once(program);
}

// A daemon that is killed by the root's end had its say.
TEST_P(LogProgram, TheRestIsPassedOnAtTheEnd) {
  testing::Program program("log_program", {.arguments = {"daemon", to_string(GetParam())}});
  EXPECT_EQ(program.wait(), 0) << program.describe();
  EXPECT_EQ(std::ranges::count(program.err(), '\n'), 100) << program.err();
}

}  // namespace
}  // namespace brood::log_test
