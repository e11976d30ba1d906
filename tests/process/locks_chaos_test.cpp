// Processes that share locks, permits and a guarded value, killed and stopped at random: nothing of
// what they did is lost or done twice, and who is stopped is not robbed. Under every start method.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include <brood/event.hpp>
#include <brood/guarded.hpp>
#include <brood/lock.hpp>
#include <brood/process.hpp>
#include <brood/semaphore.hpp>
#include <brood/shared_array.hpp>

#include "support/eventually.hpp"
#include "support/proof.hpp"
#include "support/start_methods.hpp"

namespace brood::locks_chaos_test {
namespace {

using namespace std::chrono_literals;
using testing::eventually;
using testing::process_state;
using testing::prove_everything;

constexpr std::size_t kWorkers = 4;
constexpr long kMoney = 1000;

/// What a worker may hold; at most one at a time of those that exclude others.
enum Hold : long { kNothing, kLock, kRLock, kPermit, kGuarded };

/// Of one worker, for all processes that are it one after the other.
struct Notes {
  std::atomic<long> begun;  // rounds
  std::atomic<long> ended;
  std::atomic<long> holds;   // Hold
  std::atomic<long> killed;  // how many of them are dead, or about to be killed
};
/// Of all.
struct Facts {
  std::array<Notes, kWorkers> workers;
  /// Counted under the lock, one after the other, and under the recursive one.
  std::array<std::atomic<long>, 2> locked;
  std::array<std::atomic<long>, 2> locked_twice;
  std::atomic<long>
      with_permit;  // who has the only one, and the how manyth of its worker; 0: nobody
  std::atomic<long> taken_over;
  std::atomic<long> wrong;
  std::atomic<long> over;
};
/// Bytes that hold Facts; atomics are no values that a SharedArray takes.
constexpr std::size_t kWords = sizeof(Facts) / sizeof(long);
static_assert(sizeof(Facts) % sizeof(long) == 0 && std::atomic<long>::is_always_lock_free);

struct Bank {
  std::array<long, 4> accounts;
  std::array<long, kWorkers> bookings;  // by whom
};

struct Things {
  SharedArray<long> words;
  Lock lock;
  RLock rlock;
  Semaphore one;
  Semaphore some;
  Guarded<Bank> bank;

  [[nodiscard]] Facts& facts() const { return *reinterpret_cast<Facts*>(words.data()); }
};

/// For some time, in which most kills shall come.
void linger(const Facts& facts) {
  for (int i = 0; i != 200; ++i) static_cast<void>(facts.over.load());
}

/// Counts one more, in two steps that nobody else comes between.
template <class L>
void count(L& lock, std::array<std::atomic<long>, 2>& both, Facts& facts) {
  const long before = both[0];
  if (lock.owner_died()) {
    both[1] = before;
    ++facts.taken_over;
  } else if (both[1] != before) {
    ++facts.wrong;
  }
  both[0] = before + 1;
  linger(facts);
  both[1] = before + 1;
}

void toil(Things things, std::size_t number, long predecessors) {
  Facts& facts = things.facts();
  Notes& me = facts.workers[number];
  while (facts.over == 0) {
    ++me.begun;
    things.lock.lock();
    me.holds = kLock;
    count(things.lock, facts.locked, facts);
    me.holds = kNothing;
    things.lock.unlock();

    things.rlock.lock();
    things.rlock.lock();
    me.holds = kRLock;
    count(things.rlock, facts.locked_twice, facts);
    things.rlock.unlock();
    me.holds = kNothing;
    things.rlock.unlock();

    things.one.acquire();
    me.holds = kPermit;
    const long self = (predecessors + 1) * static_cast<long>(kWorkers) + static_cast<long>(number);
    const long before = facts.with_permit.exchange(self);
    if (before != 0) {
      // Who had it gave it back, or was killed with it.
      const Notes& other = facts.workers[static_cast<std::size_t>(before) % kWorkers];
      if (other.killed < before / static_cast<long>(kWorkers)) ++facts.wrong;
    }
    linger(facts);
    facts.with_permit = 0;
    me.holds = kNothing;
    things.one.release();

    things.some.acquire();
    things.some.release();

    {
      auto bank = things.bank.lock();
      me.holds = kGuarded;
      bank->accounts[number % 4] -= 1;
      bank->accounts[(number + 1) % 4] += 1;
      linger(facts);
      ++bank->bookings[number];
      me.holds = kNothing;
    }
    ++me.ended;
  }
}

class LocksChaos : public testing::EveryStartMethod {
 protected:
  void start(std::size_t number) {
    workers_[number] = std::make_unique<Process>(toil, things_, number, deaths_[number]);
    workers_[number]->start();
  }
  int pid(std::size_t number) const { return *workers_[number]->pid(); }

  void kill(std::size_t number) {
    Notes& notes = facts_.workers[number];
    notes.killed = ++deaths_[number];
    workers_[number]->kill();
    workers_[number]->join();
    EXPECT_EQ(workers_[number]->exitcode(), -SIGKILL);
    notes.holds = kNothing;
    start(number);
  }
  /// Stops several for a moment. What those hold that are stopped nobody else can have.
  void stop_some() {
    std::vector<std::size_t> stopped;
    for (std::size_t i = 0; i != kWorkers; ++i) {
      if (random_() % 2 == 0) continue;
      ::kill(pid(i), SIGSTOP);
      stopped.push_back(i);
    }
    for (const std::size_t i : stopped) {
      ASSERT_TRUE(eventually([&] { return process_state(pid(i)) == 'T'; }));
      switch (facts_.workers[i].holds) {
        case kLock:
          expect_not_robbed(things_.lock.try_lock_for(1ms));
          break;
        case kRLock:
          expect_not_robbed(things_.rlock.try_lock_for(1ms));
          break;
        case kPermit:
          expect_not_robbed(things_.one.try_acquire_for(1ms));
          break;
        case kGuarded:
          expect_not_robbed(things_.bank.try_lock_for(1ms).has_value());
          break;
        default:
          break;
      }
    }
    for (const std::size_t i : stopped) ::kill(pid(i), SIGCONT);
  }
  void expect_not_robbed(bool had) {
    EXPECT_FALSE(had) << "taken from one that is stopped";
    ++looks_;
  }
  long sum(std::atomic<long> Notes::*what) const {
    long sum = 0;
    for (const Notes& notes : facts_.workers) sum += (notes.*what);
    return sum;
  }

  Things things_{.words = SharedArray<long>(kWords),
                 .lock = Lock(),
                 .rlock = RLock(),
                 .one = Semaphore(1),
                 .some = Semaphore(3),
                 .bank = Guarded<Bank>(Bank{.accounts = {kMoney, 0, 0, 0}, .bookings = {}})};
  Facts& facts_ = things_.facts();
  std::array<std::unique_ptr<Process>, kWorkers> workers_;
  std::array<long, kWorkers> deaths_{};
  std::mt19937 random_{1};
  long looks_ = 0;
};

TEST_P(LocksChaos, RandomKillsAndStopsLoseNothing) {
  for (std::size_t i = 0; i != kWorkers; ++i) start(i);
  const auto end = std::chrono::steady_clock::now() + (prove_everything() ? 60'000ms : 1'500ms);
  const auto deaths = [&] { return std::accumulate(deaths_.begin(), deaths_.end(), 0L); };
  while ((std::chrono::steady_clock::now() < end || deaths() < 3) && !HasFailure()) {
    if (random_() % 2 == 0) {
      stop_some();
    } else {
      kill(random_() % kWorkers);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 3'000));
  }
  // Nobody waits for ever: each goes on.
  for (std::size_t i = 0; i != kWorkers; ++i) {
    const long ended = facts_.workers[i].ended;
    EXPECT_TRUE(eventually([&] { return facts_.workers[i].ended > ended + 2; })) << "worker " << i;
  }
  facts_.over = 1;
  for (auto& worker : workers_) {
    worker->join();
    EXPECT_EQ(worker->exitcode(), 0);
  }

  EXPECT_EQ(facts_.wrong, 0);
  const long begun = sum(&Notes::begun);
  const long ended = sum(&Notes::ended);
  for (const auto* both : {&facts_.locked, &facts_.locked_twice}) {
    EXPECT_EQ((*both)[0], (*both)[1]);
    EXPECT_GE((*both)[0], ended);
    EXPECT_LE((*both)[0], begun);
  }
  const Bank bank = things_.bank.get();
  EXPECT_EQ(std::accumulate(bank.accounts.begin(), bank.accounts.end(), 0L), kMoney);
  for (std::size_t i = 0; i != kWorkers; ++i) {
    const Notes& notes = facts_.workers[i];
    EXPECT_LE(notes.begun - notes.ended, deaths_[i]) << "only the dead left a round open";
    EXPECT_GE(bank.bookings[i], notes.ended) << "a booking is lost";
    EXPECT_LE(bank.bookings[i], notes.begun) << "booked twice";
  }
  EXPECT_EQ(things_.one.value(), 1);
  EXPECT_EQ(things_.some.value(), 3);
  EXPECT_TRUE(things_.lock.try_lock());
  EXPECT_TRUE(things_.rlock.try_lock());
  things_.lock.unlock();
  things_.rlock.unlock();

  std::printf(
      "%ld rounds, %ld processes killed, %ld locks taken over, %ld looks at who was stopped\n",
      ended, deaths(), facts_.taken_over.load(), looks_);
}

BROOD_UNDER_EVERY_START_METHOD(LocksChaos);

}  // namespace
}  // namespace brood::locks_chaos_test
