// Kills an operation of each word at every instruction, and lets others carry on.
// Not for ThreadSanitizer: processes that are killed.
#include <brood/sync/barrier_word.hpp>
#include <brood/sync/condition_word.hpp>
#include <brood/sync/event_word.hpp>
#include <brood/sync/lock_word.hpp>
#include <brood/sync/rlock_word.hpp>
#include <brood/sync/semaphore_word.hpp>
#include <brood/sync/shared_lock_word.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <new>
#include <string>

#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"

namespace brood::detail::sync_kill_test {
namespace {

using testing::Forked;
using testing::patience;
using testing::prove_everything;
using testing::SingleStep;

/// Shared memory with real futexes, in which the test says who is dead: after it has killed them.
struct Table {
  std::array<std::atomic<std::uint32_t>, 16> dead;
  std::atomic<std::uint32_t> epoch;
  std::atomic<std::uint32_t> asleep;
  std::atomic<std::uint32_t> late;
};
constexpr std::uint32_t kLateSlot = 5;
Table* table = nullptr;
Tag me(1, 1);

struct TableEnvironment {
  template <class T>
  using Atom = std::atomic<T>;
  using Word = Atom<std::uint32_t>;
  using Glance = std::uint32_t;

  static Tag self() { return me; }
  static bool dead(Tag tag) {
    // The late one is seen to live once more.
    if (tag.slot() == kLateSlot && table->late.exchange(0) != 0) return false;
    return table->dead[tag.slot()].load() != 0;
  }
  static std::string describe(Tag tag) { return "slot " + std::to_string(tag.slot()); }
  static Glance look() { return table->epoch.load(); }
  static bool may_have_died(Glance since) { return look() != since; }
  static void sleep(Glance glance, const Word& word, std::uint32_t expected,
                    std::span<const Tag> /*holders*/, Deadline deadline) {
    const std::array<FutexWord, 2> words{FutexWord{&word, expected},
                                         FutexWord{&table->epoch, glance}};
    table->asleep.fetch_add(1);
    futex_wait_any(words, deadline);
    table->asleep.fetch_sub(1);
  }
  static void sleep(Glance glance, const Word& word, std::uint32_t expected, Tag /*holder*/,
                    Deadline deadline) {
    sleep(glance, word, expected, std::span<const Tag>(), deadline);
  }
  static bool passed(Deadline deadline) { return deadline.passed(); }
  static int wake(const Word& word, int count) { return futex_wake(word, count); }
  static int wake_all(const Word& word) { return futex_wake_all(word); }
  static void announce() {
    table->epoch.fetch_add(1);
    futex_wake_all(table->epoch);
  }
  static int spins() { return 0; }
  static void relax() {}
};

constexpr Tag kVictim(1, 1);
constexpr Tag kSurvivor(2, 1);
constexpr Tag kWaiter(3, 1);
constexpr Tag kDead(4, 1);
constexpr Tag kHelper(6, 1);
constexpr Tag kLate(kLateSlot, 1);

using Semaphore = SemaphoreWord<TableEnvironment>;
using Barrier = BarrierWord<TableEnvironment>;
struct Words {
  Table table;
  LockWord<TableEnvironment> lock;
  RLockWord<TableEnvironment> rlock;
  EventWord<TableEnvironment> event;
  ConditionWord<TableEnvironment> condition;
  SharedLockWord<TableEnvironment> shared_lock;
  alignas(64) std::array<std::byte, Semaphore::bytes_needed(4)> semaphore;
  alignas(64) std::array<std::byte, Barrier::bytes_needed(2)> barrier;
  std::uint32_t done;  // what the waiter saw
};

class SyncKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
    reset();
  }
  void reset() {
    std::memset(static_cast<void*>(&*words), 0, sizeof(Words));
    Semaphore::format(words->semaphore.data(), 2, 2, DeadPermits::kReturn);
    Barrier::format(words->barrier.data(), 2);
    table = &words->table;
    table->dead[kDead.slot()].store(1);
  }
  Barrier& barrier() { return *reinterpret_cast<Barrier*>(words->barrier.data()); }
  Semaphore& semaphore() { return *reinterpret_cast<Semaphore*>(words->semaphore.data()); }

  // What is killed in, and what must hold afterwards, of the words that more than one test kills.
  void lock_twice() {
    words->rlock.lock();
    words->rlock.lock();
    words->rlock.unlock();
    words->rlock.unlock();
  }
  void expect_rlock_can_be_had() {
    ASSERT_TRUE(words->rlock.try_lock());
    EXPECT_EQ(words->rlock.depth(), 1U);
    words->rlock.unlock();
    EXPECT_FALSE(words->rlock.locked());
  }
  void use_all_permits() {
    semaphore().acquire();
    semaphore().acquire();
    semaphore().release();
    semaphore().release();
  }
  void expect_all_permits() {
    ASSERT_EQ(semaphore().value(), 2U);
    ASSERT_TRUE(semaphore().try_acquire());
    ASSERT_TRUE(semaphore().try_acquire());
    ASSERT_FALSE(semaphore().try_acquire());
    semaphore().release();
    semaphore().release();
    EXPECT_THROW(semaphore().release(), StateError);
    EXPECT_EQ(semaphore().value(), 2U);
  }

  /// Stops `operation` at each instruction; `survivors` look at the memory as if it had been killed
  /// there. Nothing but the operation writes at a death here, so this is the same as killing.
  template <class Operation, class Survivors>
  void stop_everywhere(Operation operation, Survivors survivors) {
    me = kVictim;
    SingleStep child(operation);
    std::uint64_t points = 0;
    do {
      Words saved;
      std::memcpy(static_cast<void*>(&saved), &*words, sizeof saved);
      table->dead[kVictim.slot()].store(1);
      me = kSurvivor;
      survivors();
      ASSERT_FALSE(HasFailure()) << "stopped after instruction " << child.steps();
      std::memcpy(static_cast<void*>(&*words), &saved, sizeof saved);
      ++points;
    } while (child.step());
    std::printf("%llu kill points\n", static_cast<unsigned long long>(points));
    EXPECT_GT(points, 10u);
  }

  /// Kills `operation` at a sample of its instructions while another process is asleep in `wait`;
  /// that one must come to its end.
  template <class Prepare, class Operation, class Wait>
  void kill_beside_a_sleeper(Prepare prepare, Operation operation, Wait wait) {
    const std::uint64_t stride = prove_everything() ? 1 : 23;
    std::uint64_t kills = 0;
    for (std::uint64_t steps = 0;; steps += stride) {
      reset();
      me = kVictim;
      prepare();
      Forked waiter([&] {
        me = kWaiter;
        wait();
      });
      while (table->asleep.load() == 0) ::usleep(50);
      ASSERT_TRUE(testing::await_state(waiter.pid(), 'S'));
      me = kVictim;
      SingleStep child(operation);
      child.step(steps);
      const bool ended = child.ended();
      child.kill();
      ++kills;
      table->dead[kVictim.slot()].store(1);
      TableEnvironment::announce();  // the watchdog's part
      ASSERT_EQ(waiter.wait(), 0) << "killed after instruction " << steps;
      if (ended) break;
    }
    std::printf("%llu killed beside a sleeper\n", static_cast<unsigned long long>(kills));
  }

  /// Kills `operation`, then whoever recovers from that by `recovery`: the first at a sample of its
  /// instructions, the second at each, likewise. Then the survivors look.
  template <class Prepare, class Operation, class Recovery, class Survivors>
  void kill_the_recovery(Prepare prepare, Operation operation, Recovery recovery,
                         Survivors survivors) {
    const std::uint64_t stride = prove_everything() ? 1 : 7;
    const std::uint64_t second_stride = prove_everything() ? 1 : 3;
    std::uint64_t pairs = 0;
    bool over = false;
    for (std::uint64_t first = 0; !over; first += stride) {
      reset();
      me = kVictim;
      prepare();
      {
        SingleStep child(operation);
        over = !child.step(first);
        child.kill();
      }
      table->dead[kVictim.slot()].store(1);
      me = kHelper;
      SingleStep helper(recovery);
      do {
        Words saved;
        std::memcpy(static_cast<void*>(&saved), &*words, sizeof saved);
        table->dead[kHelper.slot()].store(1);
        me = kSurvivor;
        survivors();
        ASSERT_FALSE(HasFailure())
            << "killed after instruction " << first << ", then after " << helper.steps();
        std::memcpy(static_cast<void*>(&*words), &saved, sizeof saved);
        ++pairs;
      } while (helper.step(second_stride));
    }
    std::printf("%llu pairs\n", static_cast<unsigned long long>(pairs));
    EXPECT_GT(pairs, 100U);
  }
  template <class Operation, class Survivors>
  void kill_the_recovery(Operation operation, Survivors survivors) {
    kill_the_recovery([] {}, operation, operation, survivors);
  }

  /// Both are killed for good while another process is asleep in `wait`.
  template <class Prepare, class Operation, class Recovery, class Wait>
  void kill_the_recovery_beside_a_sleeper(Prepare prepare, Operation operation, Recovery recovery,
                                          Wait wait) {
    const std::uint64_t stride = prove_everything() ? 1 : 13;
    const std::uint64_t second_stride = prove_everything() ? 2 : 17;
    std::uint64_t kills = 0;
    bool first_over = false;
    for (std::uint64_t first = 0; !first_over; first += stride) {
      bool second_over = false;
      for (std::uint64_t second = 0; !second_over; second += second_stride) {
        reset();
        me = kVictim;
        prepare();
        Forked waiter([&] {
          me = kWaiter;
          wait();
        });
        while (table->asleep.load() == 0) ::usleep(50);
        ASSERT_TRUE(testing::await_state(waiter.pid(), 'S'));
        me = kVictim;
        SingleStep child(operation);
        first_over = !child.step(first);
        child.kill();
        table->dead[kVictim.slot()].store(1);
        me = kHelper;
        SingleStep helper(recovery);
        second_over = !helper.step(second);
        helper.kill();
        table->dead[kHelper.slot()].store(1);
        TableEnvironment::announce();  // the watchdog's part
        ASSERT_EQ(waiter.wait(), 0)
            << "killed after instruction " << first << ", then after " << second;
        ++kills;
      }
    }
    std::printf("%llu pairs killed beside a sleeper\n", static_cast<unsigned long long>(kills));
  }

  testing::Shared<Words> words;
};

void expect_lock_can_be_had(Words& words) {
  ASSERT_TRUE(words.lock.try_lock());
  EXPECT_EQ(words.lock.holder(), kSurvivor);
  words.lock.unlock();
  EXPECT_FALSE(words.lock.locked());
  EXPECT_FALSE(words.lock.owner_died());
}

TEST_F(SyncKill, LockAndUnlock) {
  stop_everywhere(
      [&] {
        words->lock.lock();
        words->done = 1;  // half a change
        words->done = 0;
        words->lock.unlock();
      },
      [&] {
        const bool torn = words->done != 0;
        ASSERT_TRUE(words->lock.try_lock());
        EXPECT_TRUE(!torn || words->lock.owner_died());
        words->lock.unlock();
        expect_lock_can_be_had(*words);
      });
}

TEST_F(SyncKill, LockTakenOverFromTheDead) {
  me = kDead;
  words->lock.lock();
  stop_everywhere(
      [&] {
        words->lock.lock();
        words->lock.unlock();
      },
      [&] {
        const bool was_locked = !words->lock.holder().none();
        ASSERT_TRUE(words->lock.try_lock());
        EXPECT_EQ(words->lock.owner_died(), was_locked);
        words->lock.unlock();
        expect_lock_can_be_had(*words);
      });
}

TEST_F(SyncKill, RLockTwice) {
  stop_everywhere([&] { lock_twice(); }, [&] { expect_rlock_can_be_had(); });
}

TEST_F(SyncKill, SemaphoreAcquireAndRelease) {
  stop_everywhere([&] { use_all_permits(); }, [&] { expect_all_permits(); });
}

TEST_F(SyncKill, SemaphoreSignals) {
  Semaphore::format(words->semaphore.data(), 0, 2, DeadPermits::kStay);
  stop_everywhere([&] { semaphore().release(); },
                  [&] {
                    const std::uint32_t value = semaphore().value();
                    ASSERT_LE(value, 1U);
                    ASSERT_EQ(semaphore().try_acquire(), value == 1);
                    semaphore().release();
                    semaphore().release();
                    EXPECT_THROW(semaphore().release(), StateError);
                  });
}

TEST_F(SyncKill, EventSetAndClear) {
  stop_everywhere(
      [&] {
        words->event.set();
        words->event.clear();
      },
      [&] {
        words->event.set();
        ASSERT_TRUE(words->event.wait_until(Deadline::now()));
        words->event.clear();
        ASSERT_FALSE(words->event.wait_until(Deadline::now()));
      });
}

TEST_F(SyncKill, UnlockBesideASleeper) {
  kill_beside_a_sleeper([&] { words->lock.lock(); }, [&] { words->lock.unlock(); },
                        [&] {
                          ASSERT_TRUE(words->lock.try_lock_until(patience()));
                          words->lock.unlock();
                        });
}

TEST_F(SyncKill, ReleaseBesideASleeper) {
  kill_beside_a_sleeper(
      [&] {
        semaphore().acquire();
        semaphore().acquire();
      },
      [&] { semaphore().release(); },
      [&] {
        ASSERT_TRUE(semaphore().try_acquire_until(patience()));
        semaphore().release();
      });
}

// --- The recovery is killed too ------------------------------------------------------------------

// Who takes over mends what the dead left; whoever comes after is told of a death unless it is
// whole.
TEST_F(SyncKill, TheTakeoverOfALock) {
  kill_the_recovery(
      [&] {
        words->lock.lock();
        if (words->lock.owner_died()) words->done = 0;
        words->done = 1;
        words->done = 0;
        words->lock.unlock();
      },
      [&] {
        const bool torn = words->done != 0;
        ASSERT_TRUE(words->lock.try_lock());
        EXPECT_TRUE(!torn || words->lock.owner_died());
        words->lock.unlock();
        expect_lock_can_be_had(*words);
      });
}
TEST_F(SyncKill, TheTakeoverOfAMarkedLock) {
  kill_the_recovery(
      [&] {
        words->lock.lock();
        // Somebody waits for a moment, and gives up: the mark stays.
        me = kWaiter;
        ASSERT_FALSE(words->lock.try_lock_until(Deadline::after(std::chrono::microseconds(1))));
        me = kVictim;
      },
      [&] { words->lock.unlock(); },
      [&] {
        words->lock.lock();
        words->lock.unlock();
      },
      [&] {
        ASSERT_TRUE(words->lock.try_lock());
        words->lock.unlock();
        expect_lock_can_be_had(*words);
      });
}
TEST_F(SyncKill, TheTakeoverOfAnRLock) {
  kill_the_recovery([&] { lock_twice(); }, [&] { expect_rlock_can_be_had(); });
}
TEST_F(SyncKill, TakingThePermitsOfTheDead) {
  kill_the_recovery([&] { use_all_permits(); }, [&] { expect_all_permits(); });
}
TEST_F(SyncKill, TheTakeoverBesideASleeper) {
  const auto use = [&] {
    words->lock.lock();
    words->lock.unlock();
  };
  kill_the_recovery_beside_a_sleeper([&] { words->lock.lock(); }, [&] { words->lock.unlock(); },
                                     use,
                                     [&] {
                                       ASSERT_TRUE(words->lock.try_lock_until(patience()));
                                       words->lock.unlock();
                                     });
}
TEST_F(SyncKill, TakingThePermitsOfTheDeadBesideASleeper) {
  kill_the_recovery_beside_a_sleeper(
      [&] {
        semaphore().acquire();
        semaphore().acquire();
      },
      [&] { semaphore().release(); },
      [&] {
        semaphore().acquire();
        semaphore().release();
      },
      [&] {
        ASSERT_TRUE(semaphore().try_acquire_until(patience()));
        semaphore().release();
      });
}

/// After a reset it is as new, whatever the dead have left.
void expect_barrier_can_be_had(Barrier& barrier) {
  barrier.reset();
  EXPECT_FALSE(barrier.broken());
  EXPECT_EQ(barrier.n_waiting(), 0U);
  // Nobody comes: broken, and as new after another reset.
  EXPECT_THROW(barrier.arrive_and_wait_until(Deadline::now()), BrokenBarrierError);
  EXPECT_TRUE(barrier.broken());
  barrier.reset();
  EXPECT_FALSE(barrier.broken());
}

// The victim is the only one at a barrier for two, and gives up at once.
TEST_F(SyncKill, BarrierGivenUp) {
  stop_everywhere(
      [&] {
        try {
          barrier().arrive_and_wait_until(Deadline::now());
        } catch (const BrokenBarrierError&) {
          words->done = 1;
        }
      },
      [&] {
        // Whoever comes does not wait for the dead: its deadline is none.
        if (barrier().n_waiting() == 1) {
          try {
            barrier().arrive_and_wait();
            ADD_FAILURE() << "let go together with the dead";
          } catch (const BrokenBarrierError& e) {
            EXPECT_NE(std::string(e.what()).find("slot 1 died"), std::string::npos) << e.what();
          }
        }
        expect_barrier_can_be_had(barrier());
      });
}

TEST_F(SyncKill, BarrierEnlistAbortResetWithdraw) {
  stop_everywhere(
      [&] {
        barrier().enlist();
        barrier().abort();
        barrier().reset();
        barrier().withdraw();
      },
      [&] { expect_barrier_can_be_had(barrier()); });
}

// The victim strikes off one who is dead: killed at any instruction, nobody waits for that one.
TEST_F(SyncKill, BarrierResetAfterADeath) {
  me = kDead;
  barrier().enlist();
  stop_everywhere([&] { barrier().reset(); },
                  [&] {
                    if (barrier().broken()) {
                      EXPECT_THROW(barrier().arrive_and_wait(), BrokenBarrierError);
                    }
                    expect_barrier_can_be_had(barrier());
                  });
}

// The victim is the last to arrive: it lets the sleeper go, or it breaks the barrier by its death.
TEST_F(SyncKill, ArrivingBesideASleeper) {
  kill_beside_a_sleeper([&] { barrier().enlist(); }, [&] { barrier().arrive_and_wait(); },
                        [&] {
                          try {
                            barrier().arrive_and_wait_until(patience());
                          } catch (const BrokenBarrierError& e) {
                            ASSERT_NE(std::string(e.what()).find("slot 1 died"), std::string::npos)
                                << e.what();
                          }
                        });
}
// The same with an action: it is not run twice, and the sleeper is not let go before it was run.
TEST_F(SyncKill, ActingBesideASleeper) {
  const auto action = [&] { ++words->done; };
  kill_beside_a_sleeper([&] { barrier().enlist(); },
                        [&] { barrier().arrive_and_wait_until(Deadline::never(), action); },
                        [&] {
                          try {
                            barrier().arrive_and_wait_until(patience(), action);
                            ASSERT_EQ(words->done, 1U);
                          } catch (const BrokenBarrierError& e) {
                            ASSERT_LE(words->done, 1U);
                            ASSERT_NE(std::string(e.what()).find("slot 1 died"), std::string::npos)
                                << e.what();
                          }
                        });
}
TEST_F(SyncKill, AbortBesideASleeper) {
  kill_beside_a_sleeper([&] { barrier().enlist(); }, [&] { barrier().abort(); },
                        [&] {
                          try {
                            barrier().arrive_and_wait_until(patience());
                            FAIL() << "let go alone";
                          } catch (const BrokenBarrierError& e) {
                            ASSERT_EQ(std::string(e.what()).find("deadline"), std::string::npos)
                                << e.what();
                          }
                        });
}

TEST_F(SyncKill, ConditionWaitAndNotify) {
  stop_everywhere(
      [&] {
        words->rlock.lock();
        words->rlock.lock();
        words->condition.wait_until(words->rlock, Deadline::now());
        words->condition.notify(words->rlock);
        words->rlock.unlock();
        words->rlock.unlock();
      },
      [&] {
        ASSERT_TRUE(words->rlock.try_lock());
        EXPECT_EQ(words->rlock.depth(), 1U);
        EXPECT_FALSE(words->condition.wait_until(words->rlock, Deadline::now()));
        EXPECT_EQ(words->rlock.depth(), 1U);
        words->condition.notify_all(words->rlock);
        words->rlock.unlock();
        EXPECT_FALSE(words->rlock.locked());
      });
}

TEST_F(SyncKill, TheResetOfABarrierAndTheLockOfACondition) {
  kill_the_recovery(
      [&] {
        barrier().enlist();
        barrier().reset();
        barrier().withdraw();
        words->rlock.lock();
        words->condition.wait_until(words->rlock, Deadline::now());
        words->condition.notify(words->rlock);
        words->rlock.unlock();
      },
      [&] {
        expect_barrier_can_be_had(barrier());
        ASSERT_TRUE(words->rlock.try_lock());
        EXPECT_EQ(words->rlock.depth(), 1U);
        EXPECT_FALSE(words->condition.wait_until(words->rlock, Deadline::now()));
        words->condition.notify_all(words->rlock);
        words->rlock.unlock();
        EXPECT_FALSE(words->rlock.locked());
      });
}

// The victim is killed on its way from the change to the notification, or anywhere else: the
// sleeper looks again.
TEST_F(SyncKill, NotifyBesideASleeper) {
  kill_beside_a_sleeper([&] {},
                        [&] {
                          words->lock.lock();
                          words->done = 1;
                          words->condition.notify(words->lock);
                          words->lock.unlock();
                        },
                        [&] {
                          words->lock.lock();
                          ASSERT_TRUE(words->condition.wait_until(words->lock, patience(), [&] {
                            return words->done != 0 || TableEnvironment::dead(kVictim);
                          }));
                          words->lock.unlock();
                        });
}

/// Whatever the dead have left: it can be had alone and shared, and nothing is said any more of
/// those who died once it was unlocked.
void expect_shared_lock_can_be_had(Words& words) {
  auto& lock = words.shared_lock;
  ASSERT_TRUE(lock.try_lock_shared());
  EXPECT_EQ(lock.readers(), 1U);
  lock.unlock_shared();
  ASSERT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.held_by_self());
  lock.unlock();
  EXPECT_FALSE(lock.locked());
  EXPECT_FALSE(lock.owner_died());
  EXPECT_EQ(lock.readers(), 0U);
}

TEST_F(SyncKill, SharedLockAlone) {
  stop_everywhere(
      [&] {
        words->shared_lock.lock();
        words->done = 1;  // half a change
        words->done = 0;
        words->shared_lock.unlock();
      },
      [&] {
        const bool torn = words->done != 0;
        EXPECT_TRUE(!torn || words->shared_lock.owner_died());
        ASSERT_TRUE(words->shared_lock.try_lock_shared());
        EXPECT_TRUE(!torn || words->shared_lock.owner_died());
        words->shared_lock.unlock_shared();
        ASSERT_TRUE(words->shared_lock.try_lock());
        EXPECT_TRUE(!torn || words->shared_lock.owner_died());
        words->shared_lock.unlock();
        expect_shared_lock_can_be_had(*words);
      });
}

TEST_F(SyncKill, SharedLockShared) {
  stop_everywhere(
      [&] {
        words->shared_lock.lock_shared();
        words->shared_lock.lock_shared();
        words->shared_lock.unlock_shared();
        words->shared_lock.unlock_shared();
      },
      [&] {
        EXPECT_FALSE(words->shared_lock.owner_died());
        EXPECT_EQ(words->shared_lock.readers(), 0U);
        expect_shared_lock_can_be_had(*words);
      });
}

TEST_F(SyncKill, SharedLockTakenOverFromTheDead) {
  for (const bool shared : {true, false}) {
    reset();
    me = kDead;
    words->shared_lock.lock();
    stop_everywhere(
        [&] {
          if (shared) words->shared_lock.lock_shared();
          if (shared) words->shared_lock.unlock_shared();
          words->shared_lock.lock();
          words->done = 1;
          words->shared_lock.unlock();
        },
        [&] {
          if (words->done == 0) {
            EXPECT_TRUE(words->shared_lock.owner_died());
          }
          expect_shared_lock_can_be_had(*words);
        });
  }
}

// Not to be had: the victim finds a reader, and gives up.
TEST_F(SyncKill, SharedLockGivenUp) {
  me = kWaiter;
  words->shared_lock.lock_shared();
  stop_everywhere(
      [&] {
        if (words->shared_lock.try_lock_until(Deadline::after(std::chrono::nanoseconds(1)))) {
          words->done = 1;
        }
      },
      [&] {
        EXPECT_EQ(words->done, 0U);
        EXPECT_FALSE(words->shared_lock.owner_died());
        EXPECT_FALSE(words->shared_lock.try_lock());
        EXPECT_TRUE(words->shared_lock.try_lock_shared());
        words->shared_lock.unlock_shared();
        me = kWaiter;
        words->shared_lock.unlock_shared();
        me = kSurvivor;
        expect_shared_lock_can_be_had(*words);
      });
}

// The one who has it alone dies between two looks: the victim comes in through the gate.
TEST_F(SyncKill, SharedLockThroughTheGate) {
  me = kLate;
  words->shared_lock.lock();
  table->dead[kLateSlot].store(1);
  table->late.store(1);
  stop_everywhere(
      [&] {
        words->shared_lock.lock_shared();
        words->done = 1;
        words->shared_lock.unlock_shared();
      },
      [&] {
        const bool shared = words->done != 0;
        if (shared) {
          EXPECT_EQ(table->late.load(), 0U);
        }
        table->late.store(0);
        EXPECT_TRUE(words->shared_lock.owner_died()) << "nobody has had it alone since";
        EXPECT_EQ(words->shared_lock.readers(), 0U);
        expect_shared_lock_can_be_had(*words);
      });
}

// What one left who had the same slot before is nobody's.
TEST_F(SyncKill, SharedLockInASlotThatIsUsedAgain) {
  me = Tag(kVictim.slot(), 1);
  words->shared_lock.lock_shared();
  words->shared_lock.lock_shared();
  me = Tag(kVictim.slot(), 2);
  EXPECT_EQ(words->shared_lock.shares(), 0U);
  EXPECT_THROW(words->shared_lock.unlock_shared(), StateError);
  words->shared_lock.lock_shared();
  EXPECT_EQ(words->shared_lock.shares(), 1U);
  words->shared_lock.unlock_shared();
  EXPECT_EQ(words->shared_lock.readers(), 0U);
}

TEST_F(SyncKill, LeavingAShareBesideASleeper) {
  kill_beside_a_sleeper([&] { words->shared_lock.lock_shared(); },
                        [&] { words->shared_lock.unlock_shared(); },
                        [&] {
                          ASSERT_TRUE(words->shared_lock.try_lock_until(patience()));
                          ASSERT_FALSE(words->shared_lock.owner_died());
                          words->shared_lock.unlock();
                        });
}
TEST_F(SyncKill, UnlockingBesideASleeperWhoShares) {
  kill_beside_a_sleeper([&] { words->shared_lock.lock(); }, [&] { words->shared_lock.unlock(); },
                        [&] {
                          ASSERT_TRUE(words->shared_lock.try_lock_shared_until(patience()));
                          words->shared_lock.unlock_shared();
                        });
}

// A stopped holder is alive: it is not robbed however long it takes.
TEST_F(SyncKill, AStoppedHolderIsNotRobbed) {
  me = kVictim;
  SingleStep holder([&] {
    words->lock.lock();
    semaphore().acquire();
    words->shared_lock.lock_shared();
    words->done = 1;
    words->shared_lock.unlock_shared();
    semaphore().release();
    words->lock.unlock();
  });
  while (words->done == 0) ASSERT_TRUE(holder.step());
  me = kSurvivor;
  EXPECT_FALSE(words->lock.try_lock_until(Deadline::after(std::chrono::milliseconds(20))));
  EXPECT_EQ(words->lock.holder(), kVictim);
  EXPECT_EQ(semaphore().value(), 1U);
  EXPECT_FALSE(words->shared_lock.try_lock_until(Deadline::after(std::chrono::milliseconds(20))));
  EXPECT_TRUE(words->shared_lock.try_lock_shared());
  words->shared_lock.unlock_shared();
  holder.finish();
  EXPECT_TRUE(words->shared_lock.try_lock());
  EXPECT_TRUE(words->lock.try_lock());
  EXPECT_EQ(semaphore().value(), 2U);
}

}  // namespace
}  // namespace brood::detail::sync_kill_test
