// What a Process does, under every start method. Names in brackets are the tests of CPython's
// _TestProcess that ask for the same.
// Not for ThreadSanitizer: processes.
#include <brood/process.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <variant>
#include <vector>

#include <brood/bind.hpp>
#include <brood/runtime.hpp>

#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace process_test {
namespace {

using namespace std::chrono_literals;
using brood::Process;
using brood::StartMethod;
using brood::testing::read_file;
using brood::testing::TempDir;
using brood::testing::write_file;

class ProcessTest : public brood::testing::EveryStartMethod {
 protected:
  TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(ProcessTest);

void nothing() {}
void wait_for_ever() {
  for (;;) ::pause();
}
/// Says that it runs, so that a test need not guess, then waits.
void run_and_wait(std::string sign) {
  write_file(sign, "running");
  wait_for_ever();
}
void await_sign(const std::string& sign) {
  while (read_file(sign).empty()) std::this_thread::sleep_for(1ms);
}

TEST_P(ProcessTest, RunsTheFunctionAndExitsWithZero) {  // [test_process]
  const std::string out = dir_.file("out");
  Process p([](std::string path) { write_file(path, "done"); }, out);
  EXPECT_FALSE(p.is_alive());
  EXPECT_EQ(p.pid(), std::nullopt);
  EXPECT_EQ(p.exitcode(), std::nullopt);
  p.start();
  EXPECT_GT(p.pid().value(), 0);
  p.join();
  EXPECT_EQ(p.exitcode(), 0);
  EXPECT_FALSE(p.is_alive());
  EXPECT_EQ(read_file(out), "done");
}

struct Shape {
  std::string name;
  std::vector<double> sides;
  std::map<std::string, std::vector<int>> notes;
  std::optional<int> colour;
  std::variant<int, std::string> tag;
};

TEST_P(ProcessTest, ArgumentsArriveAsTheyWereGiven) {  // [test_args_argument]
  const std::string out = dir_.file("out");
  const Shape shape{"box", {1.5, 2.5}, {{"a", {1, 2}}}, 7, std::string("t")};
  Process p(
      [](std::string path, Shape s, std::tuple<int, char> t, std::chrono::milliseconds ms) {
        write_file(path, s.name + std::to_string(s.sides.at(1)) + std::to_string(s.notes["a"][1]) +
                             std::to_string(*s.colour) + std::get<std::string>(s.tag) +
                             std::to_string(std::get<0>(t)) + std::get<1>(t) +
                             std::to_string(ms.count()));
      },
      out, shape, std::tuple(5, 'x'), 2s);
  p.start().join();
  EXPECT_EQ(p.exitcode(), 0);
  EXPECT_EQ(read_file(out), "box2.50000027t5x2000");
}

TEST_P(ProcessTest, AnArgumentOfManyMegabytesArrives) {
  const std::string out = dir_.file("out");
  std::vector<std::uint32_t> large(5'000'000);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<std::uint32_t>(i * 7);
  Process p(
      [](std::string path, std::vector<std::uint32_t> v) {
        bool same = v.size() == 5'000'000;
        for (std::size_t i = 0; i < v.size(); ++i) same = same && v[i] == std::uint32_t(i * 7);
        write_file(path, same ? "same" : "different");
      },
      out, large);
  p.start().join();
  EXPECT_EQ(read_file(out), "same");
}

struct Greeter {
  std::string greeting;
  void operator()(std::string path) const { write_file(path, greeting); }
  void greet(std::string path) const { write_file(path, "method " + greeting); }
};

TEST_P(ProcessTest, FunctionObjectsMembersAndBoundCallsCross) {
  const std::string a = dir_.file("a"), b = dir_.file("b"), c = dir_.file("c");
  Process p(Greeter{"hello"}, a);
  Process q(&Greeter::greet, Greeter{"you"}, b);
  Process r(
      brood::bind([](std::string text, std::string path) { write_file(path, text); }, "bound"), c);
  p.start(), q.start(), r.start();
  p.join(), q.join(), r.join();
  EXPECT_EQ(read_file(a), "hello");
  EXPECT_EQ(read_file(b), "method you");
  EXPECT_EQ(read_file(c), "bound");
}

TEST_P(ProcessTest, AnUncaughtExceptionIsExitCodeOneAndReportedOnStderr) {
  const std::string err = dir_.file("err");
  Process p(
      {.name = "hopeless"},
      [](std::string path) {
        if (std::freopen(path.c_str(), "w", stderr) == nullptr) std::exit(9);
        throw std::out_of_range("no such luck");
      },
      err);
  p.start().join();
  EXPECT_EQ(p.exitcode(), 1);
  const std::string report = read_file(err);
  EXPECT_NE(report.find("hopeless"), std::string::npos) << report;
  EXPECT_NE(report.find("out_of_range"), std::string::npos) << report;
  EXPECT_NE(report.find("no such luck"), std::string::npos) << report;
  EXPECT_NE(report.find("process_test"), std::string::npos) << "no stack in:\n" << report;
}

TEST_P(ProcessTest, ExitCallsGiveTheirCode) {  // [test_sys_exit]
  Process p([] { std::exit(3); });
  Process q([] { ::_exit(77); });
  p.start(), q.start();
  p.join(), q.join();
  EXPECT_EQ(p.exitcode(), 3);
  EXPECT_EQ(q.exitcode(), 77);
}

TEST_P(ProcessTest, SignalsGiveMinusTheirNumber) {  // [test_terminate, test_kill, test_interrupt]
  struct Case {
    void (Process::*end)();
    int code;
  };
  for (const Case c : {Case{&Process::terminate, -SIGTERM}, Case{&Process::kill, -SIGKILL},
                       Case{&Process::interrupt, -SIGINT}}) {
    const std::string sign = dir_.file("sign" + std::to_string(-c.code));
    Process p(run_and_wait, sign);
    p.start();
    await_sign(sign);
    EXPECT_TRUE(p.is_alive());
    (p.*c.end)();
    p.join();
    EXPECT_EQ(p.exitcode(), c.code);
    (p.*c.end)();  // of a process that has ended: nothing
  }
  Process q([] { std::abort(); });
  q.start().join();
  EXPECT_EQ(q.exitcode(), -SIGABRT);
}

TEST_P(ProcessTest, ATimedJoinReturnsFalseAndThenTrue) {
  const std::string sign = dir_.file("sign");
  Process p(run_and_wait, sign);
  p.start();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(p.join(20ms));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
  EXPECT_FALSE(p.join(0ms));
  EXPECT_FALSE(p.join(-1s));
  p.kill();
  EXPECT_TRUE(p.join(std::chrono::hours(24 * 365 * 1000)));
  EXPECT_TRUE(p.join(0ms));
}

TEST_P(ProcessTest, WrongOrderIsAStateError) {
  Process p(nothing);
  EXPECT_THROW(p.join(), brood::StateError);
  EXPECT_THROW(p.kill(), brood::StateError);
  EXPECT_THROW(static_cast<void>(p.sentinel()), brood::StateError);
  p.start();
  EXPECT_THROW(p.start(), brood::StateError);
  EXPECT_THROW(p.set_name("late"), brood::StateError);
  EXPECT_THROW(p.set_daemon(true), brood::StateError);
  p.join();
  EXPECT_THROW(p.start(), brood::StateError);
}

TEST_P(ProcessTest, CloseRefusesARunningProcessAndEndsTheObject) {  // [test_close]
  const std::string sign = dir_.file("sign");
  Process p(run_and_wait, sign);
  p.start();
  EXPECT_THROW(p.close(), brood::StateError);
  p.kill();
  p.join();
  p.close();
  EXPECT_THROW(p.join(), brood::StateError);
  EXPECT_THROW(static_cast<void>(p.exitcode()), brood::StateError);
  EXPECT_THROW(static_cast<void>(p.is_alive()), brood::StateError);
  p.close();
}

TEST_P(ProcessTest, TheSentinelBecomesReadableAtTheEnd) {  // [test_sentinel]
  const std::string sign = dir_.file("sign");
  Process p(run_and_wait, sign);
  p.start();
  pollfd poll{.fd = p.sentinel(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&poll, 1, 0), 0);
  p.kill();
  EXPECT_EQ(::poll(&poll, 1, 10'000), 1);
  p.join();
  EXPECT_EQ(::poll(&poll, 1, 0), 1);
}

TEST_P(ProcessTest, NamesAreGivenAndSeenInTheChild) {
  const std::string out = dir_.file("out");
  const auto tell = [](std::string path) {
    const auto me = brood::current_process();
    const auto parent = brood::parent_process();
    write_file(path, me.name() + " " + std::to_string(me.pid() == ::getpid()) + " " +
                         parent.value().name() + " " + std::to_string(parent->pid()) + " " +
                         std::to_string(parent->is_alive()));
  };
  Process p({.name = "ada"}, tell, out);
  EXPECT_EQ(p.name(), "ada");
  p.start().join();
  EXPECT_EQ(read_file(out), "ada 1 main " + std::to_string(::getpid()) + " 1");
  Process unnamed(nothing), second(nothing);
  EXPECT_TRUE(unnamed.name().starts_with("Process-")) << unnamed.name();
  EXPECT_NE(unnamed.name(), second.name());
  unnamed.set_name("renamed");
  EXPECT_EQ(unnamed.name(), "renamed");
  EXPECT_EQ(brood::parent_process(), std::nullopt);
}

TEST_P(ProcessTest, ActiveChildrenAreThoseThatRun) {  // [test_active_children]
  const std::string sign = dir_.file("sign");
  EXPECT_TRUE(brood::active_children().empty());
  Process p({.name = "active"}, run_and_wait, sign);
  EXPECT_TRUE(brood::active_children().empty());
  p.start();
  ASSERT_EQ(brood::active_children().size(), 1u);
  const brood::ProcessRef ref = brood::active_children().front();
  EXPECT_EQ(ref.name(), "active");
  EXPECT_FALSE(ref.join(1ms));
  p.kill();
  ref.join();
  EXPECT_FALSE(ref.is_alive());
  p.join();
  EXPECT_TRUE(brood::active_children().empty());
}

TEST_P(ProcessTest, DirectoryEnvironmentAndStreamsAreThoseAtStart) {
  const std::string out = dir_.file("out");
  const std::filesystem::path before = std::filesystem::current_path();
  const int saved = ::dup(1);
  ASSERT_EQ(::setenv("BROOD_TEST_VALUE", "at construction", 1), 0);
  Process p([] {
    std::printf("%s|%s", std::filesystem::current_path().c_str(), std::getenv("BROOD_TEST_VALUE"));
  });
  ASSERT_EQ(::setenv("BROOD_TEST_VALUE", "at start", 1), 0);
  std::filesystem::current_path(dir_.path());
  std::FILE* file = std::fopen(out.c_str(), "w");
  ::dup2(::fileno(file), 1);
  p.start();
  ::dup2(saved, 1);
  ::close(saved);
  std::fclose(file);
  std::filesystem::current_path(before);
  ::unsetenv("BROOD_TEST_VALUE");
  p.join();
  EXPECT_EQ(read_file(out), dir_.path().string() + "|at start");
}

TEST_P(ProcessTest, BufferedOutputIsWrittenOnce) {  // [test_flushing]
  const std::string out = dir_.file("out");
  const int saved = ::dup(1);
  std::FILE* file = std::fopen(out.c_str(), "w");
  ::dup2(::fileno(file), 1);
  std::printf("parent;");  // stays in the buffer, as the stream is not a terminal
  Process p([] { std::printf("child;"); });
  p.start().join();
  std::fflush(stdout);
  ::dup2(saved, 1);
  ::close(saved);
  std::fclose(file);
  const std::string text = read_file(out);
  EXPECT_TRUE(text == "parent;child;" || text == "child;parent;") << text;
}

TEST_P(ProcessTest, TheDestructorJoinsAndTerminatesDaemons) {
  const std::string out = dir_.file("out"), sign = dir_.file("sign");
  {
    Process p([](std::string path) { write_file(path, "whole"); }, out);
    p.start();
  }
  EXPECT_EQ(read_file(out), "whole");
  {
    Process daemon({.daemon = true}, run_and_wait, sign);
    daemon.start();
    await_sign(sign);
  }
  EXPECT_TRUE(brood::active_children().empty());
}

TEST_P(ProcessTest, ADaemonThatIgnoresSigtermIsKilled) {
  const std::string sign = dir_.file("sign");
  Process daemon(
      {.daemon = true},
      [](std::string path) {
        ::signal(SIGTERM, SIG_IGN);
        run_and_wait(path);
      },
      sign);
  daemon.start();
  await_sign(sign);
}

TEST_P(ProcessTest, MovesWithItsProcess) {
  std::vector<Process> processes;
  for (int i = 0; i < 3; ++i) processes.emplace_back([](int n) { std::exit(n); }, i).start();
  Process moved = std::move(processes[1]);
  processes[1] = Process(nothing);
  moved.join();
  EXPECT_EQ(moved.exitcode(), 1);
  processes[2].join();
  EXPECT_EQ(processes[2].exitcode(), 2);
}

TEST_P(ProcessTest, ProcessesStartProcesses) {  // [test_recursion, test_nested_startmethod]
  const std::string out = dir_.file("out");
  Process p(
      [](std::string path) {
        Process q(
            {.name = "grandchild"},
            [](std::string file) {
              write_file(file, brood::parent_process()->name() + ";" +
                                   brood::to_string(brood::get_start_method()));
            },
            path);
        q.start().join();
        std::exit(q.exitcode() == 0 ? 42 : 1);
      },
      out);
  p.set_name("child");
  p.start().join();
  EXPECT_EQ(p.exitcode(), 42);
  EXPECT_EQ(read_file(out), "child;" + brood::to_string(GetParam()));
}

TEST_P(ProcessTest, ManyProcessesEndAsTheyShould) {  // [test_many_processes]
  std::vector<Process> processes;
  for (int i = 0; i < 40; ++i) processes.emplace_back([](int n) { std::exit(n); }, i).start();
  for (int i = 0; i < 40; ++i) {
    processes[static_cast<std::size_t>(i)].join();
    EXPECT_EQ(processes[static_cast<std::size_t>(i)].exitcode(), i);
  }
}

TEST_P(ProcessTest, SeveralThreadsMayWaitForOneProcess) {
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "fork is started before the threads below";
  const std::string sign = dir_.file("sign");
  Process p(run_and_wait, sign);
  p.start();
  std::vector<std::optional<int>> seen(4);
  {
    std::vector<std::jthread> threads;
    for (auto& code : seen) {
      threads.emplace_back([&] {
        p.join();
        code = p.exitcode();
      });
    }
    p.kill();
  }
  for (const auto& code : seen) EXPECT_EQ(code, -SIGKILL);
}

TEST_P(ProcessTest, AChildHasTheDescriptorsItNeedsAndNoOthers) {  // [test_closefd]
  if (GetParam() == StartMethod::fork) GTEST_SKIP() << "a fork has its parent's, as it should";
  const int extra = ::dup(0);
  const std::string out = dir_.file("out");
  Process p(
      [](std::string path, int fd) { write_file(path, ::fcntl(fd, F_GETFD) < 0 ? "no" : "yes"); },
      out, extra);
  p.start().join();
  ::close(extra);
  EXPECT_EQ(read_file(out), "no");
}

TEST(ForkTest, IsRefusedWhileOtherThreadsRun) {
  std::jthread other([](std::stop_token stop) {
    while (!stop.stop_requested()) std::this_thread::yield();
  });
  Process p({.start_method = StartMethod::fork}, nothing);
  try {
    p.start();
    FAIL() << "it was started";
  } catch (const brood::StartError& e) {
    EXPECT_NE(std::string(e.what()).find("2 threads"), std::string::npos) << e.what();
  }
  Process q({.start_method = StartMethod::forkserver}, nothing);
  q.start().join();
  EXPECT_EQ(q.exitcode(), 0);
}

TEST(ForkTest, WaitsWhileThreadsGoOnEnding) {
  // As many threads do that are woken to end at once on a busy machine: this takes 200 ms.
  for (int i = 0; i < 100; ++i) {
    std::thread([i] { std::this_thread::sleep_for(i * 2ms); }).detach();
  }
  Process p({.start_method = StartMethod::fork}, nothing);
  p.start().join();
  EXPECT_EQ(p.exitcode(), 0);
}

TEST(RuntimeTest, ASecondOneIsRefused) { EXPECT_THROW(brood::Runtime second, brood::StateError); }

TEST(StartMethodTest, NamesAndOrder) {
  const auto methods = brood::get_all_start_methods();
  ASSERT_EQ(methods.size(), 3u);
  EXPECT_EQ(methods.front(), StartMethod::forkserver);
  for (const StartMethod method : methods) {
    EXPECT_EQ(brood::start_method_from(brood::to_string(method)), method);
  }
  EXPECT_THROW(brood::start_method_from("clone"), brood::StateError);
}

}  // namespace
}  // namespace process_test
