// Kills who changes a shared value at any instruction, and who takes over from that one: the next
// finds the lock, and a whole value or the word that it may not be whole.
// Not for ThreadSanitizer: processes that are killed.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>

#include <brood/array.hpp>
#include <brood/guarded.hpp>
#include <brood/shared_array.hpp>
#include <brood/value.hpp>

#include "support/proof.hpp"
#include "support/single_step.hpp"
#include "support/stepped_member.hpp"

namespace brood::shared_values_kill_test {
namespace {

using testing::prove_everything;
using testing::SingleStep;
using testing::SteppedMember;

struct Wide {
  std::array<long, 5> all;
  static Wide of(long n) {
    Wide wide{};
    wide.all.fill(n);
    return wide;
  }
  [[nodiscard]] bool whole() const {
    return std::ranges::all_of(all, [&](long n) { return n == all[0]; });
  }
  [[nodiscard]] long number() const { return all[0]; }
};

class SharedValuesKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  }

  /// On what `make` made anew each time: `change(it, 1)` is killed, then `change(it, 2)`, and
  /// `check(it)` follows after each; a sample of the instructions of both.
  template <class Make, class Change, class Check>
  static void kill_twice(Make make, Change change, Check check) {
    std::uint64_t all = 0;
    {
      auto it = make();
      change(it, 1);  // the first time is longer: the linker's work
      it = make();
      SteppedMember child([&] { change(it, 1); });
      while (child.steps().step()) continue;
      all = child.steps().steps();
    }
    const std::uint64_t samples = prove_everything() ? 300 : 15;
    const std::uint64_t second_samples = prove_everything() ? 8 : 3;
    std::uint64_t kills = 0;
    for (std::uint64_t first = 0; first <= all; first += 1 + all / samples) {
      {
        auto it = make();
        std::make_unique<SteppedMember>([&] { change(it, 1); })->steps().step(first);
        check(it);
        ASSERT_FALSE(HasFailure()) << "killed after instruction " << first << " of " << all;
      }
      for (std::uint64_t second = first % 3; second <= all; second += 1 + all / second_samples) {
        auto it = make();
        {
          SteppedMember child([&] { change(it, 1); });
          child.steps().step(first);
        }
        {
          SteppedMember helper([&] { change(it, 2); });
          helper.steps().step(second);
        }
        check(it);
        ASSERT_FALSE(HasFailure())
            << "killed after instruction " << first << " of " << all << ", then after " << second;
        ++kills;
      }
    }
    std::printf("%llu instructions, %llu pairs killed\n", static_cast<unsigned long long>(all),
                static_cast<unsigned long long>(kills));
    EXPECT_GT(kills, 30U);
  }
};

TEST_F(SharedValuesKill, AnEditOfANumber) {
  kill_twice([] { return Value<int>(0); },
             [](Value<int>& value, int by) {
               auto n = value.lock();
               *n += by;
             },
             [](Value<int>& value) {
               const int before = value.get();
               EXPECT_TRUE(before >= 0 && before <= 3) << before;
               {
                 auto n = value.lock();
                 EXPECT_EQ(*n, before);
                 *n = 10;
               }
               EXPECT_EQ(value.get(), 10);
               EXPECT_FALSE(value.lock().owner_died());
             });
}

TEST_F(SharedValuesKill, AnEditOfAWideValue) {
  kill_twice([] { return Value<Wide>(Wide::of(0)); },
             [](Value<Wide>& value, long by) {
               auto wide = value.lock();
               for (long& n : wide->all) n = by;
             },
             [](Value<Wide>& value) {
               const Wide before = value.get();
               EXPECT_TRUE(before.whole());
               EXPECT_LE(before.number(), 2);
               value.set(Wide::of(before.number() + 10));
               EXPECT_TRUE(value.get().whole());
               EXPECT_EQ(value.get().number(), before.number() + 10);
             });
}

TEST_F(SharedValuesKill, AnEditOfWhatIsGuarded) {
  kill_twice([] { return Guarded<Wide>(Wide::of(0)); },
             [](Guarded<Wide>& guarded, long by) {
               auto wide = guarded.lock();
               for (long& n : wide->all) n += by;
             },
             [](Guarded<Wide>& guarded) {
               const Wide before = guarded.get();
               EXPECT_TRUE(before.whole());
               EXPECT_LE(before.number(), 3);
               {
                 const auto wide = guarded.try_lock();
                 ASSERT_TRUE(wide) << "locked by nobody who lives";
               }
               EXPECT_TRUE(guarded.get().whole());
               EXPECT_EQ(guarded.get().number(), before.number());
             });
}

// Changed in place: torn only if the next one is told.
TEST_F(SharedValuesKill, ElementsUnderTheirLock) {
  kill_twice(
      [] {
        return Array<Wide>{Wide::of(0), Wide::of(0)};
      },
      [](Array<Wide>& array, long by) {
        const auto items = array.lock();
        // Whoever is told mends it.
        if (items.owner_died()) items[0] = items[1] = Wide::of(0);
        for (long& n : items[0].all) n = by;
        items[1] = items[0];
      },
      [](Array<Wide>& array) {
        const auto items = array.lock();
        const bool whole =
            items[0].whole() && items[1].whole() && items[0].number() == items[1].number();
        EXPECT_TRUE(whole || items.owner_died());
      });
}

TEST_F(SharedValuesKill, ElementsThatAreSet) {
  kill_twice(
      [] {
        return Array<Wide>{Wide::of(0), Wide::of(0)};
      },
      [](Array<Wide>& array, long by) { array.set(1, Wide::of(by)); },
      [](Array<Wide>& array) {
        {
          const auto items = array.lock();
          EXPECT_TRUE(items[0].whole());
          EXPECT_TRUE(items[1].whole() || items.owner_died());
        }
        array.set(1, Wide::of(7));
        EXPECT_TRUE(array.get(1).whole());
        EXPECT_EQ(array.get(1).number(), 7);
      });
}

// The size is what was filled: of the first value up to where the first one wanted it or not at
// all, and likewise of the second.
TEST_F(SharedValuesKill, AnArrayThatGrows) {
  static constexpr std::size_t kBefore = 500;  // in the middle of a page
  static constexpr std::size_t kEnd[] = {0, 700, 1300, 2000};
  kill_twice(
      [] { return SharedArray<long>(kBefore, 7, kEnd[3]); },
      [](SharedArray<long>& array, long by) { array.grow(kEnd[static_cast<std::size_t>(by)], by); },
      [](SharedArray<long>& array) {
        const std::size_t size = array.size();
        EXPECT_TRUE(size == kBefore || size == kEnd[1] || size == kEnd[2]) << size;
        const auto count = [&](long n) {
          return static_cast<std::size_t>(std::ranges::count(array, n));
        };
        EXPECT_EQ(count(7), kBefore);
        EXPECT_TRUE(count(1) == 0 || count(1) == kEnd[1] - kBefore) << count(1);
        EXPECT_EQ(count(2), size - kBefore - count(1));
        EXPECT_TRUE(size != kEnd[1] || count(2) == 0);
        EXPECT_TRUE(
            std::ranges::all_of(array.span().first(kBefore), [](long n) { return n == 7; }));
        array.grow(kEnd[3], 3);
        EXPECT_EQ(array.size(), kEnd[3]);
        EXPECT_EQ(count(3), kEnd[3] - size);
      });
}

}  // namespace
}  // namespace brood::shared_values_kill_test
