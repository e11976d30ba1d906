// Handles to shared objects through a pool: as arguments, results, of tasks that are retried.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <csignal>
#include <optional>
#include <vector>

#include <brood/pool.hpp>

#include "support/eventually.hpp"
#include "support/shared_objects.hpp"
#include "support/shared_thing.hpp"
#include "support/start_methods.hpp"

namespace brood::pool_objects_test {
namespace {

using namespace brood::testing;

int add(Thing thing, int n) { return thing.number() += n; }
Thing make(int n) { return Thing(n, 1000); }
Thing same(Thing thing) { return thing; }
struct Pair {
  int n;
  std::optional<Thing> thing;
};
Pair make_pair_of(int n) { return {n, n % 2 == 0 ? std::optional<Thing>(Thing(n)) : std::nullopt}; }
Thing make_and_die_once(Thing tries, int n) {
  Thing made(n, 100'000);
  if (tries.number().fetch_add(1) == 0) std::raise(SIGKILL);
  return made;
}
int die(Thing) {
  std::raise(SIGKILL);
  return 0;
}
void take_note(Thing thing) { ++thing.number(); }

class PoolObjects : public EveryStartMethod {
 protected:
  void SetUp() override {
    EveryStartMethod::SetUp();
    if (!IsSkipped()) before_ = shared_objects();
  }
  void TearDown() override {
    if (!IsSkipped()) {
      // Fewer: processes of a test before may have let go of theirs meanwhile.
      EXPECT_TRUE(eventually([&] { return shared_objects() <= before_; }))
          << shared_objects() << " objects, " << before_ << " before";
    }
    EveryStartMethod::TearDown();
  }
  std::size_t before_ = 0;
};

TEST_P(PoolObjects, AreArguments) {
  Pool pool({.workers = 2});
  const Thing sum(0);
  std::vector<int> numbers(100, 1);
  pool.map(bind(add, sum), numbers);
  EXPECT_EQ(sum.number(), 100);
  EXPECT_EQ(pool.apply(add, sum, 5), 105);
  const std::vector<Thing> things(50, sum);
  pool.map(add, things, numbers);
  EXPECT_EQ(sum.number(), 155);
}

TEST_P(PoolObjects, AreResults) {
  Pool pool({.workers = 2});
  std::vector<int> numbers(200);
  for (int i = 0; i != 200; ++i) numbers[static_cast<std::size_t>(i)] = i;
  const std::vector<Thing> things = pool.map(make, numbers);
  for (int i = 0; i != 200; ++i) EXPECT_EQ(things[static_cast<std::size_t>(i)].number(), i);
  int n = 0;
  for (const Pair& pair : pool.imap(make_pair_of, numbers)) {
    EXPECT_EQ(pair.n, n);
    if (n % 2 == 0) {
      EXPECT_EQ(pair.thing->number(), n);
    }
    ++n;
  }
  EXPECT_EQ(pool.apply(same, things[3]), things[3]);
  const Thing one = pool.submit(make, 5).get();
  EXPECT_EQ(one.number(), 5);
  EXPECT_TRUE(eventually([&] { return shared_objects() == before_ + 201; }))
      << "workers let go of what was fetched: " << shared_objects();
}

TEST_P(PoolObjects, ResultsThatNobodyFetchesAreLetGo) {
  Pool pool({.workers = 2});
  for (int i = 0; i != 20; ++i) static_cast<void>(pool.submit(make, i));
  static_cast<void>(pool.map(make, std::vector<int>(20, 1)));
  pool.apply(make, 1);
  EXPECT_TRUE(eventually([&] {
    if (GetParam() == brood::StartMethod::fork) pool.apply(take_note, Thing(1));
    return shared_objects() <= before_;
  })) << shared_objects();
}

TEST_P(PoolObjects, ResultsOutliveTheirWorkers) {
  std::vector<Future<Thing>> results;
  {
    Pool pool({.workers = 2});
    for (int i = 0; i != 8; ++i) results.push_back(pool.submit(make, i));
    for (auto& result : results) result.wait();
    for (const int pid : pool.worker_pids()) ::kill(pid, SIGKILL);
    EXPECT_EQ(pool.apply(add, Thing(1), 1), 2) << "by others";
    EXPECT_EQ(results[0].get().number(), 0);
  }
  for (int i = 1; i != 8; ++i) EXPECT_EQ(results[static_cast<std::size_t>(i)].get().number(), i);
}

TEST_P(PoolObjects, ResultsOutliveAClosedPool) {
  std::vector<Future<Thing>> results;
  Pool pool({.workers = 2});
  for (int i = 0; i != 8; ++i) results.push_back(pool.submit(make, i));
  pool.close();
  pool.join();
  for (int i = 0; i != 8; ++i) EXPECT_EQ(results[static_cast<std::size_t>(i)].get().number(), i);
}

TEST_P(PoolObjects, TasksAreTriedAgain) {
  Pool pool({.workers = 2});
  const Thing tries(0);
  const Thing made = pool.with({.retries = 3}).apply(make_and_die_once, tries, 9);
  EXPECT_EQ(made.number(), 9);
  EXPECT_EQ(tries.number(), 2);
  EXPECT_THROW(pool.apply(die, Thing(3)), WorkerCrashed);
}

TEST_P(PoolObjects, AreBoundToTheInitializer) {
  const Thing started(0);
  Pool pool({.workers = 2, .initializer = bind(take_note, started)});
  EXPECT_EQ(started.number(), 2);
}

BROOD_UNDER_EVERY_START_METHOD(PoolObjects);

}  // namespace
}  // namespace brood::pool_objects_test
