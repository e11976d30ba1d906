// Waiting for futures together with other things, under every start method.
// Not for ThreadSanitizer: processes.
#include <brood/wait.hpp>

#include <signal.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <brood/connection.hpp>
#include <brood/future.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/service_thread.hpp>
#include <brood/queue.hpp>
#include <brood/ready_descriptor.hpp>

#include "pool_test_support.hpp"

namespace pool_wait_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Future;
using brood::Pool;
using brood::wait;
using brood::Waitable;
using Positions = std::vector<std::size_t>;

class PoolWait : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolWait);

int when_told(const brood::Queue<int>& go) { return go.get(); }

TEST_P(PoolWait, TheFutureThatIsReadyIsTold) {
  const Pool pool({.workers = 2});
  const brood::Queue<int> first;
  const brood::Queue<int> second;
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(when_told, first));
  futures.push_back(pool.submit(when_told, second));
  const std::vector<Waitable> all(futures.begin(), futures.end());
  EXPECT_EQ(wait(all, 10ms), Positions());
  second.put(2);
  EXPECT_EQ(wait(all, 20s), Positions({1}));
  EXPECT_EQ(futures[1].get(), 2);
  EXPECT_THROW(static_cast<void>(Waitable(futures[1])), brood::StateError);
  first.put(1);
  EXPECT_EQ(wait({futures[0]}), Positions({0}));
  EXPECT_EQ(futures[0].get(), 1);
}

TEST_P(PoolWait, FuturesMixWithQueuesAndConnections) {
  const Pool pool({.workers = 1});
  const brood::Queue<int> go;
  const brood::Queue<std::string> words;
  brood::Pipe pipe;
  Future<int> future = pool.submit(when_told, go);
  const std::vector<Waitable> all{words, pipe.first, future};
  EXPECT_EQ(wait(all, 5ms), Positions());
  go.put(3);
  EXPECT_EQ(wait(all, 20s), Positions({2}));
  pipe.second.send(1);
  words.put("x");
  EXPECT_EQ(wait(all, 20s), Positions({0, 1, 2}));
  EXPECT_EQ(future.get(), 3);
  EXPECT_EQ(brood::detail::thread_count() - brood::detail::ServiceThread::count(), 1);
}

// Nobody else is there to notice that the only worker died, and to start another.
TEST_P(PoolWait, WhoWaitsReplacesDeadWorkers) {
  const Pool pool({.workers = 1});
  brood::Pipe pipe;
  for (const bool beside_descriptors : {false, true}) {
    Future<void> dies = pool.submit([] { ::raise(SIGKILL); });
    Future<int> lives = pool.submit([](int n) { return 2 * n; }, 21);
    std::vector<Waitable> all{lives};
    if (beside_descriptors) all.emplace_back(pipe.first);
    EXPECT_EQ(wait(all, 20s), Positions({0}));
    EXPECT_EQ(lives.get(), 42);
    EXPECT_EQ(wait({dies}), Positions({0}));
    EXPECT_THROW(dies.get(), brood::WorkerCrashed);
  }
}

TEST_P(PoolWait, WhatIsCancelledIsReady) {
  Pool pool({.workers = 1});
  const brood::Queue<int> go;
  Future<int> future = pool.submit(when_told, go);
  const Waitable waitable(future);
  EXPECT_EQ(wait(std::vector{waitable}, 5ms), Positions());
  pool.terminate();
  EXPECT_EQ(wait(std::vector{waitable}, 20s), Positions({0}));
  EXPECT_THROW(static_cast<void>(future.get()), brood::TaskCancelled);
  EXPECT_EQ(wait(std::vector{waitable}, 20s), Positions({0})) << "also afterwards";
}

TEST_P(PoolWait, AFutureHasADescriptor) {
  const Pool pool({.workers = 1});
  const brood::Queue<int> go;
  Future<int> future = pool.submit(when_told, go);
  {
    brood::ReadyDescriptor ready(future);
    EXPECT_EQ(wait({ready}, 10ms), Positions());
    go.put(5);
    EXPECT_EQ(wait({ready}, 20s), Positions({0}));
    ready.rearm();
    EXPECT_EQ(wait({ready}, 20s), Positions({0})) << "it stays ready";
  }
  EXPECT_EQ(future.get(), 5);
}

}  // namespace
}  // namespace pool_wait_test
