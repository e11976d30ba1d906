// Length: one list of all that can go wrong.
// Every way in which a task can go wrong costs one item and nothing else; what goes wrong on its
// way in and out is in pool_crash_matrix_test.cpp. Names in brackets are the tests of CPython's
// suites that ask for the same.
// Not for ThreadSanitizer: processes.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <ranges>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <brood/bind.hpp>

#include "pool_test_support.hpp"
#include "support/no_memory.hpp"
#include "support/temp_dir.hpp"

namespace pool_failures_test {
namespace {

using namespace brood::testing;
using brood::Pool;
using brood::StartMethod;
using brood::WorkerCrashed;

class PoolFailuresTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolFailuresTest);

enum class Deed { sigkill, sigterm, exit_zero, exit_three, leave, abort, segfault, divide };

__attribute__((no_sanitize("address", "undefined"))) void write_to_null() {
  volatile int* volatile nowhere = nullptr;
  *nowhere = 1;
}

/// Ends this process.
void commit(Deed deed) {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  switch (deed) {
    case Deed::sigkill:
      ::raise(SIGKILL);
      break;
    case Deed::sigterm:
      ::raise(SIGTERM);
      break;
    case Deed::exit_zero:
      ::_exit(0);
    case Deed::exit_three:
      std::exit(3);
    case Deed::leave:
      std::quick_exit(4);
    case Deed::abort:
      std::abort();
    case Deed::segfault:
      ::signal(SIGSEGV, SIG_DFL);  // or a sanitizer's handler would take it
      write_to_null();
      break;
    case Deed::divide:
      ::signal(SIGFPE, SIG_DFL);
      ::raise(SIGFPE);
      break;
  }
}

struct Row {
  Deed deed;
  int signal;
  int exit_code;
  const char* said;
};
constexpr Row kRows[] = {
    {Deed::sigkill, SIGKILL, 0, "SIGKILL"},
    {Deed::sigterm, SIGTERM, 0, "SIGTERM"},
    {Deed::exit_zero, 0, 0, "exit"},
    {Deed::exit_three, 0, 3, "3"},
    {Deed::leave, 0, 4, "4"},
    {Deed::abort, SIGABRT, 0, "SIGABRT"},
    {Deed::segfault, SIGSEGV, 0, "SIGSEGV"},
    {Deed::divide, SIGFPE, 0, "SIGFPE"},
};

constexpr int kItems = 20;
constexpr int kBad = 5;

int do_it_at_five(Deed deed, int n) {
  if (n == kBad) commit(deed);
  return n * 10;
}

void expect_crash(const std::exception_ptr& error, const Row& row, const Pool& pool) {
  const auto crash = as<WorkerCrashed>(error);
  EXPECT_EQ(crash.signal(), row.signal);
  if (row.signal == 0) {
    EXPECT_EQ(crash.exit_code(), row.exit_code);
    EXPECT_EQ(crash.signal_name(), "");
  } else {
    EXPECT_EQ(crash.signal_name(), row.said);
  }
  EXPECT_EQ(crash.attempt(), 1u);
  EXPECT_GT(crash.pid(), 0);
  EXPECT_TRUE(crash.worker().starts_with("brood-worker-")) << crash.worker();
  const std::string text = crash.what();
  EXPECT_NE(text.find(row.said), std::string::npos) << text;
  EXPECT_NE(text.find(std::to_string(crash.pid())), std::string::npos) << text;
  EXPECT_NE(text.find(crash.worker()), std::string::npos) << text;
  for (const int pid : pool.worker_pids()) EXPECT_NE(pid, crash.pid());
}

TEST_P(PoolFailuresTest, ADeathCostsTheItemAndNothingElse) {
  for (const int workers : {1, 2, 5}) {
    Pool pool({.workers = workers});
    for (const Row& row : kRows) {
      SCOPED_TRACE(::testing::Message() << workers << " workers, " << row.said);
      const auto outcomes =
          pool.with({.chunk = row.exit_code == 3 ? std::size_t{7} : 0})
              .try_map(brood::bind(do_it_at_five, row.deed), std::views::iota(0, kItems));
      ASSERT_EQ(outcomes.size(), static_cast<std::size_t>(kItems));
      for (int i = 0; i < kItems; ++i) {
        const auto& outcome = outcomes[static_cast<std::size_t>(i)];
        if (i == kBad) {
          ASSERT_FALSE(outcome.has_value());
          expect_crash(outcome.error(), row, pool);
          EXPECT_EQ(as<WorkerCrashed>(outcome.error()).item(), static_cast<std::size_t>(kBad));
        } else {
          ASSERT_TRUE(outcome.has_value()) << "item " << i << ": " << message_of(outcome.error());
          EXPECT_EQ(*outcome, i * 10);
        }
      }
    }
    EXPECT_TRUE(all_live(pool));
    EXPECT_EQ(pool.map([](int n) { return n; }, first_integers(100)), first_integers(100));
  }
}

TEST_P(PoolFailuresTest, FailuresAndADeathInOneChunkCostTheirItemsOnly) {
  Pool pool({.workers = 1});
  const auto deed = [](int n) {
    if (n == 2 || n == 7) throw BadInput("item " + std::to_string(n));
    if (n == 5) ::raise(SIGKILL);
    return n * 10;
  };
  const auto outcomes = pool.with({.chunk = 10}).try_map(deed, std::views::iota(0, 10));
  ASSERT_EQ(outcomes.size(), 10u);
  for (int i = 0; i < 10; ++i) {
    SCOPED_TRACE(i);
    const auto& outcome = outcomes[static_cast<std::size_t>(i)];
    if (i == 5) {
      EXPECT_EQ(as<WorkerCrashed>(outcome.error()).item(), 5u);
    } else if (i == 2 || i == 7) {
      EXPECT_EQ(message_of(outcome.error()), "item " + std::to_string(i));
    } else {
      ASSERT_TRUE(outcome.has_value()) << message_of(outcome.error());
      EXPECT_EQ(*outcome, i * 10);
    }
  }
}

TEST_P(PoolFailuresTest, MapThrowsTheFirstFailureAfterComputingAll) {  // [test_map_no_failfast]
  Pool pool({.workers = 2});
  const std::string done = dir_.file("done");
  const auto work = brood::bind(
      [](std::string path, int n) {
        if (n == 5) ::raise(SIGKILL);
        if (n == 3) throw BadInput("three");
        if (n == 11) throw std::out_of_range("eleven");
        give_sign(path);
        return n;
      },
      done);
  EXPECT_EQ(as<BadInput>(thrown_by([&] { pool.map(work, first_integers(20)); })).what(),
            std::string("three"));
  EXPECT_EQ(read_file(done).size(), 17u);
}

// [test_traceback_when_child_process_terminates_abruptly]
TEST_P(PoolFailuresTest, ADeadTaskFailsItsFutureOnly) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.said);
    Pool pool({.workers = 2});
    std::vector<brood::Future<int>> futures;
    for (int i = 0; i < kItems; ++i) futures.push_back(pool.submit(do_it_at_five, row.deed, i));
    for (int i = 0; i < kItems; ++i) {
      auto& future = futures[static_cast<std::size_t>(i)];
      if (i == kBad) {
        const std::exception_ptr error = thrown_by([&] { future.get(); });
        expect_crash(error, row, pool);
        EXPECT_EQ(as<WorkerCrashed>(error).item(), std::nullopt) << "a task is no item of a range";
        EXPECT_FALSE(future.valid());
      } else {
        EXPECT_EQ(future.get(), i * 10);
      }
    }
  }
}

TEST_P(PoolFailuresTest, AllItemsMayBeFatal) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    const auto outcomes = pool.try_map([](int) { ::raise(SIGKILL); }, first_integers(12));
    std::set<std::size_t> named;
    for (const auto& outcome : outcomes) {
      ASSERT_FALSE(outcome.has_value());
      named.insert(as<WorkerCrashed>(outcome.error()).item().value());
    }
    EXPECT_EQ(named.size(), 12u);
    EXPECT_EQ(pool.apply([] { return 1; }), 1);
    EXPECT_TRUE(all_live(pool));
  }
}

TEST_P(PoolFailuresTest, AHundredThousandFailuresAreToldApart) {
  // Once: how workers start makes no difference to it.
  const bool all = !kAddressSanitizer && GetParam() == StartMethod::forkserver;
  const int count = all ? 100'000 : 2'000;
  Pool pool({.workers = 2});
  const auto throws = [](int n) -> int { throw BadInput(std::to_string(n)); };
  const auto outcomes = pool.try_map(throws, first_integers(count));
  for (int i = 0; i < count; i += 997) {
    EXPECT_EQ(message_of(outcomes[static_cast<std::size_t>(i)].error()), std::to_string(i));
  }
}

TEST_P(PoolFailuresTest, RetriesComputeAnItemAgain) {
  Pool pool({.workers = 2});
  // Fatal twice, then not.
  const auto third_time = brood::bind(
      [](std::string path, int n) {
        if (n != 4) return n;
        give_sign(path);
        if (read_file(path).size() < 3) ::raise(SIGKILL);
        return n;
      },
      dir_.file("attempts"));
  EXPECT_EQ(pool.with({.retries = 2}).map(third_time, first_integers(10)), first_integers(10));
  EXPECT_EQ(read_file(dir_.file("attempts")).size(), 3u);
  const auto always = [](int n) {
    if (n == 4) ::raise(SIGKILL);
    return n;
  };
  const auto crash = as<WorkerCrashed>(
      thrown_by([&] { pool.with({.retries = 2}).map(always, first_integers(10)); }));
  EXPECT_EQ(crash.attempt(), 3u);
  EXPECT_EQ(crash.item(), 4u);
  auto task = pool.with({.retries = 1})
                  .submit(
                      [](std::string path) {
                        give_sign(path);
                        if (read_file(path).size() < 2) ::raise(SIGKILL);
                        return 9;
                      },
                      dir_.file("task"));
  EXPECT_EQ(task.get(), 9);
  // An exception is an answer: it is not asked again.
  const auto throws = brood::bind(
      [](std::string path, int) { give_sign(path), throw BadInput(""); }, dir_.file("throws"));
  EXPECT_THROW(pool.with({.retries = 5}).map(throws, first_integers(1)), BadInput);
  EXPECT_EQ(read_file(dir_.file("throws")).size(), 1u);
}

// --- exceptions ------------------------------------------------------------------------------

void throw_number(int which) {
  switch (which) {
    case 0:
      throw std::out_of_range("no such luck");
    case 1:
      throw std::system_error(std::make_error_code(std::errc::no_such_file_or_directory), "open");
    case 2:
      throw std::bad_alloc();
    case 3:
      throw BadInput("line 7");
    case 4:
      throw Unregistered("whatever");
    case 5:
      throw 42;
    case 6:
      throw brood::TimeoutError("late");
    case 7:
      try {
        throw BadInput("the cause");
      } catch (...) {
        std::throw_with_nested(std::runtime_error("the effect"));
      }
    default:
      break;
  }
}

void expect_their_own_types(const std::vector<std::exception_ptr>& errors) {
  ASSERT_EQ(errors.size(), 8u);
  EXPECT_EQ(as<std::out_of_range>(errors[0]).what(), std::string("no such luck"));
  EXPECT_EQ(as<std::system_error>(errors[1]).code(), std::errc::no_such_file_or_directory);
  EXPECT_TRUE(is_a<std::bad_alloc>(errors[2]));
  EXPECT_EQ(as<BadInput>(errors[3]).what(), std::string("line 7"));
  const auto unregistered = as<brood::RemoteError>(errors[4]);
  EXPECT_NE(unregistered.type().find("Unregistered"), std::string::npos) << unregistered.type();
  EXPECT_EQ(unregistered.message(), "whatever");
  const auto number = as<brood::RemoteError>(errors[5]);
  EXPECT_EQ(number.type(), "int");
  EXPECT_EQ(as<brood::TimeoutError>(errors[6]).what(), std::string("late"));
  try {
    std::rethrow_if_nested(as<std::runtime_error>(errors[7]));
  } catch (const std::exception&) {
    // Sliced by as(): looked at below.
  }
  try {
    std::rethrow_exception(errors[7]);
  } catch (const std::runtime_error& effect) {
    EXPECT_EQ(effect.what(), std::string("the effect"));
    const std::exception_ptr cause = thrown_by([&] { std::rethrow_if_nested(effect); });
    EXPECT_EQ(as<BadInput>(cause).what(), std::string("the cause"));
  }
}

TEST_P(PoolFailuresTest, ExceptionsComeBackAsThemselves) {  // [test_wrapped_exception]
  for (const int workers : {0, 1, 2}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    std::vector<std::exception_ptr> of_map;
    for (const auto& outcome : pool.try_map(throw_number, std::views::iota(0, 8))) {
      of_map.push_back(outcome.error());
    }
    expect_their_own_types(of_map);
    std::vector<std::exception_ptr> of_tasks;
    for (int i = 0; i < 8; ++i) {
      auto future = pool.submit(throw_number, i);
      of_tasks.push_back(thrown_by([&] { future.get(); }));
    }
    expect_their_own_types(of_tasks);
  }
}

void the_one_that_throws(int n) {
  if (n == 2) throw BadInput("number " + std::to_string(n));
}

TEST_P(PoolFailuresTest, ExceptionsKnowWhereTheyCameFrom) {  // [test_traceback]
  Pool pool({.workers = 2});
  try {
    pool.map(the_one_that_throws, first_integers(5));
    FAIL() << "nothing was thrown";
  } catch (const BadInput& e) {
    const brood::RemoteTrace* trace = brood::remote_trace(e);
    ASSERT_NE(trace, nullptr);
    EXPECT_EQ(trace->message(), "number 2");
    EXPECT_EQ(trace->failure().item, 2u);
    EXPECT_NE(trace->failure().process.find("brood-worker-"), std::string::npos)
        << trace->failure().process;
    ASSERT_FALSE(trace->stack().empty());
#ifdef BROOD_HAS_LIBDW
    bool named = false;
    for (const std::string& frame : trace->stack()) {
      named = named || (frame.find("the_one_that_throws") != std::string::npos &&
                        frame.find("pool_failures_test.cpp") != std::string::npos);
    }
    EXPECT_TRUE(named) << trace->failure().describe();
#endif
  }
}

TEST_P(PoolFailuresTest, EachFailureIsAnExceptionOfItsOwn) {
  // [test_broken_process_pool_traceback]
  Pool pool({.workers = 2});
  const auto outcomes =
      pool.try_map([](int n) { throw BadInput(std::to_string(n)); }, first_integers(500));
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_EQ(message_of(outcomes[i].error()), std::to_string(i));
  }
}

TEST_P(PoolFailuresTest, AHugeMessageArrivesCutButWhole) {
  Pool pool({.workers = 2});
  const auto shouts = [](int n) {
    throw BadInput(std::string(std::size_t{4} << 20U, 'x') + std::to_string(n));
  };
  for (int i = 0; i < 3; ++i) {
    const std::string text = message_of(thrown_by([&] { pool.map(shouts, first_integers(3)); }));
    EXPECT_TRUE(text.starts_with("xxxx")) << text.substr(0, 100);
    EXPECT_GT(text.size(), 1000u);
    EXPECT_THROW(pool.apply(shouts, 1), BadInput);
  }
}

// --- what is full ----------------------------------------------------------------------------

TEST_P(PoolFailuresTest, AFullDiskIsAnErrorOfWhoWritesToIt) {
  const auto write = [](int n) {
    if (n != kBad) return n;
    const int disk = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(::fdopen(disk, "w"), &std::fclose);
    if (std::fputs("a record", file.get()) < 0 || std::fflush(file.get()) != 0) {
      throw std::system_error(errno, std::generic_category(), "write");
    }
    return n;
  };
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    const auto outcomes = pool.try_map(write, first_integers(kItems));
    EXPECT_EQ(as<std::system_error>(outcomes[kBad].error()).code(), std::errc::no_space_on_device);
    for (int i = 0; i < kItems; ++i) {
      EXPECT_TRUE(i == kBad || outcomes[static_cast<std::size_t>(i)].has_value());
    }
    EXPECT_EQ(pool.counts().crashed, 0U);
  }
}

TEST_P(PoolFailuresTest, ATimelineOnAFullDiskIsAnErrorAndNoMore) {
  ::testing::internal::CaptureStderr();
  {
    Pool pool({.workers = 1, .timeline = "/dev/full"});
    EXPECT_EQ(pool.map([](int n) { return n; }, first_integers(10)), first_integers(10));
    const auto full = as<brood::SystemError>(thrown_by([&] { pool.write_timeline("/dev/full"); }));
    EXPECT_EQ(full.code(), std::errc::no_space_on_device) << full.what();
    EXPECT_EQ(pool.map([](int n) { return n; }, first_integers(10)), first_integers(10));
  }
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("/dev/full"), std::string::npos) << said;
  EXPECT_NE(said.find("ENOSPC"), std::string::npos) << said;
}

// Results that find no room fail, with the reason; nothing dies of it, and later there is room.
TEST_P(PoolFailuresTest, AFullSegmentFailsWhatNeedsMore) {
  const auto large = [](const std::string& sign, int n) {
    await_sign(sign);
    return std::string(std::size_t{8} << 20U, static_cast<char>('a' + n));
  };
  const auto small = [](const std::string& sign, int n) {
    await_sign(sign);
    return n;
  };
  const auto size = [](int n) { return std::string(static_cast<std::size_t>(n) << 20U, 'y'); };
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    const std::string sign = dir_.file("go" + std::to_string(workers));
    Pool pool({.workers = workers});
    std::vector<brood::Future<std::string>> futures;
    for (int i = 0; i < 8; ++i) futures.push_back(pool.submit(large, sign, i));
    brood::Future<int> needs_none = pool.submit(small, sign, 7);
    {
      const NoMemory none;
      give_sign(sign);
      for (brood::Future<std::string>& future : futures) {
        const std::exception_ptr error = thrown_by([&] { future.get(); });
        EXPECT_TRUE(is_a<brood::SharedMemoryFull>(error)) << message_of(error);
      }
      EXPECT_EQ(needs_none.get(), 7);
      EXPECT_THROW(pool.map(size, std::vector{8, 8}), brood::SharedMemoryFull);
      EXPECT_THROW(pool.apply([](const std::string& text) { return text.size(); },
                              std::string(std::size_t{8} << 20U, 'z')),
                   brood::SharedMemoryFull);
    }
    EXPECT_EQ(pool.map(size, std::vector{1, 2})[1].size(), std::size_t{2} << 20U);
    EXPECT_EQ(pool.apply(large, sign, 1).size(), std::size_t{8} << 20U);
    EXPECT_EQ(pool.counts().crashed, 0U);
  }
}

// --- what a task may do to its worker -------------------------------------------------------

int jump(int n) {
  // As a library in C leaves its depths.
  static std::jmp_buf back;
  static int kept;
  kept = n;
  if (setjmp(back) == 0) {
    std::longjmp(back, 1);
  }
  return kept * 10;
}

TEST_P(PoolFailuresTest, AJumpOutOfTheDepthsOfATask) {
  for (const int workers : {1, 2, 5}) {
    Pool pool({.workers = workers});
    EXPECT_EQ(pool.map(jump, std::vector{1, 2, 3}), (std::vector{10, 20, 30}));
    EXPECT_EQ(pool.counts().crashed, 0U);
  }
}

TEST_P(PoolFailuresTest, AThreadThatIsLeftRunningHoldsUpNothing) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    const auto leave = [](int n) {
      std::thread([] { ::pause(); }).detach();
      return n;
    };
    EXPECT_EQ(pool.with({.chunk = 1}).map(leave, first_integers(10)), first_integers(10));
    EXPECT_EQ(pool.counts().crashed, 0U);
    pool.close();
    pool.join();
    EXPECT_TRUE(pool.worker_pids().empty());
  }
}

TEST_P(PoolFailuresTest, ACopyOfAWorkerThatATaskMakesAndEnds) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    const auto copy = [](int n) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(n);
      int status = 0;
      if (::waitpid(child, &status, 0) != child) throw BadInput("the copy is gone");
      return WEXITSTATUS(status);
    };
    EXPECT_EQ(pool.with({.chunk = 1}).map(copy, first_integers(10)), first_integers(10));
    EXPECT_EQ(pool.counts().crashed, 0U);
  }
}

// A copy that comes back from the task is no second worker: each item is run once, by workers only,
// and has the worker's result.
TEST_P(PoolFailuresTest, ACopyThatComesBackFromTheTaskIsEnded) {
  constexpr int kMany = 2000;
  const TempDir dir;
  const auto run = [](const std::string& file, int n) {
    std::ofstream(file, std::ios::app) << '.' << std::flush;
    if (n % 500 != 5) return 2 * n;
    const pid_t child = ::fork();
    if (child == 0) return -1;
    int status = 0;
    if (::waitpid(child, &status, 0) != child) throw BadInput("the copy is gone");
    if (WIFEXITED(status) ? WEXITSTATUS(status) != 1 : WTERMSIG(status) != SIGSEGV) {
      throw BadInput("the copy went on");
    }
    return 2 * n;
  };
  std::vector<int> expected;
  for (int i = 0; i < kMany; ++i) expected.push_back(2 * i);
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    const std::string file = dir.file("runs" + std::to_string(workers));
    Pool pool({.workers = workers});
    EXPECT_EQ(pool.map(brood::bind(run, file), first_integers(kMany)), expected);
    EXPECT_EQ(std::filesystem::file_size(file), static_cast<std::size_t>(kMany));
    EXPECT_EQ(pool.submit(run, file, 5).get(), 10);
    EXPECT_EQ(pool.counts().crashed, 0U);
  }
}

TEST_P(PoolFailuresTest, ACopyMayEndByExitAndExecute) {
  const auto end_of = [](int n) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (n == 0) std::exit(7);
      ::execl("/bin/sh", "sh", "-c", "exit 8", nullptr);
      ::_exit(9);
    }
    int status = 0;
    if (::waitpid(child, &status, 0) != child) throw BadInput("the copy is gone");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  };
  Pool pool({.workers = 1});
  EXPECT_EQ(pool.map(end_of, first_integers(2)), (std::vector{7, 8}));
  // And processes that Brood makes are members as ever.
  EXPECT_EQ(pool.apply(
                [](int n) {
                  return Pool({.workers = 1, .start_method = StartMethod::fork})
                      .apply([](int m) { return m + 1; }, n);
                },
                1),
            2);
}

TEST_P(PoolFailuresTest, DeadWorkersDoNotKeepMemory) {
  Pool pool({.workers = 2});
  const auto& extents = brood::detail::Family::require()->segment().extents();
  const auto make_and_die = [](int n) {
    if (n == 3) ::raise(SIGKILL);
    return std::string(std::size_t{1} << 20U, 'x');
  };
  const auto round = [&] {
    static_cast<void>(pool.try_map(make_and_die, first_integers(4)));
    auto future = pool.submit(make_and_die, 3);
    EXPECT_THROW(future.get(), WorkerCrashed);
    EXPECT_EQ(pool.apply(make_and_die, 1).size(), std::size_t{1} << 20U);
  };
  for (int i = 0; i < 4; ++i) round();
  const std::size_t before = extents.used_bytes();
  for (int i = 0; i < 12; ++i) round();
  EXPECT_LE(extents.used_bytes(), before + (std::size_t{12} << 20U))
      << "24 more workers died with some megabytes each";
}

}  // namespace
}  // namespace pool_failures_test
