// Clients and agents over a server that loses things: every task has one result, whatever is lost.
#include <gtest/gtest.h>

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <brood/bind.hpp>
#include <brood/cluster/agent.hpp>
#include <brood/cluster_pool.hpp>
#include <brood/register_exception.hpp>
#include <brood/value.hpp>

#include "cluster/fake_engine.hpp"
#include "support/eventually.hpp"
#include "support/sanitizers.hpp"
#include "support/temp_dir.hpp"

namespace brood::testing {

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace brood::testing

using brood::testing::Refused;
BROOD_REGISTER_EXCEPTION(Refused);

namespace brood::testing::cluster_protocol_test {
namespace {

using namespace std::chrono_literals;

/// An agent with a pool of its own, in this process, until it is destroyed or killed.
class TestAgent {
 public:
  TestAgent(FakeServer& server, std::string name, std::string key = "secret",
            std::uint64_t build = detail::own_build(), std::uint32_t workers = 1,
            std::chrono::nanoseconds client_silence = 30s)
      : engine_(server.agent(build)),
        agent_(
            *engine_,
            std::make_shared<detail::PoolCore>(detail::PoolSetup{.workers = workers,
                                                                 .max_workers = workers,
                                                                 .method = StartMethod::forkserver,
                                                                 .name = name}),
            {.key = std::move(key),
             .node = name,
             .build = build,
             .workers = workers,
             .beat = 20ms,
             .client_silence = client_silence}),
        thread_([this] { agent_.run(20s); }) {}
  TestAgent(const TestAgent&) = delete;
  TestAgent& operator=(const TestAgent&) = delete;
  ~TestAgent() {
    agent_.stop();
    thread_.join();
  }

 private:
  std::unique_ptr<detail::AgentEngine> engine_;
  detail::Agent agent_;
  std::thread thread_;
};

ClusterPool client_of(FakeServer& server, std::string key = "secret",
                      std::chrono::nanoseconds patience = 10s) {
  static int clients = 0;
  const std::string id = "client" + std::to_string(++clients);
  return ClusterPool(
      server.client(id),
      {.key = std::move(key), .table = {.patience = patience, .silence = 1s, .audit = 60ms}}, id);
}

std::vector<int> numbers(int count) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(i);
  return all;
}
int square(int n) { return n * n; }
std::vector<int> squares(int count) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(i * i);
  return all;
}
template <class F>
std::string thrown(F&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

TEST(ClusterProtocol, EveryCallOfAPoolWorks) {
  FakeServer server;
  const TestAgent one(server, "one");
  const TestAgent two(server, "two");
  const ClusterPool pool = client_of(server);
  EXPECT_EQ(pool.map(square, numbers(500)), squares(500));
  EXPECT_EQ(pool.apply([](int a, const std::string& b) { return b + std::to_string(a); }, 7, "n"),
            "n7");
  EXPECT_EQ(pool.starmap([](int a, int b) { return a - b; },
                         std::vector<std::pair<int, int>>{{5, 3}, {1, 4}}),
            (std::vector{2, -3}));
  EXPECT_EQ(pool.map_reduce(square, std::plus<>(), 0, numbers(10)), 285);
  std::vector<int> results;
  for (const int n : pool.imap(square, numbers(50))) results.push_back(n);
  EXPECT_EQ(results, squares(50));
  results.clear();
  for (const int n : pool.imap_unordered(square, numbers(50))) results.push_back(n);
  std::ranges::sort(results);
  EXPECT_EQ(results, squares(50));
  EXPECT_EQ(pool.map(brood::bind([](int by, int n) { return by * n; }, 3), numbers(4)),
            (std::vector{0, 3, 6, 9}));
  pool.map([](int) {}, numbers(3));
  std::size_t done = 0;
  pool.with({.progress = [&](std::size_t now, std::size_t) { done = now; }})
      .map(square, numbers(20));
  EXPECT_EQ(done, 20U);
  EXPECT_EQ(pool.nodes().size(), 2U);
  EXPECT_EQ(pool.counts().resent, 0U);
}

TEST(ClusterProtocol, FailuresAreTheItemsOwn) {
  FakeServer server;
  const TestAgent agent(server, "agent", "secret", detail::own_build(), 2);
  const ClusterPool pool = client_of(server);
  const auto outcomes = pool.with({.timeout = kAddressSanitizer ? 3000ms : 1000ms})
                            .try_map(
                                [](int n) {
                                  if (n == 3) throw Refused("three");
                                  if (n == 5) ::raise(SIGKILL);
                                  if (n == 7) ::pause();
                                  return n;
                                },
                                numbers(10));
  for (int n = 0; n < 10; ++n) {
    const auto& outcome = outcomes[static_cast<std::size_t>(n)];
    if (n == 3) {
      EXPECT_THROW(static_cast<void>(outcome.value()), Refused);
    } else if (n == 5) {
      EXPECT_THROW(static_cast<void>(outcome.value()), WorkerCrashed);
    } else if (n == 7) {
      EXPECT_THROW(static_cast<void>(outcome.value()), TaskTimeout);
    } else {
      EXPECT_EQ(outcome.value(), n);
    }
  }
  try {
    pool.apply([] { throw Refused("from far away"); });
    FAIL() << "nothing was thrown";
  } catch (const Refused& e) {
    const RemoteTrace* const trace = remote_trace(e);
    ASSERT_NE(trace, nullptr);
    EXPECT_NE(trace->failure().process.find("agent-"), std::string::npos)
        << trace->failure().process;
  }
}

TEST(ClusterProtocol, WhateverIsLostEveryTaskHasOneResult) {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    FakeServer server({.seed = seed,
                       .lose_task = 0.1,
                       .double_task = 0.2,
                       .lose_result = 0.1,
                       .double_result = 0.2,
                       .delay_result = 0.3,
                       .refuse = 0.2,
                       .most_messages = 5});
    const TestAgent one(server, "one");
    const TestAgent two(server, "two");
    const ClusterPool pool = client_of(server);
    EXPECT_EQ(pool.map(square, numbers(200)), squares(200));
    EXPECT_EQ(pool.apply(square, 9), 81);
  }
}

TEST(ClusterProtocol, AServerThatLosesAllCostsTimeOnly) {
  FakeServer server;
  const TestAgent one(server, "one");
  const TestAgent two(server, "two");
  const ClusterPool pool = client_of(server);
  std::atomic<bool> done{false};
  std::jthread trouble([&] {
    for (int i = 0; i < 3 && !done.load(); ++i) {
      std::this_thread::sleep_for(60ms);
      server.lose_everything();
      server.go_away(true);
      std::this_thread::sleep_for(60ms);
      server.go_away(false);
    }
  });
  const auto slow = [](int n) {
    ::usleep(1000);
    return n * n;
  };
  EXPECT_EQ(pool.map(slow, numbers(300)), squares(300));
  done.store(true);
  trouble.join();
  EXPECT_GT(pool.counts().resent, 0U);
}

TEST(ClusterProtocol, TasksOfALostAgentGoToAnother) {
  FakeServer server({.lease = 200ms});
  const TempDir dir;
  const std::string go = dir.file("go");
  const ClusterPool pool = client_of(server);
  // An agent that takes messages and is never heard of again.
  const auto dead = server.agent(detail::own_build());
  Future<int> task = pool.submit(square, 12);
  const auto taken = dead->fetch(detail::Deadline::after(10s));
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->times, 1U);
  const TestAgent alive(server, "alive");
  EXPECT_EQ(task.get(10s), 144);
}

TEST(ClusterProtocol, ATaskThatCostsItsNodesIsGivenUp) {
  FakeServer server({.lease = 20ms});
  const ClusterPool pool = client_of(server);
  const auto dying = server.agent(detail::own_build());
  Future<int> poison = pool.submit(square, 1);
  for (std::uint32_t times = 1; times <= 4; ++times) {
    const auto taken = dying->fetch(detail::Deadline::after(10s));
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->times, times);
  }
  const TestAgent alive(server, "alive");
  EXPECT_NE(thrown([&] { poison.get(10s); }).find("4 times"), std::string::npos);
  EXPECT_EQ(pool.apply(square, 2), 4);
}

TEST(ClusterProtocol, AtMostOnceIsNeverTwice) {
  const TempDir dir;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    FakeServer server({.seed = seed,
                       .lose_task = 0.2,
                       .double_task = 0.2,
                       .lose_result = 0.2,
                       .keep_silent = 0.2});
    const TestAgent agent(server, "agent");
    const ClusterPool pool = client_of(server);
    const std::string runs = dir.file("runs" + std::to_string(seed));
    const auto mark = brood::bind(
        [](const std::string& file, int n) {
          std::ofstream(file + "." + std::to_string(n), std::ios::app) << '.' << std::flush;
          return n;
        },
        runs);
    const auto outcomes = pool.at_most_once().try_map(mark, numbers(30));
    int lost = 0;
    for (int n = 0; n < 30; ++n) {
      const auto& outcome = outcomes[static_cast<std::size_t>(n)];
      const std::size_t ran = read_file(runs + "." + std::to_string(n)).size();
      EXPECT_LE(ran, 1U);
      if (outcome.has_value()) {
        EXPECT_EQ(ran, 1U);
      } else {
        ++lost;
        EXPECT_THROW(static_cast<void>(outcome.value()), TaskLost);
      }
    }
    EXPECT_EQ(pool.counts().resent, 0U);
    EXPECT_LT(lost, 30);
  }
}

TEST(ClusterProtocol, WithoutAnAgentOfThisBuildThatIsSaid) {
  FakeServer server;
  {
    const ClusterPool pool = client_of(server, "secret", 300ms);
    Future<int> task = pool.submit(square, 1);
    EXPECT_THROW(task.get(10s), NoAgents);
  }
  const TestAgent other(server, "other", "secret", detail::own_build() + 1);
  const ClusterPool pool = client_of(server, "secret", 500ms);
  ASSERT_TRUE(eventually([&] { return pool.nodes().size() == 1; }));
  EXPECT_FALSE(pool.nodes()[0].can_run);
  Future<int> task = pool.submit(square, 1);
  EXPECT_NE(thrown([&] { task.get(10s); }).find("other builds"), std::string::npos);
}

TEST(ClusterProtocol, AnotherKeyIsAStrangers) {
  FakeServer server;
  const TestAgent stranger(server, "stranger", "another");
  {
    const ClusterPool pool = client_of(server, "secret", 500ms);
    Future<int> task = pool.submit(square, 1);
    EXPECT_THROW(task.get(10s), NoAgents);
    EXPECT_GT(pool.counts().refused, 0U);
  }
  // Its messages have been put aside by then; those who know the key are served.
  const TestAgent friendly(server, "friendly");
  const ClusterPool pool = client_of(server);
  EXPECT_EQ(pool.map(square, numbers(20)), squares(20));
}

TEST(ClusterProtocol, WhatMakesNoSenseFarAwayIsRefused) {
  FakeServer server({.most_bytes = 100'000});
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  const Value<int> shared(1);
  EXPECT_NE(thrown([&] {
              pool.apply([](const Value<int>& v) { return v.get(); }, shared);
            }).find("shared memory"),
            std::string::npos);
  EXPECT_NE(thrown([&] {
              pool.apply([](const std::string& s) { return s.size(); }, std::string(200'000, 'x'));
            }).find("95904"),
            std::string::npos)
      << "the limit is named";
  EXPECT_THROW(
      pool.apply([](int n) { return std::string(static_cast<std::size_t>(n), 'x'); }, 200'000),
      MessageTooLarge);
  EXPECT_EQ(pool.apply(square, 5), 25);
}

TEST(ClusterProtocol, AFullServerHoldsThingsUpAndNoMore) {
  FakeServer server({.most_messages = 1});
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 200; ++i) tasks.push_back(pool.submit(square, i));
  for (int i = 0; i < 200; ++i) EXPECT_EQ(tasks[static_cast<std::size_t>(i)].get(20s), i * i);
}

TEST(ClusterProtocol, CancelledTasksAreNotWaitedFor) {
  FakeServer server;
  {
    const ClusterPool pool = client_of(server);
    Future<int> task = pool.submit(square, 1);
    EXPECT_TRUE(task.cancel());
    EXPECT_THROW(task.get(), TaskCancelled);
    Future<int> left = pool.submit(square, 2);
    Future<int> then = std::move(left).then([](int n) { return n + 1; });
    const TestAgent agent(server, "agent");
    EXPECT_EQ(then.get(10s), 5);
  }
  Future<int> orphan;
  {
    const ClusterPool pool = client_of(server);
    orphan = pool.submit(square, 3);
  }
  EXPECT_THROW(orphan.get(10s), TaskCancelled);
}

TEST(ClusterProtocol, WhatIsCancelledWhileItRunsIsStopped) {
  FakeServer server;
  const TempDir dir;
  const TestAgent agent(server, "agent");  // one worker
  const ClusterPool pool = client_of(server);
  const auto hang = [](const std::string& begun) {
    std::ofstream(begun) << std::flush;
    ::pause();
  };
  Future<void> running = pool.submit(hang, dir.file("begun"));
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(dir.file("begun")); }));
  Future<void> waiting = pool.submit(hang, dir.file("never"));
  ASSERT_TRUE(eventually([&] {
    const auto nodes = pool.nodes();
    return nodes.size() == 1 && nodes[0].in_hand == 2;
  }));
  EXPECT_TRUE(waiting.cancel());
  EXPECT_TRUE(running.cancel());
  EXPECT_EQ(pool.apply(square, 4), 16) << "its worker is free";
  EXPECT_FALSE(std::filesystem::exists(dir.file("never")));
  EXPECT_THROW(running.get(), TaskCancelled);
  EXPECT_EQ(pool.counts().cancelled, 2U);
  EXPECT_TRUE(eventually([&] { return server.tasks() == 0; })) << "nobody tries again";
}

TEST(ClusterProtocol, WhatProgressThrowsEndsTheCall) {
  FakeServer server;
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  const auto hang_at = [](int n) {
    if (n == 5) ::pause();
    ::usleep(60'000);
  };
  EXPECT_THROW(pool.with({.progress = [](std::size_t, std::size_t) { throw Refused("enough"); }})
                   .map(hang_at, numbers(6)),
               Refused);
  EXPECT_EQ(pool.apply(square, 3), 9) << "what ran was stopped";
}

TEST(ClusterProtocol, ADeadlineEndsWhatIsLeftOfACall) {
  FakeServer server;
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  EXPECT_EQ(pool.apply(square, 2), 4);  // all is there
  const auto outcomes = pool.with({.deadline = kAddressSanitizer ? 3000ms : 1000ms})
                            .try_map(
                                [](int n) {
                                  if (n > 0) ::pause();
                                  return n;
                                },
                                numbers(4));
  EXPECT_EQ(outcomes[0].value(), 0);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_THROW(static_cast<void>(outcomes[i].value()), TaskTimeout) << i;
  }
  EXPECT_EQ(pool.apply(square, 5), 25) << "what ran was stopped";
}

TEST(ClusterProtocol, TheResultsOfAMessageGoBackTogether) {
  FakeServer server;
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  EXPECT_EQ(pool.map(square, numbers(5000)), squares(5000));
  EXPECT_LT(server.replies(), 2 * pool.counts().messages + 50) << pool.counts().messages;
  EXPECT_LT(server.replies(), 2500U);
}

TEST(ClusterProtocol, AResultDoesNotWaitForSlowOnesOfItsMessage) {
  FakeServer server;
  const TestAgent agent(server, "agent", "secret", detail::own_build(), 2);
  const ClusterPool pool = client_of(server);
  const TempDir dir;
  const std::string go = dir.file("go");
  const auto second_waits = brood::bind(
      [](const std::string& file, int n) {
        while (n == 1 && !std::filesystem::exists(file)) ::usleep(1000);
        return n;
      },
      go);
  int first = -1;
  for (const int n : pool.with({.window = 4}).imap_unordered(second_waits, std::vector{1, 0, 2})) {
    if (first == -1) {
      first = n;
      std::ofstream(go) << std::flush;
    }
  }
  EXPECT_NE(first, 1);
}

TEST(ClusterProtocol, APredicateDecidesAboutAnotherAttempt) {
  const TempDir dir;
  // Its `runs`-th run is good.
  const auto at_last = brood::bind(
      [](const std::string& file, int runs) {
        std::ofstream(file, std::ios::app) << '.' << std::flush;
        if (std::filesystem::file_size(file) < static_cast<std::size_t>(runs)) {
          throw Refused("not yet");
        }
        return runs;
      },
      dir.file("runs"));
  FakeServer server({.double_result = 0.5, .delay_result = 0.5});
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  EXPECT_EQ(pool.with({.retries = 5, .retry_if = retry_on<Refused>()}).apply(at_last, 4), 4);
  EXPECT_EQ(pool.counts().retries, 3U);
  EXPECT_EQ(read_file(dir.file("runs")).size(), 4U);

  EXPECT_THROW(pool.with({.retries = 2, .retry_if = retry_on<Refused>()}).apply(at_last, 100),
               Refused);
  EXPECT_EQ(read_file(dir.file("runs")).size(), 7U) << "once, and twice again";
  EXPECT_THROW(
      pool.with({.retries = 2, .retry_if = retry_on<std::bad_alloc>()}).apply(at_last, 100),
      Refused);
  EXPECT_EQ(read_file(dir.file("runs")).size(), 8U);
  const RetryIf throwing = [](const std::exception&) -> bool { throw std::logic_error("hm"); };
  EXPECT_THROW(pool.with({.retries = 2, .retry_if = throwing}).apply(at_last, 100), Refused);
  EXPECT_EQ(read_file(dir.file("runs")).size(), 9U);
  // A crash comes back as any failure does.
  EXPECT_THROW(pool.with({.retries = 1, .retry_if = retry_on_signal(SIGKILL)}).apply([] {
    ::raise(SIGKILL);
  }),
               WorkerCrashed);
  EXPECT_EQ(pool.counts().retries, 6U);
}

TEST(ClusterProtocol, AgentsStopWhatAClientLeavesBehind) {
  FakeServer server;
  const TempDir dir;
  const TestAgent agent(server, "agent");
  {
    const ClusterPool pool = client_of(server);
    const Future<void> left = pool.submit(
        [](const std::string& begun) {
          std::ofstream(begun) << std::flush;
          ::pause();
        },
        dir.file("begun"));
    ASSERT_TRUE(eventually([&] { return std::filesystem::exists(dir.file("begun")); }));
  }
  const ClusterPool pool = client_of(server);
  EXPECT_EQ(pool.apply(square, 3), 9);
}

TEST(ClusterProtocol, AgentsStopWhatASilentClientWanted) {
  FakeServer server;
  const TempDir dir;
  std::unique_ptr<ClusterPool> pool = std::make_unique<ClusterPool>(client_of(server));
  const Future<void> left = pool->submit(
      [](const std::string& begun) {
        std::ofstream(begun, std::ios::app) << '.' << std::flush;
        ::pause();
      },
      dir.file("begun"));
  ASSERT_TRUE(eventually([&] { return server.tasks() == 1; }));
  // Away before an agent hears of it.
  server.mute(true);
  const TestAgent agent(server, "agent", "secret", detail::own_build(), 1, 200ms);
  EXPECT_TRUE(eventually([&] { return server.tasks() == 0; })) << "it counts as done";
  server.mute(false);
  EXPECT_TRUE(eventually([&] { return read_file(dir.file("begun")).size() == 2; }))
      << "a client that is there after all finds it lost";
  pool.reset();
}

TEST(ClusterProtocol, AFailureSaysWhichItemItWas) {
  FakeServer server;
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  const auto bad = [](int n) {
    if (n == 7) throw Refused("seven");
    if (n == 8) ::raise(SIGKILL);
    return n;
  };
  const auto outcomes = pool.try_map(bad, numbers(9));
  try {
    static_cast<void>(outcomes[7].value());
    FAIL() << "nothing was thrown";
  } catch (const Refused& e) {
    const RemoteTrace* const trace = remote_trace(e);
    ASSERT_NE(trace, nullptr);
    EXPECT_EQ(trace->failure().item, 7U);
    EXPECT_FALSE(trace->failure().stack.empty());
    EXPECT_NE(trace->failure().process.find("agent-"), std::string::npos);
  }
  try {
    static_cast<void>(outcomes[8].value());
    FAIL() << "nothing was thrown";
  } catch (const WorkerCrashed& e) {
    EXPECT_EQ(e.item(), 8U);
  }
}

TEST(ClusterProtocol, BlocksAreReducedWhereTheyAreMapped) {
  FakeServer server;
  const TestAgent agent(server, "agent", "secret", detail::own_build(), 2);
  const ClusterPool pool = client_of(server);
  ASSERT_TRUE(eventually([&] { return pool.workers() == 2; }));
  const auto text = [](int n) { return std::to_string(n % 10); };
  std::string expected = ">";
  for (int i = 0; i < 1000; ++i) expected += std::to_string(i % 10);
  EXPECT_EQ(pool.map_reduce(text, std::plus<>(), std::string(">"), numbers(1000)), expected)
      << "in order, though it is not commutative";
  EXPECT_LE(pool.counts().tasks, 33U) << "16 blocks for each worker";
  EXPECT_EQ(
      pool.with({.chunk = 10}).map_reduce(square, std::plus<>(), 0L, std::views::iota(0, 100)),
      328'350);
  EXPECT_EQ(pool.map_reduce(square, std::plus<>(), 5, std::vector<int>()), 5);
  const auto bad = [](int n) {
    if (n == 123) throw Refused("in the middle of a block");
    return n;
  };
  try {
    pool.map_reduce(bad, std::plus<>(), 0, numbers(1000));
    FAIL() << "nothing was thrown";
  } catch (const Refused& e) {
    ASSERT_NE(remote_trace(e), nullptr);
    EXPECT_EQ(remote_trace(e)->failure().item, 123U);
  }
}

TEST(ClusterProtocol, AClosedPoolDoesWhatItHas) {
  FakeServer server;
  ClusterPool pool = client_of(server);
  EXPECT_THROW(pool.join(), StateError);
  std::vector<Future<int>> tasks;
  for (int i = 0; i < 50; ++i) tasks.push_back(pool.submit(square, i));
  pool.close();
  EXPECT_THROW(static_cast<void>(pool.submit(square, 1)), PoolClosed);
  const TestAgent agent(server, "agent");
  pool.join();
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(tasks[static_cast<std::size_t>(i)].ready());
    EXPECT_EQ(tasks[static_cast<std::size_t>(i)].get(), i * i);
  }
}

TEST(ClusterProtocol, ATerminatedPoolStopsWhatItHas) {
  FakeServer server;
  const TempDir dir;
  const TestAgent agent(server, "agent");
  ClusterPool pool = client_of(server);
  Future<void> running = pool.submit(
      [](const std::string& begun) {
        std::ofstream(begun) << std::flush;
        ::pause();
      },
      dir.file("begun"));
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(dir.file("begun")); }));
  pool.terminate();
  pool.join();
  EXPECT_TRUE(running.ready());
  EXPECT_THROW(running.get(), TaskCancelled);
  EXPECT_THROW(static_cast<void>(pool.submit(square, 1)), PoolClosed);
  EXPECT_EQ(client_of(server).apply(square, 3), 9) << "its worker is free";
}

TEST(ClusterProtocol, TimesAndNodesAreCounted) {
  FakeServer server;
  const TestAgent agent(server, "agent");
  const ClusterPool pool = client_of(server);
  pool.map(square, numbers(40));
  EXPECT_THROW(pool.apply([] { throw Refused("one"); }), Refused);
  const ClusterStats stats = pool.stats();
  EXPECT_EQ(stats.counts.tasks, 41U);
  EXPECT_EQ(stats.waiting.count(), 41U);
  EXPECT_EQ(stats.away.count(), 41U);
  EXPECT_GT(stats.away.percentile(50), 0ns);
  ASSERT_EQ(stats.nodes.size(), 1U);
  EXPECT_EQ(stats.nodes[0].name, "agent");
  EXPECT_EQ(stats.nodes[0].results, 41U);
  EXPECT_EQ(stats.nodes[0].failures, 1U);
}

TEST(ClusterMessages, OnlyWhatWasSignedIsRead) {
  detail::TaskMessage message{
      .client = "c", .kind = {.function = {.module = 1, .offset = 2}, .prefix = {}}, .items = {}};
  message.items.push_back({.number = 7, .attempt = 1, .call = detail::Bytes(10)});
  const detail::MessageKeys keys("key");
  const detail::Bytes bytes = detail::sign(message, keys);
  EXPECT_EQ(detail::open_task(bytes, keys).items[0].number, 7U);
  EXPECT_THROW(detail::open_task(bytes, detail::MessageKeys("other")), AuthenticationError);
  EXPECT_THROW(detail::open_result(bytes, keys), AuthenticationError) << "another kind of message";
  detail::TaskMessage nothing = message;
  nothing.items.clear();
  EXPECT_THROW(detail::open_task(detail::sign(nothing, keys), keys), DecodeError);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    detail::Bytes changed = bytes;
    changed[i] ^= std::byte{1};
    EXPECT_THROW(detail::open_task(changed, keys), AuthenticationError) << i;
    EXPECT_THROW(detail::open_task(std::span(bytes).first(i), keys), Error) << i;
  }
}

}  // namespace
}  // namespace brood::testing::cluster_protocol_test
