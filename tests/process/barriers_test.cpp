// Barriers between processes, under every start method.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <csignal>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include <brood/brood.hpp>
#include <brood/channel/codec.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::barriers_test {
namespace {

using namespace std::chrono_literals;
using testing::await_sign;
using testing::eventually;
using testing::give_sign;
using testing::TempDir;

/// In children: no expectation of a child is seen, but how it ended is.
void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
}

class BarriersTest : public testing::EveryStartMethod {
 protected:
  TempDir dir_;
};

/// Processes that run the same, all of which must end in order.
class Crew {
 public:
  template <class... Arguments>
  void add(Arguments&&... arguments) {
    crew_.emplace_back(std::forward<Arguments>(arguments)...).start();
  }
  Process& operator[](std::size_t i) { return crew_[i]; }
  void expect_all_well() {
    for (Process& process : crew_) process.join();
    for (Process& process : crew_) EXPECT_EQ(process.exitcode(), 0);
  }

 private:
  std::vector<Process> crew_;
};

/// The text of the BrokenBarrierError that `call` throws; empty when it does not.
template <class Call>
std::string broken_by(Call call) {
  try {
    call();
  } catch (const BrokenBarrierError& e) {
    return e.what();
  }
  return {};
}

void step_together(Barrier barrier, Value<int> come, Array<int> indices, int rounds) {
  for (int round = 1; round <= rounds; ++round) {
    come.fetch_add(1);
    const int index = barrier.wait();
    require(come.get() >= round * barrier.parties(), "let go before all had come");
    const auto i = static_cast<std::size_t>(index);
    indices.set(i, indices.get(i) + 1);
    barrier.wait();
    require(come.get() <= (round + 1) * barrier.parties(), "one is a round ahead");
  }
}

// _TestBarrier.test_barrier, test_barrier_10, test_wait_return
TEST_P(BarriersTest, PassedInLockstepWithAnIndexForEach) {
  constexpr int kRounds = 50;
  Barrier barrier(3);
  Value<int> come(0);
  Array<int> indices(3);
  Crew crew;
  crew.add(step_together, barrier, come, indices, kRounds);
  crew.add(step_together, barrier, come, indices, kRounds);
  step_together(barrier, come, indices, kRounds);
  crew.expect_all_well();
  EXPECT_EQ(come.get(), 3 * kRounds);
  for (std::size_t i = 0; i != 3; ++i) EXPECT_EQ(indices.get(i), kRounds) << i;
  EXPECT_EQ(barrier.n_waiting(), 0);
  EXPECT_FALSE(barrier.broken());
}

void act_together(Barrier barrier, Value<int> acted, int rounds) {
  for (int round = 1; round <= rounds; ++round) {
    barrier.wait([&] { acted.set(acted.get() + 1); });
    require(acted.get() == round, "not acted once before all were let go");
    barrier.wait();
  }
}

// _TestBarrier.test_action
TEST_P(BarriersTest, TheActionRunsOnceBeforeAnyGoesOn) {
  Barrier barrier(3);
  Value<int> acted(0);
  Crew crew;
  crew.add(act_together, barrier, acted, 30);
  crew.add(act_together, barrier, acted, 30);
  act_together(barrier, acted, 30);
  crew.expect_all_well();
}

void expect_broken(Barrier barrier, std::string why) {
  const std::string text = broken_by([&] { barrier.wait_for(20s); });
  if (text.find(why) == std::string::npos) throw std::runtime_error("broken by: " + text);
}

// _TestBarrier.test_abort, test_reset, test_abort_and_reset
TEST_P(BarriersTest, AbortAndResetEndTheWaitingOfAll) {
  Barrier barrier(3);
  for (const bool abort : {true, false}) {
    Crew crew;
    for (int i = 0; i != 2; ++i) {
      crew.add(expect_broken, barrier, std::string(abort ? "aborted" : "was reset"));
    }
    ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 2; }));
    abort ? barrier.abort() : barrier.reset();
    crew.expect_all_well();
    EXPECT_EQ(barrier.broken(), abort);
    EXPECT_EQ(barrier.n_waiting(), 0);
    if (abort) {
      EXPECT_THROW(barrier.wait(), BrokenBarrierError);
    }
    barrier.reset();
  }
  Crew crew;
  for (int i = 0; i != 2; ++i) {
    crew.add([](Barrier again) { again.wait(); }, barrier);
  }
  barrier.wait();
  crew.expect_all_well();
}

// _TestBarrier.test_timeout, test_default_timeout
TEST_P(BarriersTest, ADeadlineThatPassesBreaksItForAll) {
  Barrier barrier(3, {.timeout = 20ms});
  Crew crew;
  crew.add(expect_broken, barrier, std::string("deadline"));
  ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 1; }));
  const auto before = std::chrono::steady_clock::now();
  EXPECT_NE(broken_by([&] { barrier.wait(); }), "");
  EXPECT_GE(std::chrono::steady_clock::now() - before, 20ms);
  crew.expect_all_well();
  EXPECT_TRUE(barrier.broken());
  barrier.reset();
  EXPECT_NE(broken_by([&] { barrier.wait_for(1ms); }), "");
  barrier.reset();
  EXPECT_NE(broken_by([&] { barrier.wait_until(std::chrono::system_clock::now() + 1ms); }), "");
}

void come_and_wait(Barrier barrier) { static_cast<void>(barrier.wait_for(20s)); }

void enlist_and_linger(Barrier barrier, std::string enlisted) {
  barrier.enlist();
  give_sign(enlisted);
  await_sign(enlisted + ".never");
}
void die_in_action(Barrier barrier) {
  barrier.wait([] { std::raise(SIGKILL); });
}
void enlist_and_end(Barrier barrier) { barrier.enlist(); }

TEST_P(BarriersTest, APartyThatIsKilledWhileItWaitsBreaksItAndIsNamed) {
  Barrier barrier(3);
  Process victim(come_and_wait, barrier);
  victim.start();
  ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 1; }));
  const std::string name = "(pid " + std::to_string(*victim.pid()) + ") died";
  Crew crew;
  crew.add(expect_broken, barrier, name);
  ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 2; }));
  victim.kill();
  crew.expect_all_well();
  victim.join();
  EXPECT_TRUE(barrier.broken());
  const std::string why = broken_by([&] { barrier.wait(); });
  EXPECT_NE(why.find("died"), std::string::npos) << why;
  barrier.reset();
  EXPECT_FALSE(barrier.broken());
}

TEST_P(BarriersTest, AnEnlistedPartyThatIsKilledElsewhereBreaksIt) {
  Barrier barrier(2);
  const std::string enlisted = dir_.file("enlisted");
  Process victim(enlist_and_linger, barrier, enlisted);
  victim.start();
  await_sign(enlisted);
  const std::string name = "(pid " + std::to_string(*victim.pid()) + ") died";
  Crew crew;
  crew.add(expect_broken, barrier, name);
  ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 1; }));
  victim.kill();
  crew.expect_all_well();
  victim.join();
  barrier.reset();
  EXPECT_FALSE(barrier.broken());
}

TEST_P(BarriersTest, APartyThatIsKilledInTheActionBreaksIt) {
  Barrier barrier(2);
  Crew crew;
  crew.add(expect_broken, barrier, std::string("died"));
  ASSERT_TRUE(eventually([&] { return barrier.n_waiting() == 1; }));
  Process victim(die_in_action, barrier);
  victim.start();
  victim.join();
  EXPECT_EQ(victim.exitcode(), -SIGKILL);
  crew.expect_all_well();
}

TEST_P(BarriersTest, AnEnlistedPartyThatEndsWithoutWithdrawingBreaksIt) {
  Barrier barrier(2);
  Process leaver(enlist_and_end, barrier);
  leaver.start();
  leaver.join();
  EXPECT_EQ(leaver.exitcode(), 0);
  EXPECT_TRUE(barrier.broken());
  EXPECT_NE(broken_by([&] { barrier.wait_for(20s); }).find("died"), std::string::npos);
}

TEST_P(BarriersTest, AStoppedPartyIsWaitedFor) {
  Barrier barrier(2);
  const std::string enlisted = dir_.file("enlisted");
  Process late(
      [](Barrier there, std::string path) {
        there.enlist();
        give_sign(path);
        await_sign(path + ".go");
        there.wait_for(20s);
        there.withdraw();
      },
      barrier, enlisted);
  late.start();
  await_sign(enlisted);
  ::kill(*late.pid(), SIGSTOP);
  ASSERT_TRUE(eventually([&] { return testing::process_state(*late.pid()) == 'T'; }));
  EXPECT_FALSE(barrier.broken());
  give_sign(enlisted + ".go");
  ::kill(*late.pid(), SIGCONT);
  EXPECT_EQ(broken_by([&] { barrier.wait_for(20s); }), "");
  late.join();
  EXPECT_EQ(late.exitcode(), 0);
  EXPECT_FALSE(barrier.broken()) << "it has withdrawn";
}

struct Bundle {
  std::map<std::string, Barrier> barriers;
  std::vector<Barrier> more;
};

TEST_P(BarriersTest, TravelInAggregatesContainersAndTasks) {
  Bundle bundle{.barriers = {{"a", Barrier(2)}, {"b", Barrier(7)}}, .more = {Barrier(1)}};
  Pool pool({.workers = 1});
  Future<Barrier> task = pool.submit(
      [](Bundle there) {
        there.more.at(0).abort();
        there.barriers.at("a").wait_for(20s);
        return there.barriers.at("b");
      },
      bundle);
  EXPECT_EQ(broken_by([&] { bundle.barriers.at("a").wait_for(20s); }), "");
  const Barrier result = task.get();
  EXPECT_EQ(result, bundle.barriers.at("b"));
  EXPECT_NE(result, bundle.barriers.at("a"));
  EXPECT_EQ(result.parties(), 7);
  EXPECT_TRUE(bundle.more.at(0).broken());
  const std::unordered_set<Barrier> set{result, bundle.barriers.at("a"), bundle.barriers.at("b")};
  EXPECT_EQ(set.size(), 2u);
}

BROOD_UNDER_EVERY_START_METHOD(BarriersTest);

// _TestBarrier.test_single_thread
TEST(Barriers, OfOneNeverWait) {
  Barrier barrier(1);
  int acted = 0;
  for (int i = 0; i != 5; ++i) {
    EXPECT_EQ(barrier.wait(), 0);
    EXPECT_EQ(barrier.wait([&] { ++acted; }), 0);
    EXPECT_EQ(barrier.wait_for(0ms, [&] { ++acted; }), 0);
    EXPECT_EQ(barrier.wait_until(std::chrono::steady_clock::now(), [&] { ++acted; }), 0);
  }
  EXPECT_EQ(acted, 15);
  EXPECT_EQ(barrier.wait([n = 0]() mutable { EXPECT_EQ(++n, 1); }), 0);
}

TEST(Barriers, AnActionThatThrowsBreaksIt) {
  Barrier barrier(2);
  std::string why;
  std::array<std::thread, 2> threads;
  std::array<bool, 2> threw{};
  for (std::size_t i = 0; i != 2; ++i) {
    threads[i] = std::thread([&, i] {
      try {
        why = broken_by([&] { barrier.wait([] { throw std::out_of_range("the action's"); }); });
      } catch (const std::out_of_range&) {
        threw[i] = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_NE(threw[0], threw[1]) << "one of them ran it";
  EXPECT_NE(why.find("action failed"), std::string::npos) << why;
  barrier.reset();
  EXPECT_FALSE(barrier.broken());
}

TEST(Barriers, ErrorsSayWhatIsWrong) {
  EXPECT_THROW(Barrier(0), ArgumentError);
  EXPECT_THROW(Barrier(-3), ArgumentError);
  EXPECT_THROW(Barrier(Barrier::kMost + 1), ArgumentError);
  EXPECT_THROW(Barrier(2, {.timeout = -1ms}), ArgumentError);
  EXPECT_EQ(Barrier(Barrier::kMost).parties(), Barrier::kMost);
  Barrier barrier(1);
  barrier.enlist();
  barrier.enlist();
  std::thread([&] { EXPECT_THROW(barrier.enlist(), StateError); }).join();
  barrier.withdraw();
  const Barrier moved = std::move(barrier);
  EXPECT_THROW(barrier.wait(), StateError);  // NOLINT(bugprone-use-after-move): what is tested
  EXPECT_THROW(barrier.abort(), StateError);
  EXPECT_EQ(moved.parties(), 1);
}

TEST(Barriers, ForeignAndDamagedHandlesAreErrors) {
  const auto as_barrier = [](const auto& object) {
    detail::VectorSink sink;
    detail::encode(sink, object);
    detail::ByteSource source(sink.bytes());
    return detail::decode<Barrier>(source);
  };
  const Barrier barrier(2);
  EXPECT_EQ(as_barrier(barrier), barrier);
  EXPECT_THROW(as_barrier(Lock()), DecodeError);
  EXPECT_THROW(as_barrier(detail::ObjectRef{~0U, 1}), ObjectGone);
  // The number of parties lies behind the timeout.
  const std::span<std::byte> payload = detail::HandleAccess::handle(barrier).payload();
  auto* parties = reinterpret_cast<std::uint32_t*>(payload.data() + 8);
  ASSERT_EQ(*parties, 2u);
  for (const std::uint32_t wrong : {0u, 1000u, ~0U}) {
    *parties = wrong;
    EXPECT_THROW(as_barrier(barrier), DecodeError) << wrong;
  }
}

}  // namespace
}  // namespace brood::barriers_test
