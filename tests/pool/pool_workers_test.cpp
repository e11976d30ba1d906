// Workers that come and go while the pool works: recycled, idle, more of them, fewer of them.
// Not for ThreadSanitizer: processes.
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/cpu_count.hpp>
#include <brood/value.hpp>

#include "pool_test_support.hpp"

namespace pool_workers_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::ArgumentError;
using brood::Future;
using brood::Pool;
using brood::PoolClosed;
using brood::PoolOptions;
using brood::StateError;
using brood::Value;

class PoolWorkersTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolWorkersTest);

int my_pid(int) { return ::getpid(); }

/// Pages that the process had to be given for 50 MB of its own.
long faults_of_a_large_value(int) {
  rusage before{};
  rusage after{};
  ::getrusage(RUSAGE_SELF, &before);
  const std::vector<char> value(50'000'000, 'x');
  ::getrusage(RUSAGE_SELF, &after);
  return value[4096] == 'x' ? after.ru_minflt - before.ru_minflt : -1;
}

/// Resident memory that is the process's own, in bytes.
std::size_t private_bytes(int pid) {
  std::size_t pages = 0;
  std::size_t resident = 0;
  std::size_t shared = 0;
  std::ifstream("/proc/" + std::to_string(pid) + "/statm") >> pages >> resident >> shared;
  return (resident - shared) * static_cast<std::size_t>(::getpagesize());
}

TEST_P(PoolWorkersTest, AnItemUsesTheMemoryAgainThatTheOneBeforeFreed) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has an allocator of its own";
  Pool pool({.workers = 1});
  const std::vector<long> faults =
      pool.with({.chunk = 5}).map(faults_of_a_large_value, first_integers(5));
  for (std::size_t i = 1; i < faults.size(); ++i) EXPECT_LT(faults[i], 1000) << i;
}

TEST_P(PoolWorkersTest, AnIdleWorkerKeepsNothingOfWhatItsItemsFreed) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has an allocator of its own";
  Pool pool({.workers = 2});
  constexpr std::size_t kMiB = std::size_t{1} << 20U;
  for (int round = 0; round < 2; ++round) {
    pool.map(faults_of_a_large_value, first_integers(4));
    for (const int pid : pool.worker_pids()) {
      EXPECT_TRUE(eventually([&] { return private_bytes(pid) < 32 * kMiB; }))
          << private_bytes(pid) << " bytes";
    }
  }
}

/// How many items each process computed.
std::vector<long> items_by_process(const std::vector<int>& pids) {
  std::vector<long> counts;
  for (const int pid : std::set<int>(pids.begin(), pids.end())) {
    counts.push_back(std::count(pids.begin(), pids.end(), pid));
  }
  return counts;
}

// [test_pool_worker_lifetime, test_max_tasks_per_child,
// test_max_tasks_per_child_defaults_to_spawn_context: fork will do]
TEST_P(PoolWorkersTest, AWorkerIsReplacedAfterSoManyItems) {
  for (const int workers : {1, 2, 5}) {
    for (const std::size_t chunk : {1U, 16U}) {
      SCOPED_TRACE("workers " + std::to_string(workers) + ", chunk " + std::to_string(chunk));
      Pool pool({.workers = workers, .max_tasks_per_worker = 5});
      for (const long items :
           items_by_process(pool.with({.chunk = chunk}).map(my_pid, first_integers(42)))) {
        EXPECT_LE(items, 5);
      }
      EXPECT_EQ(pool.counts().crashed, 0U);
      EXPECT_GE(pool.counts().recycled, 42U / 5 - static_cast<unsigned>(workers));
    }
  }
}

TEST_P(PoolWorkersTest, OneItemAWorkerIsTheStrictestIsolation) {
  Pool pool({.workers = 2, .max_tasks_per_worker = 1});
  std::vector<Future<int>> futures;
  for (int i = 0; i < 10; ++i) futures.push_back(pool.submit(my_pid, i));
  std::set<int> pids;
  for (Future<int>& future : futures) pids.insert(future.get());
  EXPECT_EQ(pids.size(), 10U);
  EXPECT_EQ(pool.counts().crashed, 0U);
}

TEST_P(PoolWorkersTest, AWorkerThatGrowsIsReplaced) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer has a memory management of its own";
  Pool pool({.workers = 1, .max_worker_growth = 64U << 20U});
  // Not from malloc, which may have memory left over from before.
  const auto leak = [](int n) {
    void* const lost = ::mmap(nullptr, 40U << 20U, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return lost != MAP_FAILED ? ::getpid() : n;
  };
  const std::vector<long> counts =
      items_by_process(pool.with({.chunk = 1}).map(leak, first_integers(8)));
  EXPECT_GE(counts.size(), 3U);
  for (const long items : counts) EXPECT_LE(items, 3);
  EXPECT_EQ(pool.counts().crashed, 0U);
}

TEST_P(PoolWorkersTest, AnOldWorkerIsReplaced) {
  Pool pool({.workers = 1, .max_worker_age = 20ms});
  std::set<int> pids;
  EXPECT_TRUE(eventually([&] {
    pids.insert(pool.apply(my_pid, 0));
    return pids.size() >= 3;
  }));
  EXPECT_EQ(pool.counts().crashed, 0U);
}

TEST_P(PoolWorkersTest, IdleWorkersEndAndComeBack) {
  Pool pool({.workers = 2, .idle_timeout = 30ms});
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(pool.with({.chunk = 1}).map([](int n) { return 2 * n; }, std::vector{1, 2}),
              (std::vector{2, 4}));
    EXPECT_EQ(pool.apply([](int n) { return 2 * n; }, 4), 8);
    EXPECT_TRUE(eventually([&] { return pool.worker_pids().empty(); }));
  }
  // Nobody waits for this one; only copies of this process must be made in its own calls.
  Future<int> alone = pool.submit(my_pid, 1);
  if (GetParam() == brood::StartMethod::fork) alone.wait();
  EXPECT_TRUE(eventually([&] { return alone.ready(); }));
  EXPECT_EQ(pool.counts().crashed, 0U);
}

TEST_P(PoolWorkersTest, TheFinalizerRunsAtAnOrderlyEndOnly) {
  const std::string ends = dir_.file("ends");
  {
    Pool pool({.workers = 2, .finalizer = brood::bind(give_sign, ends)});
    pool.map(my_pid, first_integers(10));
    pool.close();
    pool.join();
    EXPECT_EQ(read_file(ends), "..");
  }
  {
    Pool pool({.workers = 2, .finalizer = brood::bind(give_sign, ends)});
    pool.map(my_pid, first_integers(10));
    pool.terminate();
    EXPECT_EQ(read_file(ends), "..");
  }
  {
    Pool pool({.workers = 1, .finalizer = brood::bind(give_sign, ends), .max_tasks_per_worker = 1});
    pool.with({.chunk = 1}).map(my_pid, first_integers(3));
    EXPECT_TRUE(eventually([&] { return read_file(ends) == "....."; })) << read_file(ends);
  }
}

TEST_P(PoolWorkersTest, ThoseThatEndInOrderHaveNotCrashed) {
  for (const bool with_finalizer : {false, true}) {
    PoolOptions options{.workers = 2};
    if (with_finalizer) options.finalizer = [] {};
    Pool pool(options);
    EXPECT_EQ(pool.map(my_pid, first_integers(4)).size(), 4U);
    pool.close();
    pool.join();
    EXPECT_EQ(pool.counts().crashed, 0U) << with_finalizer;
    EXPECT_EQ(pool.counts().recycled, 0U) << with_finalizer;
  }
  PoolOptions options{.workers = 1};
  options.finalizer = [] { ::_exit(3); };
  Pool pool(options);
  pool.close();
  pool.join();
  EXPECT_EQ(pool.counts().crashed, 1U);
}

struct SeenInside {
  int cpus;
  std::string openmp;
  int niceness;
  std::vector<int> allowed;
};
SeenInside look(int) {
  const char* const openmp = std::getenv("OMP_NUM_THREADS");
  SeenInside seen{.cpus = brood::cpu_count(),
                  .openmp = openmp != nullptr ? openmp : "",
                  .niceness = ::getpriority(PRIO_PROCESS, 0),
                  .allowed = {}};
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return seen;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) seen.allowed.push_back(cpu);
  }
  return seen;
}

TEST_P(PoolWorkersTest, ShareTheCpus) {
  const int cpus = brood::cpu_count();
  for (const int workers : {1, 2, 100}) {
    if (workers == 100 && GetParam() != brood::StartMethod::forkserver) continue;
    const SeenInside seen = Pool({.workers = workers}).apply(look, 0);
    EXPECT_EQ(seen.cpus, std::max(1, cpus / workers)) << workers;
    EXPECT_EQ(seen.openmp, std::to_string(seen.cpus)) << workers;
  }
  EXPECT_EQ(Pool({.workers = 1, .cpus_per_worker = 7}).apply(look, 0).cpus, 7);
  const SeenInside alone = Pool({.workers = 2, .cpus_per_worker = 0}).apply(look, 0);
  EXPECT_EQ(alone.cpus, cpus);
  EXPECT_EQ(alone.openmp, "");
  // What the user said stands.
  ::setenv("OMP_NUM_THREADS", "5", 1);
  EXPECT_EQ(Pool({.workers = 2}).apply(look, 0).openmp, "5");
  ::unsetenv("OMP_NUM_THREADS");
  // And so a pool in a worker has the worker's share of workers.
  EXPECT_EQ(
      Pool({.workers = 1, .cpus_per_worker = 3}).apply([](int) { return Pool().workers(); }, 0), 3);
}

TEST_P(PoolWorkersTest, CanBeBoundToCpusAndBeNice) {
  const std::vector<int> allowed = look(0).allowed;
  const int niceness = look(0).niceness;
  Pool pool({.workers = 3, .pin_workers = true, .niceness = 2});
  for (int i = 0; i < 20; ++i) {
    const SeenInside inside = pool.apply(look, 0);
    ASSERT_EQ(inside.allowed.size(), 1U);
    EXPECT_EQ(std::count(allowed.begin(), allowed.end(), inside.allowed[0]), 1);
    EXPECT_EQ(inside.niceness, std::min(niceness + 2, 19));
  }
  EXPECT_EQ(look(0).allowed, allowed);
  EXPECT_EQ(look(0).niceness, niceness);
  EXPECT_THROW(Pool({.workers = 1, .niceness = 20}), ArgumentError);
  EXPECT_THROW(Pool({.workers = 1, .niceness = -21}), ArgumentError);
  EXPECT_THROW(Pool({.workers = 1, .cpus_per_worker = -1}), ArgumentError);
}

TEST_P(PoolWorkersTest, MoreAndFewerWorkersWhileTheyWork) {
  Pool pool({.workers = 1, .max_workers = 4});
  Value<int> done(0);
  const auto work = [](Value<int> count, int n) {
    std::this_thread::sleep_for(200us);
    count.fetch_add(1);
    return n;
  };
  // From this thread, which alone may make copies of the process.
  std::vector<Future<int>> futures;
  for (int i = 0; i < 2000; ++i) futures.push_back(pool.submit(work, done, i));
  for (const int workers : {4, 2, 3, 1, 4}) {
    const int before = done.get();
    pool.resize(workers);
    EXPECT_EQ(pool.workers(), workers);
    EXPECT_TRUE(eventually([&] {
      futures.back().wait(0ms);  // copies of this process are made in its calls only
      return pool.worker_pids().size() == static_cast<std::size_t>(workers);
    })) << pool.worker_pids().size()
        << " of " << workers;
    EXPECT_TRUE(eventually([&] { return done.get() >= std::min(before + 20, 2000); }));
  }
  for (int i = 0; i < 2000; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
  EXPECT_EQ(done.get(), 2000);
  EXPECT_EQ(pool.counts().crashed, 0U);
  EXPECT_THROW(pool.resize(5), ArgumentError);
  EXPECT_THROW(pool.resize(0), ArgumentError);
  EXPECT_THROW(pool.resize(-1), ArgumentError);
  pool.close();
  EXPECT_THROW(pool.resize(2), PoolClosed);
}

TEST_P(PoolWorkersTest, RecycledAndKilledAndResizedAtOnceLoseNothing) {
  Pool pool({.workers = 2, .max_tasks_per_worker = 7, .max_workers = 3});
  const auto again = pool.with({.retries = 100});
  const int tasks = kAddressSanitizer ? 300 : 3000;  // a process for each seven
  std::vector<Future<int>> futures;
  for (int i = 0; i < tasks; ++i) futures.push_back(again.submit([](int n) { return n; }, i));
  for (int round = 0; round < 20; ++round) {
    pool.resize(1 + round % 3);
    for (const int pid : pool.worker_pids()) {
      if (pid > 0 && round % 2 == 0) ::kill(pid, SIGKILL);
    }
    std::this_thread::sleep_for(1ms);
  }
  for (int i = 0; i < tasks; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
}

TEST_P(PoolWorkersTest, AMapGoesOnWhileThePoolIsResized) {
  if (GetParam() == brood::StartMethod::fork) GTEST_SKIP() << "two threads: fork is refused";
  Pool pool({.workers = 1, .max_workers = 3});
  std::vector<int> results;
  const auto work = [](int n) {
    std::this_thread::sleep_for(20us);
    return n;
  };
  std::jthread mapper([&] { results = pool.with({.chunk = 4}).map(work, first_integers(5000)); });
  for (int round = 0; round < 20; ++round) {
    pool.resize(1 + round % 3);
    std::this_thread::sleep_for(1ms);
  }
  mapper.join();
  EXPECT_EQ(results, first_integers(5000));
  EXPECT_EQ(pool.counts().crashed, 0U);
}

}  // namespace
}  // namespace pool_workers_test
