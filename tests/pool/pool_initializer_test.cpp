// What every worker runs before its first task.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/bind.hpp>

#include "pool_test_support.hpp"

namespace pool_initializer_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Pool;

class PoolInitializerTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolInitializerTest);

std::string prepared;  // of each worker

void prepare(std::string text, std::string log) {
  prepared = text;
  give_sign(log);
}

TEST_P(PoolInitializerTest, RunsInEveryWorkerAndItsReplacements) {
  const std::string log = dir_.file("log");
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    const std::size_t before = read_file(log).size();
    Pool pool({.workers = workers, .initializer = brood::bind(prepare, "ready", log)});
    EXPECT_EQ(read_file(log).size(), before + static_cast<std::size_t>(workers))
        << "all have run it when the pool is there";
    const auto look = [](int n) { return prepared + std::to_string(n); };
    const auto expect_prepared = [&] {
      const auto seen = pool.map(look, first_integers(50));
      for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(seen[static_cast<std::size_t>(i)], "ready" + std::to_string(i));
      }
    };
    expect_prepared();
    for (const int pid : pool.worker_pids()) ::kill(pid, SIGKILL);
    expect_prepared();
    EXPECT_THROW(pool.apply([] { ::_exit(1); }), brood::WorkerCrashed);
    expect_prepared();
  }
  EXPECT_TRUE(prepared.empty()) << "not here";
}

TEST_P(PoolInitializerTest, MayBeAnythingThatCanBeCalled) {
  const std::string log = dir_.file("log");
  struct Prepare {
    std::string text, path;
    void operator()() const { prepare(text, path); }
  };
  {
    Pool pool({.workers = 1, .initializer = Prepare{"object", log}});
    EXPECT_EQ(pool.apply([] { return prepared; }), "object");
  }
  {
    Pool pool({.workers = 1, .initializer = [] { prepared = "lambda"; }});
    EXPECT_EQ(pool.apply([] { return prepared; }), "lambda");
  }
}

TEST_P(PoolInitializerTest, ItsExceptionIsThePoolsAndNothingIsLeft) {  // [TestPoolNotLeakOnFailure]
  const std::string log = dir_.file("log");
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    const auto error = thrown_by([&] {
      Pool pool({.workers = workers,
                 .initializer = brood::bind(
                     [](std::string path) {
                       give_sign(path);
                       throw BadInput("no model here");
                     },
                     log)});
    });
    EXPECT_EQ(as<BadInput>(error).what(), std::string("no model here"));
    try {
      std::rethrow_exception(error);
    } catch (const BadInput& e) {
      ASSERT_NE(brood::remote_trace(e), nullptr);
      EXPECT_FALSE(brood::remote_trace(e)->stack().empty());
    }
  }
  EXPECT_LE(read_file(log).size(), 8u) << "once per worker at most";
  EXPECT_THROW(Pool({.workers = 2, .initializer = [] { throw 42; }}), brood::RemoteError);
}

TEST_P(PoolInitializerTest, ACrashInItIsAClearErrorAndNoEndlessRespawn) {
  const std::string log = dir_.file("log");
  const auto error = thrown_by([&] {
    Pool pool({.workers = 2,
               .name = "doomed",
               .initializer = brood::bind(
                   [](std::string path) {
                     give_sign(path);
                     const rlimit none{0, 0};
                     ::setrlimit(RLIMIT_CORE, &none);
                     std::abort();
                   },
                   log)});
  });
  ASSERT_TRUE(is_a<brood::WorkerLost>(error)) << message_of(error);
  EXPECT_NE(message_of(error).find("doomed-"), std::string::npos) << message_of(error);
  EXPECT_NE(message_of(error).find("SIGABRT"), std::string::npos) << message_of(error);
  EXPECT_LE(read_file(log).size(), 12u);
  const auto leaves = thrown_by([&] { Pool({.workers = 2, .initializer = [] { ::_exit(3); }}); });
  ASSERT_TRUE(is_a<brood::WorkerLost>(leaves)) << message_of(leaves);
  EXPECT_NE(message_of(leaves).find("code 3"), std::string::npos) << message_of(leaves);
}

TEST_P(PoolInitializerTest, OneThatFailsLaterBreaksThePoolWithItsException) {
  // It succeeds until a sign is given, then fails in a replacement.
  Pool pool({.workers = 2,
             .initializer = brood::bind(
                 [](std::string sign) {
                   if (sign_given(sign)) throw BadInput("the model is gone");
                 },
                 dir_.file("gone"))});
  EXPECT_EQ(pool.apply([] { return 1; }), 1);
  give_sign(dir_.file("gone"));
  const auto crashed = thrown_by([&] { pool.apply([] { ::raise(SIGKILL); }); });
  EXPECT_TRUE(is_a<brood::WorkerCrashed>(crashed)) << message_of(crashed);
  std::exception_ptr broken;
  EXPECT_TRUE(eventually([&] {
    broken = thrown_by([&] { pool.map([](int n) { return n; }, first_integers(10)); });
    return broken != nullptr;
  })) << "a worker that cannot be prepared is not ignored";
  EXPECT_TRUE(is_a<BadInput>(broken)) << message_of(broken);
  EXPECT_TRUE(is_a<BadInput>(thrown_by([&] { pool.apply([] { return 1; }); })));
}

}  // namespace
}  // namespace pool_initializer_test
