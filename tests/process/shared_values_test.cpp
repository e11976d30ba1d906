// Value, Array, Guarded and SharedArray between processes.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <numeric>
#include <ranges>
#include <unordered_set>
#include <vector>

#include <brood/array.hpp>
#include <brood/guarded.hpp>
#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/shared_array.hpp>
#include <brood/value.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"

namespace brood::shared_values_test {
namespace {

using namespace brood::testing;

struct Wide {
  std::array<long, 20> all;
  static Wide of(long n) {
    Wide wide{};
    wide.all.fill(n);
    return wide;
  }
  [[nodiscard]] bool whole() const {
    return std::ranges::all_of(all, [&](long n) { return n == all[0]; });
  }
};

static_assert(std::ranges::contiguous_range<SharedArray<int>>);
static_assert(detail::Sendable<Value<int>> && detail::Sendable<Array<double>> &&
              detail::Sendable<Guarded<Wide>> && detail::Sendable<SharedArray<Wide>>);

class SharedValues : public EveryStartMethod {};

void count(Value<int> locked, Value<long> atomic, int times) {
  for (int i = 0; i != times; ++i) {
    auto n = locked.lock();
    ++*n;
    atomic.fetch_add(2);
  }
}

TEST_P(SharedValues, AreCountedByTwo) {
  const Value<int> locked(5);
  const Value<long> atomic(0);
  Process a(count, locked, atomic, 2000);
  Process b(count, locked, atomic, 2000);
  a.start();
  b.start();
  a.join();
  b.join();
  EXPECT_EQ(locked.get(), 4005);
  EXPECT_EQ(atomic.get(), 8000);
}

void write_wide(Value<Wide> value, Guarded<Wide> guarded, Value<bool> stop) {
  for (long i = 1; !stop.get(); ++i) {
    value.set(Wide::of(i));
    auto edit = guarded.lock();
    for (long& n : edit->all) n = i;
  }
}

TEST_P(SharedValues, AreNeverTornWhenTheWriterIsKilled) {
  const Value<Wide> value;
  Guarded<Wide> guarded;
  const Value<bool> stop(false);
  for (int i = 0; i != 10; ++i) {
    Process writer(write_wide, value, guarded, stop);
    const long before = guarded.get().all[0];
    writer.start();
    ASSERT_TRUE(eventually([&] {
      EXPECT_TRUE(value.get().whole());
      EXPECT_TRUE(guarded.get().whole());
      return guarded.get().all[0] != before && value.get().all[0] > 2;
    }));
    writer.kill();
    writer.join();
    EXPECT_TRUE(value.get().whole());
    const auto edit = guarded.lock();
    EXPECT_TRUE(const_cast<detail::Edit<Wide>&>(edit)->whole());
  }
}

void die_in_guarded(Guarded<Wide> guarded) {
  auto edit = guarded.lock();
  edit->all[3] = 99;
  std::raise(SIGKILL);
}

TEST_P(SharedValues, GuardedIsRolledBack) {
  Guarded<Wide> guarded(Wide::of(7));
  Process p(die_in_guarded, guarded);
  p.start();
  p.join();
  EXPECT_EQ(p.exitcode(), -SIGKILL);
  {
    auto edit = guarded.try_lock_for(std::chrono::seconds(10));
    ASSERT_TRUE(edit);
    EXPECT_TRUE(edit->owner_died());
    EXPECT_EQ((*edit)->all[3], 7);
    (*edit)->all[3] = 8;
    edit->roll_back();
    (*edit)->all[4] = 9;
  }
  EXPECT_EQ(guarded.get().all[3], 7);
  EXPECT_EQ(guarded.get().all[4], 9);
  try {
    auto edit = guarded.lock();
    edit->all[5] = 1;
    throw 1;
  } catch (int) {
  }
  EXPECT_EQ(guarded.get().all[5], 7);
  auto held = guarded.lock();
  EXPECT_FALSE(guarded.try_lock());
}

void hold_all(Value<int> value, Array<int> array, Guarded<Wide> guarded, Value<bool> held) {
  const auto a = value.lock();
  const auto b = array.lock();
  const auto c = guarded.lock();
  held.set(true);
  for (;;) ::pause();
}

// Nobody needs to wait for longer than he likes; who is dead holds nothing.
TEST_P(SharedValues, EveryLockCanBeWaitedForWithADeadline) {
  using std::chrono::milliseconds;
  Value<int> value(1);
  Array<int> array{1};
  Guarded<Wide> guarded(Wide::of(1));
  Value<bool> held(false);
  Process p({.daemon = true}, hold_all, value, array, guarded, held);
  p.start();
  ASSERT_TRUE(testing::eventually([&] { return held.get(); }));
  EXPECT_FALSE(value.try_lock());
  EXPECT_FALSE(array.try_lock());
  EXPECT_FALSE(guarded.try_lock());
  EXPECT_FALSE(value.try_lock_for(milliseconds(1)));
  EXPECT_FALSE(array.try_lock_for(milliseconds(1)));
  EXPECT_FALSE(guarded.try_lock_for(milliseconds(1)));
  const auto soon = [] { return std::chrono::system_clock::now() + milliseconds(1); };
  EXPECT_FALSE(value.try_lock_until(soon()));
  EXPECT_FALSE(array.try_lock_until(soon()));
  EXPECT_FALSE(guarded.try_lock_until(soon()));
  p.kill();
  p.join();
  {
    const auto a = value.try_lock_for(std::chrono::seconds(10));
    const auto b =
        array.try_lock_until(std::chrono::steady_clock::now() + std::chrono::seconds(10));
    const auto c = guarded.try_lock_for(std::chrono::seconds(10));
    ASSERT_TRUE(a && b && c);
    EXPECT_TRUE(a->owner_died() && b->owner_died() && c->owner_died());
  }
  {
    auto edit = value.try_lock();
    ASSERT_TRUE(edit);
    EXPECT_FALSE(edit->owner_died());
    **edit = 5;
  }
  EXPECT_EQ(value.get(), 5);
}

void increment_all(Array<int> numbers) {
  for (int& n : *numbers.lock()) ++n;
}

TEST_P(SharedValues, ArraysAreLockedWhileALoopRuns) {
  Array<int> numbers{1, 2, 3};
  Process p(increment_all, numbers);
  p.start();
  p.join();
  EXPECT_EQ(numbers.size(), 3U);
  EXPECT_EQ(numbers.get(2), 4);
  numbers.set(0, 10);
  const auto lock = numbers.lock();
  EXPECT_EQ(std::accumulate(lock.begin(), lock.end(), 0), 17);
  EXPECT_THROW(static_cast<void>(numbers.get(3)), std::out_of_range);
  EXPECT_EQ(Array<double>(5, 1.5).get(4), 1.5);
  EXPECT_EQ(Array<int>(std::views::iota(0, 100)).get(99), 99);
  EXPECT_EQ(Array<Wide>(3).get(2).all[0], 0);
}

void scale(SharedArray<double> data, double by) {
  for (double& x : data) x *= by;
}
SharedArray<int> squares(int n) {
  SharedArray<int> all(static_cast<std::size_t>(n));
  for (int i = 0; i != n; ++i) all[static_cast<std::size_t>(i)] = i % 1000 * (i % 1000);
  return all;
}
void grow(SharedArray<int> all, std::size_t size, int value) { all.grow(size, value); }

TEST_P(SharedValues, ArraysAreNotCopied) {
  const SharedArray<double> data(1'000'000, 1.0);
  Process p(scale, data, 3.0);
  p.start();
  p.join();
  EXPECT_EQ(std::accumulate(data.begin(), data.end(), 0.0), 3'000'000.0);
  Pool pool({.workers = 1});
  const SharedArray<int> made = pool.apply(squares, 100'000);
  EXPECT_EQ(made[300], 90'000);
  EXPECT_EQ(made.view(100, 1000)(0, 300), 90'000);
  EXPECT_EQ(&made.view(2, 50, 1000)(1, 1, 1), &made[51'001]);
  EXPECT_THROW(static_cast<void>(made.view(1000, 101)), std::out_of_range);
}

TEST_P(SharedValues, ArraysGrowInPlace) {
  const SharedArray<int> all(10, 1, 10'000'000);
  EXPECT_EQ(all.size(), 10U);
  EXPECT_GE(all.capacity(), 10'000'000U);
  const int* where = all.data();
  Process p(grow, all, 5'000'000, 7);
  p.start();
  p.join();
  EXPECT_EQ(all.size(), 5'000'000U);
  EXPECT_EQ(all.data(), where);
  EXPECT_EQ(all[9], 1);
  EXPECT_EQ(all[10], 7);
  EXPECT_EQ(all[4'999'999], 7);
  EXPECT_THROW(grow(all, 10'000'001, 0), std::out_of_range);
}

BROOD_UNDER_EVERY_START_METHOD(SharedValues);

TEST(Values, ChangeInOneStep) {
  Value<unsigned> bits(0b0110);
  EXPECT_EQ(bits.fetch_or(1), 0b0110U);
  EXPECT_EQ(bits.fetch_and(0b0011), 0b0111U);
  EXPECT_EQ(bits.fetch_xor(0b0101), 0b0011U);
  EXPECT_EQ(bits.exchange(9), 0b0110U);
  unsigned expected = 1;
  EXPECT_FALSE(bits.compare_exchange_strong(expected, 5));
  EXPECT_EQ(expected, 9U);
  EXPECT_TRUE(bits.compare_exchange_strong(expected, 5));
  Value<double> real(0.5);
  real.fetch_sub(0.25);
  EXPECT_EQ(real.get(), 0.25);
  Value<double> moved = std::move(real);
  EXPECT_THROW(static_cast<void>(real.get()), StateError);
  EXPECT_EQ(std::unordered_set<Value<double>>({moved, moved}).size(), 1U);
}

TEST(Values, ThatDoNotFitAreErrors) {
  EXPECT_THROW(SharedArray<char>(std::size_t{1} << 45U), SharedMemoryFull);
  EXPECT_THROW(SharedArray<double>(SIZE_MAX / 2), SharedMemoryFull);
  EXPECT_THROW(Array<double>(SIZE_MAX / 2), SharedMemoryFull);
  const SharedArray<int> fresh(1000);
  EXPECT_TRUE(std::ranges::all_of(fresh, [](int n) { return n == 0; }));
}

}  // namespace
}  // namespace brood::shared_values_test
