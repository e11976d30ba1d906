// Kills who changes a shared container at any instruction, and who takes over from that one: the
// next finds it as it was before or after each change, it works as ever, and no memory is lost.
// Not for ThreadSanitizer: processes that are killed.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <brood/dict.hpp>
#include <brood/list.hpp>
#include <brood/namespace.hpp>
#include <brood/process/family.hpp>
#include <brood/set.hpp>

#include "support/proof.hpp"
#include "support/single_step.hpp"
#include "support/stepped_member.hpp"

namespace brood::containers_kill_test {
namespace {

using testing::prove_everything;
using testing::SingleStep;
using testing::SteppedMember;

/// More than has room in a record.
std::string text(int n) { return "a text that is longer than a cell " + std::to_string(n); }

struct Wide {
  std::array<long, 5> all;
  static Wide of(long n) {
    Wide wide{};
    wide.all.fill(n);
    return wide;
  }
  friend bool operator==(const Wide&, const Wide&) = default;
};

/// What the family has in shared memory.
struct Footing {
  std::size_t shared;
  std::size_t objects;
  static Footing now() {
    auto& family = *detail::Family::require();
    return {detail::Heap::measure(family.segment()).shared, family.objects().count()};
  }
  friend bool operator==(const Footing&, const Footing&) = default;
};

template <class K, class V>
std::vector<std::pair<K, V>> contents(const Dict<K, V>& dict) {
  return dict.items();
}
template <class V>
std::vector<std::pair<int, std::vector<V>>> contents(const Dict<int, List<V>>& dict) {
  std::vector<std::pair<int, std::vector<V>>> all;
  for (const auto& [key, list] : dict) all.emplace_back(key, list.values());
  return all;
}
template <class T>
std::vector<T> contents(const List<T>& list) {
  return list.values();
}

std::vector<std::string> contents(const Set<std::string>& set) { return set.values(); }
std::vector<std::string> contents(const Namespace& space) {
  std::vector<std::string> all = space.names();
  if (space.holds<int>("a")) all.push_back(std::to_string(space.get<int>("a")));
  if (space.holds<std::string>("a")) all.push_back(space.get<std::string>("a"));
  return all;
}

class ContainersKill : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  }

  /// On what `make` made anew each time: `change(it, 1)` is killed, then `change(it, 2)`; a sample
  /// of the instructions of both. Whether each happened may be either; nothing else may be. Then
  /// `change(it, 3)` must work.
  template <class Container>
  static void kill_twice(const std::function<Container()>& make,
                         const std::function<void(Container&, int)>& change) {
    using State = decltype(contents(make()));
    // What may be: of the changes in `which`, in order, made on a fresh one.
    const auto after = [&](std::initializer_list<int> which) {
      auto it = make();
      for (const int by : which) change(it, by);
      return contents(it);
    };
    const std::vector<State> legal{after({}), after({1}), after({2}), after({1, 2})};
    const std::vector<State> last{after({3}), after({1, 3}), after({2, 3}), after({1, 2, 3})};
    const Footing before = Footing::now();
    std::uint64_t all = 0;
    {
      auto it = make();
      SteppedMember child([&] { change(it, 1); });
      while (child.steps().step()) continue;
      all = child.steps().steps();
    }
    std::uint64_t kills = 0;
    std::array<std::uint64_t, 4> seen{};
    const auto check = [&](Container& it) {
      const State now = contents(it);
      const auto found = std::ranges::find(legal, now);
      ASSERT_NE(found, legal.end()) << "it is neither what it was before nor after";
      const auto which = static_cast<std::size_t>(found - legal.begin());
      ++seen[which];
      change(it, 3);
      ASSERT_EQ(contents(it), last[which]);
      ++kills;
    };
    // The last instructions are what comes after the commit.
    std::vector<std::uint64_t> points{all, all - 8, all - 16, all - 24};
    const std::uint64_t samples = prove_everything() ? all + 1 : 7;
    const std::uint64_t second_samples = prove_everything() ? 6 : 1;
    for (std::uint64_t point = 0; point < all; point += 1 + all / samples) points.push_back(point);
    for (const std::uint64_t first : points) {
      {
        auto it = make();
        {
          SteppedMember([&] { change(it, 1); }).steps().step(first);
        }
        check(it);
      }
      ASSERT_EQ(Footing::now(), before) << "killed after instruction " << first << " of " << all;
      for (std::uint64_t second = first % (all / 2); second <= all;
           second += 1 + all / second_samples) {
        {
          auto it = make();
          {
            // The watchdog comes late, as it may.
            SteppedMember one([&] { change(it, 1); });
            one.steps().step(first);
            one.steps().kill();
            SteppedMember two([&] { change(it, 2); });
            two.steps().step(second);
            two.steps().kill();
            check(it);
          }
        }
        ASSERT_EQ(Footing::now(), before)
            << "killed after instruction " << first << " of " << all << ", then after " << second;
        ASSERT_FALSE(HasFailure())
            << "killed after instruction " << first << " of " << all << ", then after " << second;
      }
    }
    std::printf("%llu instructions, %llu killed\n", static_cast<unsigned long long>(all),
                static_cast<unsigned long long>(kills));
    EXPECT_GT(kills, 15U);
    EXPECT_GT(seen[0], 0U);
    EXPECT_GT(seen[1] + seen[3], 0U) << "no kill came after the commit";
  }

  /// The same for what ends an object: `prepare` makes it in the child, whose `operation` is killed
  /// everywhere; nothing is left of it, also if who cleans up is killed in that.
  static void kill_at_the_end(const std::function<void()>& prepare,
                              const std::function<void()>& operation) {
    const Footing before = Footing::now();
    std::uint64_t all = 0;
    {
      SteppedMember child(prepare, operation);
      while (child.steps().step()) continue;
      all = child.steps().steps();
    }
    std::uint64_t kills = 0;
    const std::uint64_t samples = prove_everything() ? all + 1 : 10;
    for (std::uint64_t first = 0; first <= all; first += 1 + all / samples) {
      {
        SteppedMember child(prepare, operation);
        child.steps().step(first);
        child.steps().kill();
        auto& family = *detail::Family::require();
        SteppedMember cleaner([&] { family.objects().release_all(child.tag(), family.self()); });
        cleaner.steps().step(7 * first % 3001);
        ++kills;
      }
      ASSERT_EQ(Footing::now(), before) << "killed after instruction " << first << " of " << all;
    }
    std::printf("%llu instructions, %llu killed\n", static_cast<unsigned long long>(all),
                static_cast<unsigned long long>(kills));
  }
};

using Numbers = Dict<int, int>;
using Texts = Dict<std::string, std::string>;

Numbers numbers(int count) {
  Numbers dict;
  for (int i = 0; i != count; ++i) dict[-i] = i;
  return dict;
}
Texts texts() {
  return Texts{{"a", text(10)}, {"b", "short"}, {text(11), text(12)}, {"d", text(13)}};
}
List<std::string> words() { return {text(20), "short", text(21), "z", text(22)}; }

TEST_F(ContainersKill, ANewKey) {
  kill_twice<Numbers>([] { return numbers(3); },
                      [](Numbers& dict, int by) { dict.insert_or_assign(by, by); });
}
TEST_F(ContainersKill, ANewKeyThatNeedsALargerTable) {
  kill_twice<Numbers>([] { return numbers(8); },
                      [](Numbers& dict, int by) { dict.insert_or_assign(by, by); });
}
TEST_F(ContainersKill, AValueOfOneWord) {
  kill_twice<Numbers>([] { return numbers(3); },
                      [](Numbers& dict, int by) { dict.insert_or_assign(-1, -by); });
}
TEST_F(ContainersKill, AValueOfManyWords) {
  kill_twice<Dict<int, Wide>>(
      [] {
        return Dict<int, Wide>{{1, Wide::of(0)}, {2, Wide::of(9)}};
      },
      [](Dict<int, Wide>& dict, int by) { dict.insert_or_assign(1, Wide::of(by)); });
}
TEST_F(ContainersKill, AnUpdate) {
  kill_twice<Numbers>(
      [] { return numbers(3); },
      [](Numbers& dict, int by) { dict.update(-1, [&](int& n) { n = 10 * n + by; }); });
}
TEST_F(ContainersKill, AnErasedKey) {
  kill_twice<Numbers>([] { return numbers(5); }, [](Numbers& dict, int by) { dict.erase(-by); });
}
TEST_F(ContainersKill, ANewKeyAndItsValueInBlocks) {
  kill_twice<Texts>(texts, [](Texts& dict, int by) { dict.insert_or_assign(text(by), text(by)); });
}
TEST_F(ContainersKill, AValueInABlock) {
  kill_twice<Texts>(
      texts, [](Texts& dict, int by) { dict.insert_or_assign("a", by == 2 ? "2" : text(by)); });
}
TEST_F(ContainersKill, AnErasedKeyAndItsValueInBlocks) {
  kill_twice<Texts>(texts, [](Texts& dict, int by) {
    dict.pop(by == 1 ? text(11) : by == 2 ? "b" : "d");
  });
}
TEST_F(ContainersKill, TheLastKey) {
  kill_twice<Texts>(texts, [](Texts& dict, int) { dict.popitem(); });
}
TEST_F(ContainersKill, AllKeys) {
  kill_twice<Texts>(texts, [](Texts& dict, int by) {
    if (by == 1) return dict.clear();
    dict.insert_or_assign("a", text(by));
  });
}
// The dictionary holds the list, and does not when it is gone; a Footing counts both.
TEST_F(ContainersKill, AContainerInAContainer) {
  using Lists = Dict<int, List<int>>;
  kill_twice<Lists>(
      [] {
        return Lists{{0, List<int>{1, 2}}, {1, List<int>{3}}};
      },
      [](Lists& dict, int by) {
        if (by == 3) return static_cast<void>(dict.erase(1));
        dict.insert_or_assign(by, List<int>{by, by});
      });
}

TEST_F(ContainersKill, AValueAtTheEnd) {
  kill_twice<List<std::string>>(words,
                                [](List<std::string>& list, int by) { list.push_back(text(by)); });
}
TEST_F(ContainersKill, ANumberAtTheEndOfAFullList) {
  kill_twice<List<int>>([] { return List<int>{1, 2, 3, 4, 5, 6, 7, 8}; },
                        [](List<int>& list, int by) { list.push_back(-by); });
}
TEST_F(ContainersKill, TheLastValue) {
  kill_twice<List<std::string>>(words, [](List<std::string>& list, int) { list.pop_back(); });
}
TEST_F(ContainersKill, AValueOfAList) {
  kill_twice<List<std::string>>(words, [](List<std::string>& list, int by) {
    list[2 * (static_cast<std::size_t>(by) % 2)] = by == 1 ? "s" : text(by);
  });
}
TEST_F(ContainersKill, ManyValuesAtTheEnd) {
  kill_twice<List<std::string>>(words, [](List<std::string>& list, int by) {
    list.extend(std::vector<std::string>{text(by), "x", text(-by)});
  });
}
TEST_F(ContainersKill, AValueInTheMiddle) {
  kill_twice<List<std::string>>(words,
                                [](List<std::string>& list, int by) { list.insert(2, text(by)); });
}
TEST_F(ContainersKill, ErasedValues) {
  kill_twice<List<std::string>>(words, [](List<std::string>& list, int by) {
    if (by == 3) return list.erase(0, 1);
    list.erase(static_cast<std::size_t>(by) - 1, static_cast<std::size_t>(by) + 1);
  });
}
TEST_F(ContainersKill, TheOrder) {
  kill_twice<List<std::string>>(words, [](List<std::string>& list, int by) {
    if (by == 1) return list.sort();
    list.reverse();
  });
}
TEST_F(ContainersKill, AllValues) {
  kill_twice<List<std::string>>(words, [](List<std::string>& list, int by) {
    if (by == 1) return list.clear();
    list.assign({text(by), "n"});
  });
}

TEST_F(ContainersKill, AValueOfASet) {
  kill_twice<Set<std::string>>(
      [] {
        return Set<std::string>{"a", text(3), "b"};
      },
      [](Set<std::string>& set, int by) {
        if (by != 2) set.insert(text(-by));
        if (by != 1) set.erase(text(3));
      });
}
TEST_F(ContainersKill, AnAttribute) {
  kill_twice<Namespace>(
      [] {
        Namespace space;
        space.set("a", 3);
        return space;
      },
      [](Namespace& space, int by) {
        if (by == 1) return space.set("a", text(1));
        if (by == 2) return space.set("a", 7);
        space.erase("a");
      });
}

TEST_F(ContainersKill, TheEndOfAContainer) {
  static std::optional<Dict<std::string, List<std::string>>> dict;
  kill_at_the_end(
      [] {
        dict.emplace();
        (*dict)["x"] = words();
        (*dict)[text(1)] = words();
      },
      [] { dict.reset(); });
}
TEST_F(ContainersKill, TheBeginningOfAContainer) {
  static std::optional<Texts> dict;
  kill_at_the_end([] {}, [] { dict.emplace(texts()); });
}

}  // namespace
}  // namespace brood::containers_kill_test
