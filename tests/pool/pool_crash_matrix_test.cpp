// Length: one matrix.
// Where something goes wrong: an argument, a result or an exception is written or read, a task
// runs, an argument is destroyed, a callback is called. How: it throws, exits, aborts, or its
// process is killed. In a worker that costs one item; in the pool's own process it is that
// process's affair, and nothing of the pool is left behind. With 1, 2 and 5 workers. Names in
// brackets are the tests of CPython's and loky's suites that ask for the same.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <fstream>
#include <ios>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <brood/bind.hpp>
#include <brood/process.hpp>
#include <brood/retry.hpp>

#include "pool_test_support.hpp"

namespace brood::testing {

enum class How { raise, exit, leave, abort, kill };
constexpr How kHows[] = {How::raise, How::exit, How::leave, How::abort, How::kill};

std::ostream& operator<<(std::ostream& out, How how) {
  constexpr const char* kNames[] = {"throws", "exits", "leaves", "aborts", "is killed"};
  return out << kNames[static_cast<int>(how)];
}

/// Throws BadInput, or ends this process.
void misbehave(How how) {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  switch (how) {
    case How::raise:
      throw BadInput("on the way");
    case How::exit:
      std::exit(3);
    case How::leave:
      ::_exit(0);
    case How::abort:
      ::signal(SIGABRT, SIG_DFL);  // or a sanitizer would have its say
      std::abort();
    case How::kill:
      ::raise(SIGKILL);
  }
}

/// Exceptions whose codec is as bad as they are.
struct BadToWrite {
  How how;
};
struct BadToRead {
  How how;
};
std::string write_badly(const BadToWrite& e) {
  misbehave(e.how);
  return "";
}
BadToWrite read_well(std::string_view) { return {How::raise}; }
std::string write_well(const BadToRead&) { return "x"; }
BadToRead read_badly(std::string_view) { throw BadInput("on the way"); }

}  // namespace brood::testing

using brood::testing::BadToRead;
using brood::testing::BadToWrite;
BROOD_REGISTER_EXCEPTION(BadToWrite, brood::testing::write_badly, brood::testing::read_well);
BROOD_REGISTER_EXCEPTION(BadToRead, brood::testing::write_well, brood::testing::read_badly);

namespace pool_crash_matrix_test {
namespace {

using namespace brood::testing;
using brood::Pool;
using brood::Process;
using brood::WorkerCrashed;

class PoolCrashMatrixTest : public PoolTest {
 protected:
  /// `test(pool, how)` for all of them.
  template <class Test>
  static void each(Test test) {
    for (const int workers : {1, 2, 5}) {
      Pool pool({.workers = workers});
      for (const How how : kHows) {
        std::ostringstream where;
        where << workers << " workers, one " << how;
        SCOPED_TRACE(where.str());
        test(pool, how);
      }
      EXPECT_EQ(pool.map([](int n) { return n; }, first_integers(50)), first_integers(50));
      EXPECT_TRUE(all_live(pool));
    }
  }
};
BROOD_UNDER_EVERY_START_METHOD(PoolCrashMatrixTest);

constexpr int kItems = 20;
constexpr int kBad = 5;

void expect_failure(const std::exception_ptr& error, How how) {
  if (how == How::raise) {
    EXPECT_TRUE(is_a<BadInput>(error)) << message_of(error);
    return;
  }
  const auto crash = as<WorkerCrashed>(error);
  EXPECT_EQ(crash.signal(), how == How::abort ? SIGABRT : how == How::kill ? SIGKILL : 0);
  EXPECT_EQ(crash.exit_code(), how == How::exit ? 3 : 0);
}

template <class R>
void expect_one_bad(const std::vector<brood::Outcome<R>>& outcomes, How how) {
  ASSERT_EQ(outcomes.size(), static_cast<std::size_t>(kItems));
  for (int i = 0; i < kItems; ++i) {
    const auto& outcome = outcomes[static_cast<std::size_t>(i)];
    if (i != kBad) {
      EXPECT_TRUE(outcome.has_value()) << "item " << i << ": " << message_of(outcome.error());
      continue;
    }
    ASSERT_FALSE(outcome.has_value());
    expect_failure(outcome.error(), how);
    if (how != How::raise) {
      EXPECT_EQ(as<WorkerCrashed>(outcome.error()).item(), static_cast<std::size_t>(kBad));
    }
  }
}

template <class Future>
void expect_bad_task(Future future, How how) {
  expect_failure(thrown_by([&] { future.get(); }), how);
}

// --- in a worker -----------------------------------------------------------------------------

enum class Where { nowhere, save, load };

/// A value that misbehaves while it is written or read, in other processes than its owner; to
/// throw, there too.
struct Tricky {
  Where where = Where::nowhere;
  How how = How::raise;
  int owner = 0;
  int value = 0;

  void act(Where now) const {
    if (where == now && (how == How::raise || ::getpid() != owner)) misbehave(how);
  }
  template <class Archive>
  void save(Archive& archive) const {
    archive(where, how, owner, value);
    act(Where::save);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(where, how, owner, value);
    act(Where::load);
  }
};

int value_of(const Tricky& tricky) { return tricky.value; }
Tricky make_tricky(Where where, How how, int owner, int value) {
  return {value == kBad ? where : Where::nowhere, how, owner, value};
}

std::vector<Tricky> tricky_items(Where where, How how) {
  std::vector<Tricky> items;
  for (int i = 0; i < kItems; ++i) items.push_back(make_tricky(where, how, ::getpid(), i));
  return items;
}

// [test_error_at_task_unpickle, test_exit_at_task_unpickle, test_crash_at_task_unpickle]
TEST_P(PoolCrashMatrixTest, AnArgumentThatCannotBeReadFailsItsItem) {
  each([](Pool& pool, How how) {
    expect_one_bad(pool.try_map(value_of, tricky_items(Where::load, how)), how);
    expect_bad_task(pool.submit(value_of, Tricky{Where::load, how, ::getpid(), 1}), how);
  });
}

// [test_crash_during_func_exec_on_worker, test_exit_during_func_exec_on_worker,
// test_error_during_func_exec_on_worker]
TEST_P(PoolCrashMatrixTest, ATaskThatMisbehavesFailsItsItem) {
  each([](Pool& pool, How how) {
    const auto run = brood::bind(
        [](How what, int n) {
          if (n == kBad) misbehave(what);
          return n;
        },
        how);
    expect_one_bad(pool.try_map(run, first_integers(kItems)), how);
    expect_bad_task(pool.submit(run, kBad), how);
  });
}

// [test_error_during_result_pickle_on_worker, test_exit_during_result_pickle_on_worker,
// test_crash_during_result_pickle_on_worker, test_unpickleable_result]
TEST_P(PoolCrashMatrixTest, AResultThatCannotBeWrittenFailsItsItem) {
  each([](Pool& pool, How how) {
    const auto make = brood::bind(make_tricky, Where::save, how, ::getpid());
    for (int round = 0; round < (how == How::raise ? 20 : 1); ++round) {
      expect_one_bad(pool.try_map(make, first_integers(kItems)), how);
    }
    expect_bad_task(pool.submit(make, kBad), how);
  });
}

// [test_error_during_result_unpickle_in_result_handler]
TEST_P(PoolCrashMatrixTest, AResultThatCannotBeReadFailsItsItem) {
  each([](Pool& pool, How how) {
    if (how != How::raise) return;  // that would be in this process: see below
    const auto make = brood::bind(make_tricky, Where::load, how, ::getpid());
    for (int round = 0; round < 5; ++round) {
      expect_one_bad(pool.try_map(make, first_integers(kItems)), how);
      EXPECT_THROW(pool.map(make, first_integers(kItems)), BadInput);
      expect_bad_task(pool.submit(make, kBad), how);
    }
  });
}

// [test_error_at_task_pickle, test_map_unplicklable]
TEST_P(PoolCrashMatrixTest, AnArgumentThatCannotBeWrittenFailsTheCall) {
  each([](Pool& pool, How how) {
    if (how != How::raise) return;
    for (int round = 0; round < 5; ++round) {
      EXPECT_THROW(pool.map(value_of, tricky_items(Where::save, how)), BadInput);
      EXPECT_THROW(static_cast<void>(pool.submit(value_of, Tricky{.where = Where::save})),
                   BadInput);
      EXPECT_EQ(pool.map(value_of, tricky_items(Where::nowhere, how)), first_integers(kItems));
    }
  });
}

// Each worker that takes any of it finds out for itself.
TEST_P(PoolCrashMatrixTest, ACallableThatCannotBeReadFailsWhatItShouldDo) {
  each([](Pool& pool, How how) {
    if (how != How::raise) return;
    const auto bad = brood::bind([](const Tricky& tricky, int n) { return tricky.value + n; },
                                 Tricky{Where::load, how, ::getpid(), 1});
    const auto outcomes = pool.try_map(bad, first_integers(kItems));
    ASSERT_EQ(outcomes.size(), static_cast<std::size_t>(kItems));
    for (const auto& outcome : outcomes) EXPECT_TRUE(is_a<BadInput>(outcome.error()));
    EXPECT_THROW(pool.apply(bad, 1), BadInput);
  });
}

// What an exception holds is lost with its codec, the failure is not.
TEST_P(PoolCrashMatrixTest, AnExceptionThatCannotBeWrittenOrReadFailsItsItem) {
  each([](Pool& pool, How how) {
    const auto write = brood::bind(
        [](How what, int n) {
          if (n == kBad) throw BadToWrite{what};
          return n;
        },
        how);
    const auto expect_type = [](const std::exception_ptr& error, const char* type) {
      EXPECT_NE(as<brood::RemoteError>(error).type().find(type), std::string::npos)
          << message_of(error);
    };
    const auto outcomes = pool.try_map(write, first_integers(kItems));
    if (how == How::raise) {
      expect_type(outcomes[kBad].error(), "BadToWrite");
      expect_type(thrown_by([&] { pool.apply(write, kBad); }), "BadToWrite");
    } else {
      expect_one_bad(outcomes, how);
      expect_bad_task(pool.submit(write, kBad), how);
    }
    const auto read = [](int n) {
      if (n == kBad) throw BadToRead{How::raise};
      return n;
    };
    expect_type(pool.try_map(read, first_integers(kItems))[kBad].error(), "BadToRead");
    expect_type(thrown_by([&] { pool.apply(read, kBad); }), "BadToRead");
  });
}

TEST_P(PoolCrashMatrixTest, ACrashInTheMiddleOfMegabytesLosesOnlyThem) {  // [test_crash_big_data]
  Pool pool({.workers = 2});
  const auto big = brood::bind(
      [](int owner, int n) {
        return std::vector<Tricky>(200'000, make_tricky(Where::nowhere, How::kill, owner, n))[0]
                           .value == n
                   ? std::pair(std::string(std::size_t{4} << 20U, 'x'),
                               make_tricky(Where::save, How::kill, owner, n))
                   : std::pair(std::string(), Tricky{});
      },
      ::getpid());
  const auto outcomes = pool.try_map(big, first_integers(8));
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (i == kBad) {
      EXPECT_TRUE(is_a<WorkerCrashed>(outcomes[i].error()));
    } else {
      ASSERT_TRUE(outcomes[i].has_value()) << message_of(outcomes[i].error());
      EXPECT_EQ(outcomes[i]->first.size(), std::size_t{4} << 20U);
    }
  }
}

/// Misbehaves when it is destroyed elsewhere than in its owner.
struct Fatal {
  int owner = 0;
  int value = 0;
  bool fatal = false;
  How how = How::leave;

  Fatal() = default;
  Fatal(int of, int what, bool is, How does) : owner(of), value(what), fatal(is), how(does) {}
  Fatal(Fatal&& other) noexcept
      : owner(other.owner),
        value(other.value),
        fatal(std::exchange(other.fatal, false)),
        how(other.how) {}
  Fatal(const Fatal&) = default;
  Fatal& operator=(const Fatal&) = delete;
  ~Fatal() {
    if (fatal && ::getpid() != owner) misbehave(how);
  }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(owner, value, fatal, how);
  }
};

// loky's matrix has garbage collection where C++ has destructors, out of which no exception gets.
TEST_P(PoolCrashMatrixTest, ADestructorThatEndsTheWorkerCostsItsItem) {
  each([](Pool& pool, How how) {
    const auto make = [&](int i) { return Fatal(::getpid(), i, i == kBad, how); };
    std::vector<Fatal> items;
    for (int i = 0; i < kItems; ++i) items.push_back(make(i));
    const auto value = [](const Fatal& fatal) {
      ::signal(SIGABRT, SIG_DFL);
      return fatal.value;
    };
    const How what = how == How::raise ? How::abort : how;  // std::terminate
    expect_one_bad(pool.try_map(value, items), what);
    expect_bad_task(pool.submit(value, make(kBad)), what);
  });
}

// --- in the pool's own process -------------------------------------------------------------------

enum class Place { argument, result, callback, predicate, progress };

/// Misbehaves in any process.
struct Selfish {
  Where where = Where::nowhere;
  How how = How::raise;

  template <class Archive>
  void save(Archive& archive) const {
    archive(where, how);
    if (where == Where::save) misbehave(how);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(where, how);
    if (where == Where::load) misbehave(how);
  }
};

/// The main function of a process that has a pool and comes to grief. Says who its workers are.
void own_a_pool(int workers, Place place, How how, const std::string& file) {
  Pool pool({.workers = workers});
  {
    std::ofstream out(file);
    for (const int pid : pool.worker_pids()) out << pid << '\n';
  }
  switch (place) {
    case Place::argument:
      pool.apply([](const Selfish&) {}, Selfish{Where::save, how});
      break;
    case Place::result:
      pool.apply([](How what) { return Selfish{Where::load, what}; }, how);
      break;
    case Place::callback:
      pool.submit([] { return 1; }).then([&](int) { misbehave(how); }).get();
      break;
    case Place::predicate:
      pool.with({.retries = 1,
                 .retry_if =
                     [&](const std::exception&) {
                       misbehave(how);
                       return true;
                     }})
          .map([](int) { throw BadInput("an item's own"); }, first_integers(3));
      break;
    case Place::progress:
      pool.with({.progress = [&](std::size_t, std::size_t) { misbehave(how); }})
          .map([](int n) { return n; }, first_integers(3));
      break;
  }
  std::exit(99);  // nothing happened
}

std::vector<int> numbers_in(const std::string& file) {
  std::ifstream in(file);
  return {std::istream_iterator<int>(in), {}};
}
bool gone(int pid) {
  const char state = process_state(pid);
  return state == '?' || state == 'Z';
}

// [test_exit_at_task_pickle, test_crash_at_task_pickle,
// test_exit_during_result_unpickle_in_result_handler, test_crash_in_callback,
// test_exit_in_callback]
TEST_P(PoolCrashMatrixTest, TheOwnersEndIsItsOwnAndLeavesNoWorker) {
  // One that exits waits for its workers' end, whose finalizers may have much to do.
  for (const int workers : {1, 5}) {
    for (const Place place :
         {Place::argument, Place::result, Place::callback, Place::predicate, Place::progress}) {
      for (const How how : kHows) {
        std::ostringstream where;
        where << workers << " workers, place " << static_cast<int>(place) << ", it " << how;
        SCOPED_TRACE(where.str());
        const std::string file = dir_.file("workers");
        ::testing::internal::CaptureStderr();
        Process owner(own_a_pool, workers, place, how, file);
        owner.start();
        const bool ended = owner.join(std::chrono::seconds(20));
        const std::string said = ::testing::internal::GetCapturedStderr();
        ASSERT_TRUE(ended) << said;
        switch (how) {
          case How::raise:
            EXPECT_EQ(owner.exitcode(), 1) << said;
            // What a predicate throws is the failure's own affair or the call's.
            EXPECT_NE(said.find("BadInput"), std::string::npos) << said;
            break;
          case How::exit:
            EXPECT_EQ(owner.exitcode(), 3) << said;
            break;
          case How::leave:
            EXPECT_EQ(owner.exitcode(), 0) << said;
            break;
          case How::abort:
            EXPECT_EQ(owner.exitcode(), -SIGABRT) << said;
            break;
          case How::kill:
            EXPECT_EQ(owner.exitcode(), -SIGKILL) << said;
            break;
        }
        const std::vector<int> pids = numbers_in(file);
        EXPECT_EQ(pids.size(), static_cast<std::size_t>(workers));
        for (const int pid : pids) EXPECT_TRUE(eventually([&] { return gone(pid); })) << pid;
      }
    }
  }
}

}  // namespace
}  // namespace pool_crash_matrix_test
