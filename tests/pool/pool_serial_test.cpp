// A pool without workers: everything in the caller, in order, with the same results and errors.
#include <unistd.h>

#include <list>
#include <memory>
#include <ranges>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <brood/bind.hpp>
#include <brood/future.hpp>
#include <brood/wait.hpp>
#include <brood/worker_state.hpp>

#include "pool_test_support.hpp"

namespace pool_serial_test {
namespace {

using namespace brood::testing;
using brood::Pool;

std::vector<int> order;

int note(int n) {
  order.push_back(n);
  if (n == 3) throw BadInput("three");
  return n * n;
}

class SerialPoolTest : public ::testing::Test {
 protected:
  void SetUp() override { order.clear(); }
  Pool pool_{{.workers = 0}};
};

TEST_F(SerialPoolTest, HasNoProcesses) {
  EXPECT_EQ(pool_.workers(), 0);
  EXPECT_TRUE(pool_.worker_pids().empty());
  EXPECT_EQ(pool_.apply([] { return ::getpid(); }), ::getpid());
  EXPECT_EQ(pool_.map([](int) { return ::getpid(); }, first_integers(2)),
            (std::vector<int>{::getpid(), ::getpid()}));
}

TEST_F(SerialPoolTest, ComputesAllInOrderAndThrowsTheFirstFailure) {
  EXPECT_EQ(as<BadInput>(thrown_by([&] { pool_.map(note, first_integers(6)); })).what(),
            std::string("three"));
  EXPECT_EQ(order, first_integers(6));
}

TEST_F(SerialPoolTest, AFutureIsReadyAtOnce) {
  brood::Future<int> future = pool_.submit([](int n) { return n; }, 1);
  EXPECT_EQ(brood::wait({future}), std::vector<std::size_t>{0});
  EXPECT_EQ(future.get(), 1);
}

TEST_F(SerialPoolTest, OutcomesAreThoseOfWorkers) {
  const auto outcomes = pool_.try_map(note, first_integers(5));
  ASSERT_EQ(outcomes.size(), 5u);
  EXPECT_EQ(*outcomes[4], 16);
  EXPECT_TRUE(is_a<BadInput>(outcomes[3].error()));
  // Where it came from is known too.
  try {
    outcomes[3].value();
    FAIL() << "it did not fail";
  } catch (const BadInput& e) {
    const brood::RemoteTrace* trace = brood::remote_trace(e);
    ASSERT_NE(trace, nullptr);
    EXPECT_EQ(trace->failure().item, 3u);
  }
}

TEST_F(SerialPoolTest, EveryCallWorks) {
  const auto add = [](int a, int b) { return a + b; };
  EXPECT_EQ(pool_.map(add, std::vector<int>{1, 2, 3}, std::list<int>{10, 20}),
            (std::vector<int>{11, 22}));
  EXPECT_EQ(pool_.starmap(add, std::vector<std::pair<int, int>>{{1, 2}, {3, 4}}),
            (std::vector<int>{3, 7}));
  EXPECT_EQ(pool_.map(brood::bind(add, 5), std::views::iota(0, 3)), (std::vector<int>{5, 6, 7}));
  EXPECT_EQ(*pool_.map([](int n) { return std::make_unique<int>(n); }, first_integers(2))[1], 1);
  EXPECT_EQ(pool_.map([](bool b) { return !b; }, std::vector<bool>{true, false}),
            (std::vector<bool>{false, true}));
  pool_.map([](int n) { order.push_back(n); }, first_integers(3));
  EXPECT_EQ(order, first_integers(3));
  EXPECT_EQ(pool_.map([](std::string s) { return s; }, std::vector<const char*>{"a"}),
            (std::vector<std::string>{"a"}));
  EXPECT_TRUE(pool_.map(note, std::vector<int>()).empty());
}

TEST_F(SerialPoolTest, ProgressIsToldInTheCaller) {
  std::vector<std::size_t> seen;
  const auto caller = pool_.with({.progress = [&](std::size_t done, std::size_t total) {
    EXPECT_EQ(total, 3u);
    seen.push_back(done);
  }});
  EXPECT_EQ(caller.map([](int n) { return n; }, first_integers(3)), first_integers(3));
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), 3u);
  const auto ends = pool_.with({.progress = [](std::size_t, std::size_t) { throw BadInput(""); }});
  EXPECT_THROW(ends.map(note, first_integers(3)), BadInput);
}

TEST_F(SerialPoolTest, FuturesAreAsThoseOfWorkers) {
  auto future = pool_.submit(note, 5);
  EXPECT_TRUE(future.valid());
  EXPECT_TRUE(future.ready());
  EXPECT_TRUE(future.wait(std::chrono::seconds(0)));
  EXPECT_EQ(future.get(std::chrono::seconds(0)), 25);
  EXPECT_FALSE(future.valid());
  EXPECT_THROW(future.get(), brood::StateError);
  auto failing = pool_.submit(note, 3);
  EXPECT_THROW(failing.get(), BadInput);
  EXPECT_THROW(failing.get(), brood::StateError);
  auto nothing = pool_.submit([] {});
  nothing.get();
}

TEST_F(SerialPoolTest, ImapComputesWhatIsFetched) {
  std::vector<int> got;
  for (const int square : pool_.imap(note, std::views::iota(4))) {
    got.push_back(square);
    if (got.size() == 3) break;
  }
  EXPECT_EQ(got, (std::vector<int>{16, 25, 36}));
  EXPECT_EQ(order, (std::vector<int>{4, 5, 6}));
}

TEST_F(SerialPoolTest, StatesAreThoseOfWorkers) {
  EXPECT_THROW(pool_.join(), brood::StateError);
  pool_.close();
  EXPECT_THROW(pool_.map(note, first_integers(1)), brood::PoolClosed);
  EXPECT_THROW(static_cast<void>(pool_.submit(note, 1)), brood::PoolClosed);
  pool_.join();
  pool_.terminate();
  pool_.join();
  EXPECT_TRUE(order.empty());
}

TEST_F(SerialPoolTest, TheInitializerHasWhatWasMovedIntoIt) {
  static std::string got;
  const std::string text(100, 'x');
  const Pool pool(
      {.workers = 0,
       .initializer = brood::bind([](const std::string& s) { got = s; }, std::string(text))});
  EXPECT_EQ(got, text);
}

TEST_F(SerialPoolTest, TheInitializerRunsHere) {
  static int runs = 0;
  runs = 0;
  const Pool pool({.workers = 0, .initializer = brood::bind([](int n) { runs += n; }, 2)});
  EXPECT_EQ(runs, 2);
  EXPECT_THROW(Pool({.workers = 0, .initializer = [] { throw BadInput("no"); }}), BadInput);
  EXPECT_THROW(Pool({.workers = 0, .initializer = [] { throw 42; }}), brood::RemoteError);
}

TEST_F(SerialPoolTest, TheFinalizerRunsHereAtAnOrderlyEndOnly) {
  static int runs = 0;
  static int computed = 0;
  runs = 0;
  computed = 0;
  const auto count = [] { ++runs; };
  {
    Pool pool({.workers = 0, .finalizer = count});
    pool.map([](int) { ++computed; }, first_integers(3));
    EXPECT_EQ(runs, 0);
    EXPECT_EQ(computed, 3);
    pool.close();
    EXPECT_EQ(runs, 1);
    pool.close();
    pool.join();
    pool.terminate();
  }
  EXPECT_EQ(runs, 1) << "more than once";
  {
    Pool pool({.workers = 0, .finalizer = count});
    pool.terminate();
    pool.close();
  }
  { const Pool pool({.workers = 0, .finalizer = count}); }
  EXPECT_EQ(runs, 1) << "it was terminated";
}

TEST_F(SerialPoolTest, TheFinalizerWaitsForTheLastCall) {
  static Pool* closed = nullptr;
  static std::vector<int> events;
  events.clear();
  Pool pool({.workers = 0, .finalizer = [] { events.push_back(-1); }});
  closed = &pool;
  pool.map(
      [](int n) {
        if (n == 1) closed->close();
        events.push_back(n);
      },
      first_integers(3));
  EXPECT_EQ(events, (std::vector<int>{0, 1, 2, -1}));
  EXPECT_THROW(pool.map(note, first_integers(1)), brood::PoolClosed);
}

TEST_F(SerialPoolTest, TheFinalizerHasTheWorkersStateAndWhatItThrowsIsReported) {
  static int seen = 0;
  seen = 0;
  Pool pool({.workers = 0, .name = "solo", .finalizer = [] {
               seen = brood::worker_state<int>();
               throw BadInput("at the end");
             }});
  pool.apply([] { brood::worker_state<int>() = 7; });
  ::testing::internal::CaptureStderr();
  pool.close();
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(seen, 7);
  EXPECT_NE(said.find("solo"), std::string::npos) << said;
  EXPECT_NE(said.find("at the end"), std::string::npos) << said;
}

}  // namespace
}  // namespace pool_serial_test
