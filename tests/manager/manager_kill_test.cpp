// Kills clients at any instruction of a call, servers in the middle of one, and both at random: who
// is left goes on at once, nothing is held, and what was acknowledged was done.
// Not for ThreadSanitizer: processes that are killed.
#include <gtest/gtest.h>

#include <brood/brood.hpp>

#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <brood/process/family.hpp>

#include "support/eventually.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"
#include "support/start_methods.hpp"
#include "support/stepped_member.hpp"
#include "support/temp_dir.hpp"

namespace brood::manager_kill_test {
namespace {

using namespace std::chrono_literals;
using testing::eventually;
using testing::prove_everything;
using testing::SingleStep;
using testing::SteppedMember;

class Counter {
 public:
  long add(long n) { return sum_ += n; }
  long sum() const { return sum_; }
  std::string grow(std::string text) {
    sum_ += 1;
    return text + text;
  }
  Proxy<Counter> child() {
    sum_ += 1;
    return Manager::make_here<Counter>();
  }
  void die() const { ::kill(::getpid(), SIGKILL); }
  void stay(std::string sign) const {
    testing::give_sign(sign);
    for (;;) ::pause();
  }
  void leave() const { ::_exit(3); }

 private:
  long sum_ = 0;
};

detail::CallBoard& board_of(const Proxy<Counter>& proxy) {
  const auto& payload = *reinterpret_cast<const detail::ManagedPayload*>(
      detail::HandleAccess::handle(proxy).payload().data());
  return detail::LocalClient::of(payload.board)->board();
}

/// How many slots processes have.
int taken(const detail::CallBoard& board) {
  int count = 0;
  for (const detail::CallSlot& slot : board.slots) count += slot.word.load() != 0 ? 1 : 0;
  return count;
}

class ManagerKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  }

  /// Kills `operation`, which adds 1 to the counter, at a sample of its instructions.
  static void kill_at_any_instruction(const std::function<void(const Proxy<Counter>&)>& operation) {
    Manager manager;
    const auto counter = manager.make<Counter>();
    operation(counter);  // the first time is longer: the linker's work
    detail::CallBoard& board = board_of(counter);
    const int own = taken(board);
    std::uint64_t all = 0;
    {
      SteppedMember child([&] { operation(counter); });
      while (child.steps().step()) continue;
      all = child.steps().steps();
    }
    const std::uint64_t samples = prove_everything() ? all : 24;
    std::uint64_t kills = 0;
    long before = counter.call<&Counter::sum>();
    ASSERT_EQ(before, 2);
    for (std::uint64_t at = 0; at <= all; at += 1 + all / samples) {
      {
        SteppedMember child([&] { operation(counter); });
        child.steps().step(at);
      }
      detail::announce(detail::Family::require()->segment().header());  // as the watchdog does
      ASSERT_TRUE(eventually([&] { return taken(board) == own; }))
          << "a slot is held after a kill at instruction " << at << " of " << all;
      const long now = counter.call_within<&Counter::sum>(30s);
      ASSERT_TRUE(now == before || now == before + 1) << "killed at instruction " << at;
      before = now;
      ASSERT_TRUE(eventually([&] { return manager.object_count() == 1; })) << "killed at " << at;
      ++kills;
    }
    EXPECT_GT(before, 2) << "no call was done";
    EXPECT_LT(before, static_cast<long>(kills) + 2) << "no call was cut off";
    std::printf("%llu instructions, %llu kill points\n", static_cast<unsigned long long>(all),
                static_cast<unsigned long long>(kills));
    EXPECT_GT(kills, 15U);
  }
};

TEST_F(ManagerKill, ClientInACall) {
  kill_at_any_instruction([](const Proxy<Counter>& counter) { counter.call<&Counter::add>(1); });
}

TEST_F(ManagerKill, ClientInACallWithLargeArgumentsAndResult) {
  static const std::string kText(500, 'x');
  kill_at_any_instruction(
      [](const Proxy<Counter>& counter) { counter.call<&Counter::grow>(kText); });
}

TEST_F(ManagerKill, ClientThatGetsAProxy) {
  kill_at_any_instruction([](const Proxy<Counter>& counter) { counter.call<&Counter::child>(); });
}

TEST_F(ManagerKill, ClientThatDropsAFuture) {
  kill_at_any_instruction(
      [](const Proxy<Counter>& counter) { static_cast<void>(counter.async<&Counter::add>(1)); });
}

// --- the server's death --------------------------------------------------------------------------

class ManagerDeaths : public testing::EveryStartMethod {
 protected:
  testing::TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(ManagerDeaths);

/// What `f` throws of the server's end.
template <class F>
std::string lost(F&& f) {
  try {
    f();
  } catch (const ManagerLost& e) {
    return e.what();
  }
  return "nothing was lost";
}

TEST_P(ManagerDeaths, AMethodThatKillsItsProcessFailsItsCall) {
  Manager manager({.name = "mortal"});
  const auto counter = manager.make<Counter>();
  const std::string text = lost([&] { counter.call<&Counter::die>(); });
  EXPECT_NE(text.find("manager mortal (pid "), std::string::npos) << text;
  EXPECT_NE(text.find("killed by SIGKILL"), std::string::npos) << text;
  EXPECT_NE(lost([&] { counter.call<&Counter::sum>(); }).find("SIGKILL"), std::string::npos);
  EXPECT_NE(lost([&] { static_cast<void>(manager.make<Counter>()); }).find("SIGKILL"),
            std::string::npos);
  EXPECT_FALSE(manager.is_alive());
}

TEST_P(ManagerDeaths, AMethodThatExitsFailsItsCall) {
  Manager manager;
  const auto counter = manager.make<Counter>();
  const std::string text = lost([&] { counter.call<&Counter::leave>(); });
  EXPECT_NE(text.find("exited with code 3"), std::string::npos) << text;
}

TEST_P(ManagerDeaths, AllWhoWaitAreToldAtOnce) {
  Manager manager;
  const std::string in = dir_.file("in");
  const auto counter = manager.make<Counter>();
  Queue<std::string> told;
  std::vector<Process> all;
  for (int i = 0; i < 3; ++i) {
    all.emplace_back(
        [](Proxy<Counter> proxy, Queue<std::string> texts, std::string sign) {
          texts.put(lost([&] { proxy.call<&Counter::stay>(sign); }));
        },
        i == 0 ? counter : manager.make<Counter>(), told, in + std::to_string(i));
  }
  for (Process& p : all) p.start();
  for (int i = 0; i < 3; ++i) testing::await_sign(in + std::to_string(i));
  Future<void> own = manager.make<Counter>().async<&Counter::stay>(in + "own");
  testing::await_sign(in + "own");
  // Those that wait for the object.
  Future<long> behind = counter.async<&Counter::sum>();
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(::kill(manager.pid(), SIGKILL), 0);
  EXPECT_NE(lost([&] { own.get(); }).find("SIGKILL"), std::string::npos);
  EXPECT_NE(lost([&] { behind.get(); }).find("SIGKILL"), std::string::npos);
  for (int i = 0; i < 3; ++i) EXPECT_NE(told.get().find("Manager"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  for (Process& p : all) p.join();
}

TEST_P(ManagerDeaths, TheServerEndsWithTheProcessThatMadeIt) {
  const std::string sign = dir_.file("pid");
  Queue<int> pids;
  Process owner(
      [](Queue<int> out) {
        const Manager manager;
        const auto counter = manager.make<Counter>();
        static_cast<void>(counter.call<&Counter::add>(1));
        out.put(manager.pid());
        for (;;) ::pause();
      },
      pids);
  owner.start();
  const int server = pids.get();
  owner.kill();
  owner.join();
  EXPECT_TRUE(eventually([&] { return testing::process_ended(server); }));
}

/// Adds 1 again and again, and tells how often it was acknowledged.
void add_for_ever(Proxy<Counter> counter, Value<long> acknowledged) {
  for (;;) {
    counter.call<&Counter::add>(1);
    acknowledged.set(acknowledged.get() + 1);
  }
}

// Clients are killed at random; the others go on, and what was acknowledged was done.
TEST_P(ManagerDeaths, ChaosOfClients) {
  Manager manager;
  const auto counter = manager.make<Counter>();
  std::mt19937 random(4711);
  long least = 0;
  const int rounds = prove_everything() ? 300 : 8;
  for (int round = 0; round < rounds; ++round) {
    Value<long> first(0);
    Value<long> second(0);
    Process a(add_for_ever, counter, first);
    Process b(add_for_ever, counter, second);
    a.start();
    b.start();
    ASSERT_TRUE(eventually([&] { return first.get() > 3 && second.get() > 3; }));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
    a.kill();
    const long before = second.get();
    ASSERT_TRUE(eventually([&] { return second.get() > before; })) << "the other one stands still";
    b.kill();
    a.join();
    b.join();
    least += first.get() + second.get();
    const long sum = counter.call_within<&Counter::sum>(30s);
    ASSERT_GE(sum, least);
    ASSERT_LE(sum, least + 4L * (round + 1));  // each may have died between the call and the count
  }
  ASSERT_TRUE(eventually([&] { return taken(board_of(counter)) == 1; }));
}

// Servers are killed at random while processes call them; all of them are told.
TEST_P(ManagerDeaths, ChaosOfServers) {
  std::mt19937 random(42);
  const int rounds = prove_everything() ? 300 : 4;
  for (int round = 0; round < rounds; ++round) {
    Manager manager;
    const auto counter = manager.make<Counter>();
    Queue<long> ends;
    std::vector<Process> all;
    for (int i = 0; i < 2; ++i) {
      all.emplace_back(
          [](Proxy<Counter> proxy, Queue<long> out) {
            long done = 0;
            try {
              for (;;) {
                proxy.call<&Counter::add>(1);
                if (++done == 5) out.put(0);
              }
            } catch (const ManagerLost&) {
              out.put(done);
            }
          },
          counter, ends);
    }
    for (Process& p : all) p.start();
    for (int i = 0; i < 2; ++i) ASSERT_EQ(ends.try_get_for(30s), 0);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
    ASSERT_EQ(::kill(manager.pid(), SIGKILL), 0);
    for (int i = 0; i < 2; ++i) {
      const auto done = ends.try_get_for(30s);
      ASSERT_TRUE(done) << "one was not told";
      EXPECT_GE(*done, 5);
    }
    for (Process& p : all) p.join();
  }
}

}  // namespace
}  // namespace brood::manager_kill_test
