// What workers write to stderr: it comes out here, and a crash's report has the end of it.
// Not for ThreadSanitizer: processes.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <brood/bind.hpp>
#include <brood/platform/deadline.hpp>

#include "pool_test_support.hpp"

namespace pool_stderr_test {
namespace {

using namespace brood::testing;
using brood::Pool;
using brood::WorkerCrashed;
using namespace std::chrono_literals;

class PoolStderrTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolStderrTest);

void say(const std::string& text) {
  ASSERT_EQ(::write(2, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}
void die() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::signal(SIGABRT, SIG_DFL);  // or a sanitizer would have its say
  std::abort();
}

/// This process's stderr, until the end of its life or text().
class Captured {
 public:
  Captured() { ::testing::internal::CaptureStderr(); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  ~Captured() {
    if (on_) ::testing::internal::GetCapturedStderr();
  }
  std::string text() {
    on_ = false;
    return ::testing::internal::GetCapturedStderr();
  }

 private:
  bool on_ = true;
};

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

TEST_P(PoolStderrTest, TheReportOfACrashHasWhatTheWorkerSaidLast) {
  const auto work = [](int n) {
    say("item " + std::to_string(n) + "\n");
    if (n != 5) return n;
    std::fputs("free(): invalid pointer\n", stderr);
    die();
    return 0;
  };
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Captured here;
    {
      Pool pool({.workers = workers});
      const auto outcomes = pool.with({.chunk = 1}).try_map(work, first_integers(20));
      const auto crash = as<WorkerCrashed>(outcomes[5].error());
      EXPECT_TRUE(crash.stderr_tail().ends_with("item 5\nfree(): invalid pointer\n"))
          << crash.stderr_tail();
      EXPECT_NE(crash.describe().find("the end of its stderr:\n"), std::string::npos)
          << crash.describe();
      EXPECT_NE(crash.describe().find("\n  | free(): invalid pointer"), std::string::npos)
          << crash.describe();
      // Its own words only, and the next worker in its place begins anew.
      const auto second = as<WorkerCrashed>(thrown_by([&] { pool.submit(work, 5).get(); }));
      EXPECT_LE(count_of(second.stderr_tail(), "invalid pointer"), 1U) << second.stderr_tail();
    }
    const std::string all = here.text();
    for (int n = 0; n < 20; ++n) {
      EXPECT_EQ(count_of(all, "item " + std::to_string(n) + "\n"), n == 5 ? 2U : 1U) << all;
    }
    EXPECT_EQ(count_of(all, "free(): invalid pointer\n"), 2U) << all;
  }
}

TEST_P(PoolStderrTest, AnExitHasItToo) {
  Captured here;
  Pool pool({.workers = 1});
  const auto exit = as<WorkerCrashed>(thrown_by([&] {
    pool.submit([] {
          say("fatal: no license\n");
          ::_exit(3);
        })
        .get();
  }));
  EXPECT_EQ(exit.exit_code(), 3);
  EXPECT_EQ(exit.stderr_tail(), "fatal: no license\n");
  const auto silent = as<WorkerCrashed>(thrown_by([&] { pool.submit([] { ::_exit(4); }).get(); }));
  EXPECT_EQ(silent.stderr_tail(), "");
}

TEST_P(PoolStderrTest, OfMuchTextTheEndIsKept) {
  const auto shout = [](int lines) {
    for (int i = 0; i < lines; ++i) say("line " + std::to_string(i) + "\n");
    die();
  };
  constexpr int kLines = 20'000;  // more than a pipe holds
  Captured here;
  {
    Pool pool({.workers = 2, .stderr_tail = 100});
    const auto crash = as<WorkerCrashed>(thrown_by([&] { pool.submit(shout, kLines).get(); }));
    EXPECT_EQ(crash.stderr_tail().size(), 100U);
    EXPECT_TRUE(crash.stderr_tail().ends_with("line 19998\nline 19999\n")) << crash.stderr_tail();
  }
  const std::string all = here.text();
  EXPECT_EQ(count_of(all, "line "), static_cast<std::size_t>(kLines));
  EXPECT_TRUE(all.starts_with("line 0\nline 1\n")) << all.substr(0, 100);
}

TEST_P(PoolStderrTest, ItTravelsWithTheException) {
  Captured here;
  Pool pool({.workers = 1});
  const auto inner = [] {
    Pool mine({.workers = 1});
    mine.apply([] {
      say("from within\n");
      die();
    });
  };
  const auto crash = as<WorkerCrashed>(thrown_by([&] { pool.apply(inner); }));
  EXPECT_EQ(crash.stderr_tail(), "from within\n");
}

TEST_P(PoolStderrTest, NothingIsKeptIfNobodyAsks) {
  Captured here;
  {
    Pool pool({.workers = 1, .stderr_tail = 0});
    const auto crash = as<WorkerCrashed>(thrown_by([&] {
      pool.submit([] {
            say("straight\n");
            die();
          })
          .get();
    }));
    EXPECT_EQ(crash.stderr_tail(), "");
    EXPECT_EQ(crash.describe().find("stderr"), std::string::npos);
  }
  EXPECT_EQ(here.text(), "straight\n");
}

/// This process's stderr goes to a file.
class ToFile {
 public:
  explicit ToFile(const std::string& path) : before_(::dup(2)) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0 || ::dup2(file, 2) != 2) std::abort();
    ::close(file);
  }
  ToFile(const ToFile&) = delete;
  ToFile& operator=(const ToFile&) = delete;
  ~ToFile() {
    ::dup2(before_, 2);
    ::close(before_);
  }

 private:
  int before_;
};

TEST_P(PoolStderrTest, WhatADescendantOfADeadWorkerSaysComesOutToo) {
  const std::string go = dir_.file("go");
  const std::string out = dir_.file("out");
  const ToFile redirected(out);
  Pool pool({.workers = 1});
  const auto leave_one = [](const std::string& sign) {
    if (::fork() == 0) {
      while (!sign_given(sign)) ::usleep(1000);
      say("much later\n");
      ::_exit(0);
    }
    ::_exit(1);
  };
  EXPECT_THROW(pool.submit(leave_one, go).get(), WorkerCrashed);
  EXPECT_EQ(pool.apply([] { return 7; }), 7);  // its successor is there
  give_sign(go);
  EXPECT_TRUE(eventually([&] { return read_file(out) == "much later\n"; })) << read_file(out);
}

/// stderr is a pipe that is full, and that nobody reads.
class Stuck {
 public:
  Stuck() : before_(::dup(2)) {
    if (::pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
    const std::array<char, 4096> filling{};
    while (::write(ends_[1], filling.data(), filling.size()) > 0) {
    }
    ::fcntl(ends_[1], F_SETFL, 0);
    ::dup2(ends_[1], 2);
  }
  Stuck(const Stuck&) = delete;
  Stuck& operator=(const Stuck&) = delete;
  ~Stuck() {
    ::dup2(before_, 2);
    ::close(before_);
    ::close(ends_[0]);
    ::close(ends_[1]);
  }

 private:
  std::array<int, 2> ends_{};
  int before_;
};

TEST_P(PoolStderrTest, AReaderThatIsStuckHoldsUpNoPool) {
  const Stuck stuck;
  const brood::detail::Deadline soon = brood::detail::Deadline::after(20s);
  {
    Pool pool({.workers = 2});
    const auto work = [](int n) {
      say("nobody reads this\n");
      if (n == 5) die();
      return n;
    };
    const auto outcomes = pool.try_map(work, first_integers(20));
    EXPECT_TRUE(
        as<WorkerCrashed>(outcomes[5].error()).stderr_tail().ends_with("nobody reads this\n"));
    EXPECT_TRUE(outcomes[19].has_value());
  }
  EXPECT_FALSE(soon.passed());
}

}  // namespace
}  // namespace pool_stderr_test
