#include <brood/shareable_list.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/platform/file_lock.hpp>

#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/sanitizers.hpp"
#include "support/single_step.hpp"

namespace brood::shareable_list_test {
namespace {

using namespace std::string_literals;
using namespace brood::testing;
using Value = ShareableList::Value;
using List = ShareableList;
constexpr auto kObject = Lifetime::object;

List::Bytes bytes_of(const std::string& text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

TEST(ShareableList, HoldsWhatItWasMadeOf) {
  const std::vector<Value> values{1,
                                  -2.5,
                                  true,
                                  false,
                                  "howdy",
                                  bytes_of("a\0\0"s),
                                  {},
                                  ""s,
                                  "NUL\0\0"s,
                                  std::numeric_limits<std::int64_t>::min(),
                                  std::string(1000, 'x')};
  const List list(values, {.lifetime = kObject});
  const List same = List::attach(list.name());
  ASSERT_EQ(same.size(), values.size());
  EXPECT_TRUE(std::equal(values.begin(), values.end(), same.begin()));
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(same[i], values[i]) << i;
  EXPECT_EQ(same.room(0), 8U);
  EXPECT_EQ(same.room(7), 8U);
  EXPECT_EQ(same.room(10), 1000U);
  const List empty({}, {.lifetime = kObject});
  EXPECT_TRUE(List::attach(empty.name()).empty());
  const List numbers(std::vector<int>{1, 2}, {.lifetime = kObject});
  EXPECT_EQ(std::get<std::int64_t>(numbers[1]), 2);
}

TEST(ShareableList, SetsAnySlotToAnyKindForWhichItHasRoom) {
  const List list({1, "12345", {}}, {.lifetime = kObject, .least_room = 13});
  EXPECT_EQ(list.room(0), 16U);
  const List other = List::attach(list.name());
  for (const Value& value : std::vector<Value>{
           5, "0123456789abcdef", 1e300, false, bytes_of("\0"s), {}, "", true, -7, -8, "x", "yz"}) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      list.set(i, value);
      EXPECT_EQ(other[i], value) << i;
    }
  }
}

TEST(ShareableList, FindsAndCounts) {
  const List list({1, 1.0, true, "a", "a", bytes_of("a"), {}, {}}, {.lifetime = kObject});
  EXPECT_EQ(list.index(1), 0U);
  EXPECT_EQ(list.index(1.0), 1U);
  EXPECT_EQ(list.index(true), 2U);
  EXPECT_EQ(list.index("a"), 3U);
  EXPECT_EQ(list.count("a"), 2U);
  EXPECT_EQ(list.count(bytes_of("a")), 1U);
  EXPECT_EQ(list.count({}), 2U);
  EXPECT_EQ(list.count("b"), 0U);
  EXPECT_EQ(list.index("b"), std::nullopt);
}

TEST(ShareableList, WhatHasNoRoomIsRefusedAndSaysTheRoom) {
  const List list({"12345678", 3}, {.lifetime = kObject});
  for (const Value& value : {Value("123456789"), Value(bytes_of("123456789"))}) {
    try {
      list.set(0, value);
      ADD_FAILURE() << "it fits";
    } catch (const ArgumentError& e) {
      EXPECT_NE(std::string(e.what()).find("room for 8"), std::string::npos) << e.what();
    }
  }
  EXPECT_EQ(list[0], Value("12345678"));
  EXPECT_THROW(static_cast<void>(list.get(2)), ArgumentError);
  EXPECT_THROW(list.set(2, 1), ArgumentError);
  EXPECT_THROW(static_cast<void>(list.room(2)), ArgumentError);
}

TEST(ShareableList, AfterCloseItHasANameAndNoMore) {
  List list({1}, {.lifetime = Lifetime::family});
  list.close();
  EXPECT_THROW(static_cast<void>(list.size()), StateError);
  EXPECT_THROW(static_cast<void>(list[0]), StateError);
  EXPECT_THROW(list.set(0, 1), StateError);
  EXPECT_THROW(list.set(0, "a"), StateError);
  list.unlink();
  EXPECT_THROW(List::attach(list.name()), SystemError);
}

TEST(ShareableList, ManyMayGetAndSetASlotAtOnce) {
  // Each sets strings of one letter, and integers with equal halves.
  const List list({""s}, {.lifetime = kObject, .least_room = 4000});
  std::atomic<bool> over{false};
  std::vector<std::thread> setters;
  for (int setter = 0; setter < 3; ++setter) {
    setters.emplace_back([&, setter] {
      const List own = List::attach(list.name());
      for (int i = 0; i < 3000; ++i) {
        if (i % 3 == 0) {
          const std::int64_t half = setter * 100000 + i;
          own.set(0, half << 32 | half);
        } else {
          own.set(0,
                  std::string(static_cast<std::size_t>(i % 4000), static_cast<char>('a' + setter)));
        }
      }
    });
  }
  std::thread getter([&] {
    while (!over) {
      const Value value = list[0];
      if (const auto* text = std::get_if<std::string>(&value)) {
        ASSERT_EQ(text->find_first_not_of(text->empty() ? 'a' : text->front()), std::string::npos);
      } else {
        const auto number = std::get<std::int64_t>(value);
        ASSERT_EQ(number >> 32, number & 0xffffffff);
      }
    }
  });
  for (std::thread& setter : setters) setter.join();
  over = true;
  getter.join();
}

TEST(ShareableList, ASetterThatIsStoppedKeepsOthersFromSettingTextAndNobodyFromReading) {
  const List list({"old"}, {.lifetime = kObject});
  const detail::FileLock held(detail::SharedMemoryAccess::descriptor(list.memory()), 0,
                              detail::Deadline::never());
  EXPECT_THROW(list.set(0, "new", std::chrono::milliseconds(5)), TimeoutError);
  EXPECT_EQ(list[0], Value("old"));
  list.set(0, 17);
  EXPECT_EQ(list[0], Value(17));
}

TEST(ShareableList, NoDescriptorForALockIsAnError) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  const List list({"old"}, {.lifetime = kObject});
  in_child([&] {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 0;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT_THROW(list.set(0, "new"), SystemError);
    EXPECT_EQ(list[0], Value("old"));
  });
}

// --- Bytes of strangers --------------------------------------------------------------------------

TEST(ShareableListDamage, WhatIsNoListIsRefused) {
  for (const std::size_t bytes : {1U, 8U, 63U, 64U, 4096U}) {
    const auto memory = SharedMemory::create(bytes, {.lifetime = kObject});
    EXPECT_THROW(List::attach(memory.name()), DecodeError) << bytes;
  }
}

TEST(ShareableListDamage, EveryByteMayBeAnything) {
  const List list({1, "text", bytes_of("abc"), {}}, {.lifetime = kObject});
  const auto bytes = list.memory().bytes();
  const std::vector<std::byte> good(bytes.begin(), bytes.end());
  std::size_t refused = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const unsigned flip : {1U, 0x10U, 0x80U, 0xffU}) {
      std::copy(good.begin(), good.end(), bytes.begin());
      bytes[at] ^= static_cast<std::byte>(flip);
      try {
        const List damaged = List::attach(list.name());
        for (std::size_t i = 0; i < damaged.size(); ++i) {
          try {
            static_cast<void>(damaged[i]);
          } catch (const DecodeError&) {
            ++refused;
          }
        }
        for (std::size_t i = 0; i < damaged.size(); ++i) damaged.set(i, "z");
      } catch (const DecodeError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100U);
}

// --- Kills ---------------------------------------------------------------------------------------

class ShareableListKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  }
  /// At every instruction the slot holds one of the two; afterwards it can be set by others.
  static void run(const Value& before, const Value& after) {
    const List list({before}, {.lifetime = kObject, .least_room = 40});
    std::uint64_t all = 0;
    bool changed = false;
    {
      SingleStep child([&] { list.set(0, after); });
      while (child.step()) {
        const Value now = list[0];
        ASSERT_TRUE(now == (changed ? after : before) || (!changed && now == after))
            << "at instruction " << child.steps();
        changed = changed || now == after;
      }
      all = child.steps();
    }
    ASSERT_EQ(list[0], after);
    const std::uint64_t stride = prove_everything() ? 3 : std::max<std::uint64_t>(1, all / 40);
    for (std::uint64_t at = 1; at < all; at += stride) {
      list.set(0, before);
      {
        SingleStep child([&] { list.set(0, after); });
        child.step(at);
        child.kill();
      }
      const Value now = list[0];
      ASSERT_TRUE(now == before || now == after) << "killed at instruction " << at;
      list.set(0, "somebody else's", std::chrono::seconds(10));
      ASSERT_EQ(list[0], Value("somebody else's")) << "killed at instruction " << at;
    }
  }
};

TEST_F(ShareableListKill, ASetterLeavesTheOldValueOrTheNewOne) {
  run("the old value", "and this is the new one");
  run("the old value", 42);
  run(41, 42);
  run(41, 4.5);
  run(false, bytes_of("bytes"));
  run("the old value", {});
}

}  // namespace
}  // namespace brood::shareable_list_test
