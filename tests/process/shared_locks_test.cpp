// Locks that are shared or held alone, between processes, under every start method.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <map>
#include <mutex>
#include <shared_mutex>
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

namespace brood::shared_locks_test {
namespace {

using namespace std::chrono_literals;
using testing::await_sign;
using testing::eventually;
using testing::give_sign;
using testing::TempDir;

class SharedLocksTest : public testing::EveryStartMethod {
 protected:
  TempDir dir_;
};

struct Pair {
  Value<int> first;
  Value<int> second;
};

void change(SharedLock lock, Pair pair, int times) {
  for (int i = 0; i < times; ++i) {
    const std::unique_lock guard(lock);
    pair.first.set(pair.first.get() + 1);
    pair.second.set(pair.second.get() + 1);
  }
}
void look(SharedLock lock, Pair pair, int times) {
  for (int i = 0; i < times; ++i) {
    const std::shared_lock guard(lock);
    if (pair.first.get() != pair.second.get()) throw std::runtime_error("half changed");
  }
}

void share_until(SharedLock lock, std::string shared, std::string enough) {
  const std::shared_lock guard(lock);
  give_sign(shared);
  await_sign(enough);
}
void have_until(SharedLock lock, std::string held, std::string enough) {
  const std::unique_lock guard(lock);
  give_sign(held);
  await_sign(enough);
}
void die_with(SharedLock lock, bool shared) {
  shared ? lock.lock_shared() : lock.lock();
  std::raise(SIGKILL);
}
void end_with(SharedLock lock, bool shared) { shared ? lock.lock_shared() : lock.lock(); }

template <class... Arguments>
int run(Arguments&&... arguments) {
  Process process(std::forward<Arguments>(arguments)...);
  process.start();
  process.join();
  return *process.exitcode();
}

TEST_P(SharedLocksTest, ReadersSeeNothingHalfChanged) {
  SharedLock lock;
  Pair pair;
  std::vector<Process> crew;
  crew.emplace_back(change, lock, pair, 1000).start();
  crew.emplace_back(change, lock, pair, 1000).start();
  crew.emplace_back(look, lock, pair, 3000).start();
  look(lock, pair, 3000);
  for (Process& process : crew) process.join();
  for (Process& process : crew) EXPECT_EQ(process.exitcode(), 0);
  EXPECT_EQ(pair.first.get(), 2000);
  EXPECT_EQ(pair.second.get(), 2000);
  EXPECT_FALSE(lock.locked());
  EXPECT_EQ(lock.readers(), 0);
}

TEST_P(SharedLocksTest, AreSharedByMany) {
  SharedLock lock;
  const std::string enough = dir_.file("enough");
  std::vector<Process> readers;
  for (int i = 0; i < 2; ++i) {
    const std::string shared = dir_.file("shared" + std::to_string(i));
    readers.emplace_back(share_until, lock, shared, enough).start();
    await_sign(shared);
  }
  EXPECT_EQ(lock.readers(), 2);
  EXPECT_FALSE(lock.locked());
  ASSERT_TRUE(lock.try_lock_shared_for(20s));
  EXPECT_EQ(lock.readers(), 3);
  lock.unlock_shared();
  EXPECT_FALSE(lock.try_lock());
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(lock.try_lock_for(20ms));
  EXPECT_GE(std::chrono::steady_clock::now() - before, 20ms);
  EXPECT_FALSE(lock.try_lock_until(std::chrono::system_clock::now() + 1ms));
  give_sign(enough);
  ASSERT_TRUE(lock.try_lock_for(20s));
  EXPECT_FALSE(lock.owner_died());
  lock.unlock();
  for (Process& reader : readers) reader.join();
}

TEST_P(SharedLocksTest, AnotherProcessHoldIsSeen) {
  SharedLock lock;
  const std::string held = dir_.file("held");
  const std::string enough = dir_.file("enough");
  Process holder(have_until, lock, held, enough);
  holder.start();
  await_sign(held);
  EXPECT_TRUE(lock.locked());
  EXPECT_EQ(lock.readers(), 0);
  EXPECT_FALSE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock_shared());
  EXPECT_FALSE(lock.try_lock_shared_for(10ms));
  EXPECT_FALSE(lock.try_lock_shared_until(std::chrono::steady_clock::now() + 1ms));
  give_sign(enough);
  lock.lock_shared();
  EXPECT_FALSE(lock.owner_died()) << "it was unlocked in order";
  lock.unlock_shared();
  holder.join();
}

TEST_P(SharedLocksTest, TheShareOfTheKilledIsGone) {
  SharedLock lock;
  EXPECT_EQ(run(die_with, lock, true), -SIGKILL);
  EXPECT_EQ(lock.readers(), 0);
  const std::string shared = dir_.file("shared");
  Process reader(share_until, lock, shared, dir_.file("never"));
  reader.start();
  await_sign(shared);
  Process writer(
      [](SharedLock there) {
        const std::unique_lock guard(there);
        if (there.owner_died()) throw std::runtime_error("nobody died that had it alone");
      },
      lock);
  writer.start();
  reader.kill();
  writer.join();
  EXPECT_EQ(writer.exitcode(), 0);
}

TEST_P(SharedLocksTest, AKilledWriterIsTakenOverAndToldUntilItWasRepaired) {
  for (const bool killed : {true, false}) {
    SharedLock lock;
    EXPECT_EQ(killed ? run(die_with, lock, false) : run(end_with, lock, false),
              killed ? -SIGKILL : 0);
    EXPECT_FALSE(lock.locked());
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(lock.try_lock_shared());
      EXPECT_TRUE(lock.owner_died());
      lock.unlock_shared();
    }
    EXPECT_EQ(run(die_with, lock, true), -SIGKILL);
    ASSERT_TRUE(lock.try_lock());
    EXPECT_TRUE(lock.owner_died());
    lock.unlock();
    EXPECT_FALSE(lock.owner_died());
    ASSERT_TRUE(lock.try_lock_shared());
    EXPECT_FALSE(lock.owner_died());
    lock.unlock_shared();
  }
}

TEST_P(SharedLocksTest, AKilledWriterWakesWhoeverWaits) {
  SharedLock lock;
  const std::string held = dir_.file("held");
  Process holder(have_until, lock, held, dir_.file("never"));
  holder.start();
  await_sign(held);
  Process reader(
      [](SharedLock there) {
        const std::shared_lock guard(there, 20s);
        if (!guard || !there.owner_died()) throw std::runtime_error("not told");
      },
      lock);
  reader.start();
  Process writer(die_with, lock, false);  // it waits, has the lock, and dies in its turn
  writer.start();
  holder.kill();
  reader.join();
  writer.join();
  EXPECT_EQ(reader.exitcode(), 0);
  EXPECT_EQ(writer.exitcode(), -SIGKILL);
  ASSERT_TRUE(lock.try_lock_for(20s));
  EXPECT_TRUE(lock.owner_died());
  lock.unlock();
}

TEST_P(SharedLocksTest, AStoppedReaderKeepsItsShare) {
  SharedLock lock;
  const std::string shared = dir_.file("shared");
  const std::string enough = dir_.file("enough");
  Process reader(share_until, lock, shared, enough);
  reader.start();
  await_sign(shared);
  ::kill(*reader.pid(), SIGSTOP);
  ASSERT_TRUE(eventually([&] { return testing::process_state(*reader.pid()) == 'T'; }));
  EXPECT_FALSE(lock.try_lock_for(30ms));
  EXPECT_EQ(lock.readers(), 1);
  give_sign(enough);
  ::kill(*reader.pid(), SIGCONT);
  ASSERT_TRUE(lock.try_lock_for(20s));
  lock.unlock();
  reader.join();
}

struct Bundle {
  std::map<std::string, SharedLock> locks;
  std::pair<Event, std::vector<SharedLock>> more;
};

TEST_P(SharedLocksTest, TravelInAggregatesContainersAndTasks) {
  Bundle bundle{.locks = {{"a", SharedLock()}, {"b", SharedLock()}},
                .more = {Event(), {SharedLock()}}};
  Pool pool({.workers = 1});
  SharedLock result = pool.apply(
      [](Bundle there) {
        there.locks.at("b").lock_shared();
        there.more.second.at(0).lock();
        there.more.first.set();
        return there.locks.at("a");
      },
      bundle);
  EXPECT_EQ(result, bundle.locks.at("a"));
  EXPECT_NE(result, bundle.locks.at("b"));
  EXPECT_TRUE(bundle.more.first.is_set());
  EXPECT_EQ(bundle.locks.at("b").readers(), 1) << "the worker lives and has a share";
  EXPECT_TRUE(bundle.more.second.at(0).locked());
  pool.terminate();
  EXPECT_TRUE(bundle.locks.at("b").try_lock_for(20s));
  EXPECT_FALSE(bundle.locks.at("b").owner_died());
  EXPECT_TRUE(bundle.more.second.at(0).try_lock_shared_for(20s));
  EXPECT_TRUE(bundle.more.second.at(0).owner_died());
  const std::unordered_set<SharedLock> set{result, bundle.locks.at("a"), bundle.locks.at("b")};
  EXPECT_EQ(set.size(), 2u);
}

BROOD_UNDER_EVERY_START_METHOD(SharedLocksTest);

TEST(SharedLocks, AreSharedLockables) {
  SharedLock one;
  SharedLock two;
  Lock three;
  {
    const std::scoped_lock all(one, two, three);
    EXPECT_TRUE(one.locked() && two.locked() && three.locked());
  }
  const std::shared_lock<SharedLock> guard(one, 1ms);
  EXPECT_TRUE(guard.owns_lock());
  const std::shared_lock<SharedLock> again(one, std::try_to_lock);
  EXPECT_TRUE(again.owns_lock());
  std::thread([&] {
    EXPECT_FALSE(std::unique_lock<SharedLock>(one, std::try_to_lock).owns_lock());
    EXPECT_FALSE(std::unique_lock<SharedLock>(one, 1ms).owns_lock());
    EXPECT_TRUE(std::shared_lock<SharedLock>(one).owns_lock());
  }).join();
  std::unique_lock<SharedLock> alone(two, std::chrono::steady_clock::now() + 1ms);
  EXPECT_TRUE(alone.owns_lock());
  const std::unique_lock<SharedLock> moved = std::move(alone);
  EXPECT_TRUE(two.locked());
}

TEST(SharedLocks, ErrorsSayWhatIsWrong) {
  SharedLock lock;
  EXPECT_THROW(lock.unlock(), StateError);
  EXPECT_THROW(lock.unlock_shared(), StateError);
  lock.lock_shared();
  EXPECT_THROW(lock.lock(), StateError) << "it would wait for itself";
  EXPECT_THROW(static_cast<void>(lock.try_lock_for(1h)), StateError);
  EXPECT_FALSE(lock.try_lock());
  EXPECT_THROW(lock.unlock(), StateError);
  std::thread([&] { EXPECT_THROW(lock.unlock_shared(), StateError); }).join();
  lock.unlock_shared();
  lock.lock();
  EXPECT_THROW(lock.lock(), StateError);
  EXPECT_THROW(lock.lock_shared(), StateError);
  EXPECT_FALSE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock_shared());
  std::thread([&] { EXPECT_THROW(lock.unlock(), StateError); }).join();
  lock.unlock();
  for (int i = 0; i != 65'535; ++i) lock.lock_shared();
  EXPECT_THROW(lock.lock_shared(), StateError);
  for (int i = 0; i != 65'535; ++i) lock.unlock_shared();
  EXPECT_EQ(lock.readers(), 0);
  const SharedLock moved = std::move(lock);
  // NOLINTBEGIN(bugprone-use-after-move): it is what is tested
  EXPECT_THROW(lock.lock(), StateError);
  EXPECT_THROW(lock.lock_shared(), StateError);
  // NOLINTEND(bugprone-use-after-move)
  EXPECT_FALSE(moved.locked());
}

TEST(SharedLocks, ForeignHandlesAreErrors) {
  const auto as_shared_lock = [](const auto& object) {
    detail::VectorSink sink;
    detail::encode(sink, object);
    detail::ByteSource source(sink.bytes());
    return detail::decode<SharedLock>(source);
  };
  const SharedLock lock;
  EXPECT_EQ(as_shared_lock(lock), lock);
  EXPECT_THROW(as_shared_lock(Lock()), DecodeError);
  EXPECT_THROW(as_shared_lock(Semaphore(5000)), DecodeError);
  EXPECT_THROW(as_shared_lock(detail::ObjectRef{~0U, 1}), ObjectGone);
}

}  // namespace
}  // namespace brood::shared_locks_test
