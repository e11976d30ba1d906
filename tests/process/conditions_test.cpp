// Conditions between processes, under every start method.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>
#include <optional>
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

namespace brood::conditions_test {
namespace {

using namespace std::chrono_literals;
using testing::await_sign;
using testing::eventually;
using testing::give_sign;
using testing::TempDir;

class ConditionsTest : public testing::EveryStartMethod {
 protected:
  TempDir dir_;
};

/// What waiters wait for: `stock` more than 0, of which each takes one. All under the lock.
struct Store {
  Condition changed;
  Value<int> waiting;
  Value<int> stock;
  Value<int> taken;
};

void take_one(Store store) {
  const std::scoped_lock guard(store.changed);
  store.waiting.fetch_add(1);
  store.changed.wait([&] { return store.stock.get() > 0; });
  store.waiting.fetch_sub(1);
  store.stock.fetch_sub(1);
  store.taken.fetch_add(1);
}

/// With the lock held: who counts as waiting has let go of it, so it waits.
void await_waiting(Store& store, int count) {
  ASSERT_TRUE(eventually([&] {
    const std::scoped_lock guard(store.changed);
    return store.waiting.get() == count;
  }));
}

void take_and_linger(Store store) {
  const std::scoped_lock guard(store.changed);
  store.waiting.fetch_add(1);
  store.changed.wait([&] { return store.stock.get() > 0; });
  for (;;) std::this_thread::sleep_for(1s);
}

// _TestCondition.test_notify, test_notify_n: each notification lets one take one.
TEST_P(ConditionsTest, ANotificationLetsOneGoOn) {
  Store store;
  std::vector<Process> takers;
  for (int i = 0; i != 3; ++i) takers.emplace_back(take_one, store).start();
  await_waiting(store, 3);
  for (const int more : {1, 2}) {
    {
      const std::scoped_lock guard(store.changed);
      store.stock.fetch_add(more);
      more == 1 ? store.changed.notify_one() : store.changed.notify(more);
    }
    const int waiting = more == 1 ? 2 : 0;
    ASSERT_TRUE(eventually([&] { return store.taken.get() == 3 - waiting; }));
    EXPECT_EQ(store.waiting.get(), waiting);
  }
  for (Process& taker : takers) taker.join();
  const std::scoped_lock guard(store.changed);
  store.changed.notify(3);  // nobody waits: nothing happens, also later
  EXPECT_FALSE(store.changed.wait_for(1ms, [] { return false; }));
}

// _TestCondition.test_notify_all: those whose time has passed leave no trace.
TEST_P(ConditionsTest, AllAreNotifiedAlsoAfterOthersHaveGivenUp) {
  Store store;
  std::vector<Process> late;
  for (int i = 0; i != 2; ++i) {
    late.emplace_back(
            [](Store there) {
              const std::scoped_lock guard(there.changed);
              if (there.changed.wait_for(5ms, [] { return false; })) std::abort();
            },
            store)
        .start();
  }
  for (Process& process : late) process.join();
  for (Process& process : late) EXPECT_EQ(process.exitcode(), 0);
  std::vector<Process> takers;
  for (int i = 0; i != 4; ++i) takers.emplace_back(take_one, store).start();
  await_waiting(store, 4);
  {
    const std::scoped_lock guard(store.changed);
    store.stock.set(4);
    store.changed.notify_all();
  }
  for (Process& taker : takers) taker.join();
  EXPECT_EQ(store.taken.get(), 4);
}

// _TestCondition.test_waitfor
TEST_P(ConditionsTest, WaitsUntilASharedValueIsAsWanted) {
  Condition changed;
  Value<int> state(0);
  Process child(
      [](Condition there, Value<int> value) {
        const std::scoped_lock guard(there);
        for (int i = 0; i != 4; ++i) {
          value.fetch_add(1);
          there.notify_one();
          there.wait([&] { return value.get() % 2 == 0; });
        }
      },
      changed, state);
  std::unique_lock<Condition> guard(changed);
  child.start();
  for (int i = 0; i != 4; ++i) {
    ASSERT_TRUE(changed.wait_for(guard, 20s, [&] { return state.get() % 2 == 1; }));
    state.fetch_add(1);
    changed.notify_one();
  }
  guard.unlock();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
  EXPECT_EQ(state.get(), 8);
}

// The one to whom the notification went is killed: the other one looks again.
TEST_P(ConditionsTest, AKilledWaiterLosesNoWakeUp) {
  Store store;
  Process victim(take_and_linger, store);
  victim.start();
  await_waiting(store, 1);
  Process other(take_one, store);
  other.start();
  await_waiting(store, 2);
  {
    const std::scoped_lock guard(store.changed);
    store.stock.fetch_add(1);
    store.changed.notify_one();  // to the first, which has waited longest
  }
  victim.kill();
  victim.join();
  other.join();
  EXPECT_EQ(other.exitcode(), 0);
  EXPECT_EQ(store.taken.get(), 1);
}

TEST_P(ConditionsTest, WhoeverWaitsWhenANotifierIsKilledLooksAgainAndIsTold) {
  Store store;
  Value<int> told(0);
  Process waiter(
      [](Store there, Value<int> owner_died) {
        const std::scoped_lock guard(there.changed);
        there.waiting.fetch_add(1);
        there.changed.wait([&] { return there.stock.get() > 0; });
        if (there.changed.owner_died()) owner_died.set(1);
      },
      store, told);
  waiter.start();
  await_waiting(store, 1);
  Process notifier(
      [](Store there) {
        there.changed.lock();
        there.stock.set(1);
        std::raise(SIGKILL);
      },
      store);
  notifier.start();
  notifier.join();
  waiter.join();
  EXPECT_EQ(waiter.exitcode(), 0);
  EXPECT_EQ(told.get(), 1) << "it has the lock from one who died with it";
}

struct Bundle {
  std::map<std::string, Condition> conditions;
  std::pair<Lock, Event> more;
};

TEST_P(ConditionsTest, TravelWithTheirLocks) {
  Lock lock;
  Bundle bundle{.conditions = {{"a", Condition(lock)}, {"b", Condition()}},
                .more = {lock, Event()}};
  Pool pool({.workers = 1});
  Condition result = pool.apply(
      [](Bundle there) {
        // The lock is the same one, also where it came by another way.
        if (!there.conditions.at("a").try_lock()) std::abort();
        if (there.more.first.try_lock()) std::abort();
        there.more.second.set();
        return there.conditions.at("a");
      },
      bundle);
  EXPECT_EQ(result, bundle.conditions.at("a"));
  EXPECT_NE(result, bundle.conditions.at("b"));
  EXPECT_TRUE(bundle.more.second.is_set());
  EXPECT_TRUE(lock.locked() && result.locked()) << "the worker lives and holds it";
  EXPECT_FALSE(result.try_lock_for(1ms));
  pool.terminate();
  ASSERT_TRUE(result.try_lock_for(20s));
  EXPECT_TRUE(result.owner_died());
  result.unlock();
  const std::unordered_set<Condition> set{result, bundle.conditions.at("a"),
                                          bundle.conditions.at("b")};
  EXPECT_EQ(set.size(), 2u);
}

// Nobody but the bytes keeps the condition, and its lock, until they are decoded.
TEST_P(ConditionsTest, OutliveTheirMakerUntilTheyAreDecoded) {
  Event done;
  std::optional<Condition> gone(std::in_place);
  Process child(
      [](Condition there, Event seen) {
        const std::scoped_lock guard(there);
        there.notify_all();
        seen.set();
      },
      *gone, done);
  gone.reset();
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
  EXPECT_TRUE(done.is_set());
}

BROOD_UNDER_EVERY_START_METHOD(ConditionsTest);

template <class L>
void use_as_a_standard_one(L lock) {
  Condition condition(lock);
  int items = 0;
  std::thread consumer([&] {
    std::unique_lock<L> guard(lock);
    condition.wait(guard, [&] { return items == 1; });
    --items;
    condition.notify_all();
  });
  {
    const std::scoped_lock guard(lock);
    ++items;
    condition.notify_one();
  }
  std::unique_lock<L> guard(lock);
  EXPECT_TRUE(condition.wait_for(guard, 20s, [&] { return items == 0; }));
  EXPECT_TRUE(condition.wait_until(guard, std::chrono::steady_clock::now() + 20s,
                                   [&] { return items == 0; }));
  EXPECT_FALSE(condition.wait_for(guard, 1ms, [] { return false; }));
  EXPECT_EQ(condition.wait_until(guard, std::chrono::system_clock::now() - 1s),
            std::cv_status::timeout);
  EXPECT_EQ(condition.wait_for(lock, 0ms), std::cv_status::timeout);
  EXPECT_TRUE(guard.owns_lock());
  EXPECT_TRUE(lock.locked());
  guard.unlock();
  EXPECT_FALSE(lock.locked());
  consumer.join();
}

TEST(Conditions, AreUsedAsTheStandardOneWithEitherLock) {
  use_as_a_standard_one(Lock());
  use_as_a_standard_one(RLock());
}

// _TestCondition.test_timeout, test_waitfor_timeout, test_wait_result
TEST(Conditions, SayWhetherItWasInTime) {
  Condition condition;
  const std::scoped_lock guard(condition);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(condition.wait_for(20ms, [] { return false; }));
  EXPECT_GE(std::chrono::steady_clock::now() - before, 20ms);
  EXPECT_FALSE(condition.wait_for(0ms));
  EXPECT_FALSE(condition.wait_until(std::chrono::steady_clock::now() - 1s));
  EXPECT_TRUE(condition.wait_for(0ms, [] { return true; })) << "it is asked at once";
  EXPECT_TRUE(condition.wait_until(std::chrono::steady_clock::now(), [] { return true; }));
  condition.wait([] { return true; });
}

TEST(Conditions, GiveTheWholeOfARecursiveLockAwayAndTakeItAgain) {
  RLock lock;
  Condition condition(lock);
  lock.lock();
  lock.lock();
  condition.lock();
  bool changed = false;
  std::thread other([&] {
    const std::scoped_lock guard(lock);
    changed = true;
    condition.notify_one();
  });
  condition.wait([&] { return changed; });
  other.join();
  for (int depth = 3; depth != 0; --depth) {
    EXPECT_TRUE(lock.locked());
    lock.unlock();
  }
  EXPECT_FALSE(lock.locked());
  EXPECT_THROW(condition.unlock(), StateError);
}

TEST(Conditions, ErrorsSayWhatIsWrong) {
  Lock lock;
  Lock another;
  Condition condition(lock);
  EXPECT_THROW(condition.wait(), StateError);
  EXPECT_THROW(static_cast<void>(condition.wait_for(1ms)), StateError);
  EXPECT_THROW(condition.notify_one(), StateError);
  EXPECT_THROW(condition.notify(0), StateError);
  EXPECT_THROW(condition.notify_all(), StateError);
  std::unique_lock<Lock> guard(lock, std::defer_lock);
  EXPECT_THROW(condition.wait(guard), StateError);
  std::unique_lock<Lock> wrong(another);
  EXPECT_THROW(condition.wait(wrong), ArgumentError);
  RLock recursive;
  std::unique_lock<RLock> other_kind(recursive);
  EXPECT_THROW(condition.wait(other_kind), ArgumentError);
  Condition stranger;
  const std::unique_lock<Condition> strange(stranger);
  EXPECT_THROW(condition.wait(stranger), ArgumentError);
  guard.lock();
  EXPECT_THROW(condition.notify(-1), ArgumentError);
  condition.notify(0);
  std::thread([&] { EXPECT_THROW(condition.notify_one(), StateError); }).join();
  guard.unlock();
  const Condition moved = std::move(condition);
  // NOLINTBEGIN(bugprone-use-after-move): it is what is tested
  EXPECT_THROW(condition.lock(), StateError);
  EXPECT_THROW(condition.notify_one(), StateError);
  // NOLINTEND(bugprone-use-after-move)
  EXPECT_FALSE(moved.locked());
}

TEST(Conditions, ForeignAndDamagedHandlesAreErrors) {
  const auto as_condition = [](const auto& object) {
    detail::VectorSink sink;
    detail::encode(sink, object);
    detail::ByteSource source(sink.bytes());
    return detail::decode<Condition>(source);
  };
  Lock lock;
  const Condition condition(lock);
  EXPECT_EQ(as_condition(condition), condition);
  EXPECT_THROW(as_condition(lock), DecodeError);
  EXPECT_THROW(as_condition(detail::ObjectRef{~0U, 1}), ObjectGone);
  // {word, kind of the lock, its name}
  const std::span<std::byte> payload = detail::HandleAccess::handle(condition).payload();
  auto* words = reinterpret_cast<std::uint32_t*>(payload.data());
  ASSERT_EQ(words[1], 1u);
  for (const std::uint32_t kind : {0u, 2u}) {
    words[1] = kind;
    EXPECT_THROW(as_condition(condition), DecodeError) << kind;
  }
  words[1] = 1;
  ++words[3];
  EXPECT_THROW(as_condition(condition), ObjectGone);
}

}  // namespace
}  // namespace brood::conditions_test
