// Not for ThreadSanitizer: one thread.
#include <brood/channel/codec.hpp>

#include <gtest/gtest.h>

#include <any>
#include <array>
#include <atomic>
#include <bitset>
#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <queue>
#include <set>
#include <span>
#include <stack>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "round_trip.hpp"

struct Colour {  // no aggregate: its bytes cross because the user says so
  explicit Colour(int value) : rgb(value) {}
  int rgb;
  friend bool operator==(const Colour&, const Colour&) = default;
};
template <>
inline constexpr bool brood::enable_bytewise<Colour> = true;

namespace brood::detail::codec_test {
namespace {

enum class Kind : std::uint16_t { small = 1, large = 60000 };

struct Sighting {
  std::string species;
  std::vector<double> weights;
  std::map<std::string, int> places;
  std::optional<int> ring;
  friend bool operator==(const Sighting&, const Sighting&) = default;
};

struct Record {  // as C libraries have them
  char name[32];
  int grid[2][3];
  bool flags[3];
  double weight;
};

struct Flagged {
  int number;
  bool flag;
  friend bool operator==(const Flagged&, const Flagged&) = default;
};

struct Mixed {
  std::string words[2];
  std::array<std::string, 2> more;
  std::unique_ptr<int> owned;
  Kind kind;
};

struct Tree {
  int value = 0;
  std::vector<Tree> children;
  std::unique_ptr<Tree> next;
};

struct Ring {
  int value = 0;
  std::shared_ptr<Ring> next;
};

struct Constant {
  const int number;
  const std::string text;
};

struct WithoutDefault {
  Colour colour;
  std::string name;
};

template <class T>
void expect_same(const T& value) {
  EXPECT_TRUE(round_trip(value) == value);  // not all of these types can be printed
}

TEST(Codec, NumbersCrossAsTheyAre) {
  expect_same(true);
  expect_same('x');
  expect_same(std::numeric_limits<std::int64_t>::min());
  expect_same(-0.5F);
  expect_same(std::numeric_limits<double>::infinity());
  expect_same(Kind::large);
  EXPECT_EQ(encoded(std::int64_t{7}).size(), 8U);
}

TEST(Codec, TextOfAllCharacterTypesCrosses) {
  expect_same(std::string());
  expect_same(std::string("a\0b", 3));
  expect_same(std::string(100000, 'x'));
  expect_same(std::wstring(L"wide"));
  expect_same(std::u8string(u8"\u00e9"));
  expect_same(std::u16string(u"sixteen"));
  expect_same(std::u32string(U"thirty-two"));
}

TEST(Codec, SequencesCross) {
  expect_same(std::vector<int>{});
  expect_same(std::vector<int>(10000, -3));
  expect_same(std::vector<std::string>{"a", "", "c"});
  expect_same(std::vector<std::vector<short>>{{1}, {}, {2, 3}});
  expect_same(std::vector<Kind>{Kind::small, Kind::large});
  expect_same(std::deque<std::string>{"a", "b"});
  expect_same(std::list<double>{1, 2, 3});
  expect_same(std::forward_list<std::string>{"a", "b"});
  expect_same(std::array<double, 3>{1, 2, 3});
  expect_same(std::array<std::string, 2>{"a", "b"});
  expect_same(std::array<int, 0>{});
}

// Behind texts of all lengths, so that the array comes to stand at every offset; and read from
// memory at every offset, where it cannot be read in one piece.
TEST(Codec, LargeArraysCrossWhereverTheyStand) {
  std::vector<double> numbers(40'000);
  std::iota(numbers.begin(), numbers.end(), 0.5);
  const std::vector<Flagged> flagged(20'000, Flagged{.number = 7, .flag = true});
  const std::u32string wide(30'000, U'\u00e9');
  const std::string text(100'000, 'x');
  for (std::size_t before = 0; before != 17; ++before) {
    const std::tuple value(std::string(before, 'b'), numbers, flagged, wide, text, 12345);
    ASSERT_EQ(round_trip(value), value) << before;
    std::vector<std::byte> bytes = encoded(value);
    bytes.insert(bytes.begin(), before, std::byte{});
    ByteSource source(std::span<const std::byte>(bytes).subspan(before));
    ASSERT_EQ(decode<std::remove_cv_t<decltype(value)>>(source), value) << before;
  }
}

TEST(Codec, LargeArraysThatAreDamagedAreRefused) {
  const std::vector<std::byte> whole = encoded(std::vector<double>(10'000, 1.0));
  const std::size_t padding = 9;  // behind a size of nine bytes
  for (const unsigned byte : {8U, 15U, 255U}) {
    std::vector<std::byte> bytes = whole;
    bytes.at(padding) = static_cast<std::byte>(byte);
    ByteSource source(bytes);
    EXPECT_THROW(decode<std::vector<double>>(source), DecodeError) << byte;
  }
  for (const std::size_t left : {9U, 10U, 12U, 40'000U, 80'009U}) {
    ByteSource source(std::span<const std::byte>(whole).first(left));
    EXPECT_THROW(decode<std::vector<double>>(source), DecodeError) << left;
  }
  std::vector<std::byte> flags = encoded(std::vector<Flagged>(20'000, Flagged{}));
  flags.at(flags.size() - sizeof(Flagged) + offsetof(Flagged, flag)) = std::byte{2};
  ByteSource source(flags);
  EXPECT_THROW(decode<std::vector<Flagged>>(source), DecodeError);
}

TEST(Codec, VectorsOfBoolCrossAtAnySize) {
  for (std::size_t size = 0; size < 40; ++size) {
    std::vector<bool> bits(size);
    for (std::size_t i = 0; i < size; i += 3) bits[i] = true;
    expect_same(bits);
  }
}

TEST(Codec, ElementsWithoutBytesAreCounted) {
  EXPECT_EQ(round_trip(std::vector<std::monostate>(1000)).size(), 1000U);
  EXPECT_EQ(round_trip(std::list<std::tuple<>>(7)).size(), 7U);
  EXPECT_EQ(encoded(std::monostate()).size(), 0U);
}

TEST(Codec, ContainersWithKeysCross) {
  expect_same(std::set<std::string>{"b", "a"});
  expect_same(std::multiset<int>{3, 1, 3});
  expect_same(std::map<int, std::string>{{1, "a"}, {2, "b"}});
  expect_same(std::map<std::string, std::map<int, double>>{{"x", {{1, 2.0}}}});
  expect_same(std::multimap<int, char>{{1, 'b'}, {1, 'a'}, {0, 'c'}});
  expect_same(std::unordered_set<int>{1, 2, 3});
  expect_same(std::unordered_multiset<int>{1, 1, 3});
  expect_same(std::unordered_map<std::string, int>{{"a", 1}, {"b", 2}});
  expect_same(std::unordered_multimap<int, int>{{1, 2}, {1, 3}});
  expect_same(std::map<int, int, std::greater<>>{{1, 2}, {3, 4}});
}

TEST(Codec, StacksAndQueuesCross) {
  expect_same(std::stack<int>(std::deque<int>{1, 2}));
  expect_same(std::queue<std::string>(std::deque<std::string>{"a", "b"}));
  std::priority_queue<int> heap(std::less<int>(), std::vector<int>{3, 9, 4});
  std::priority_queue<int> copy = round_trip(heap);
  for (; !heap.empty(); heap.pop(), copy.pop()) EXPECT_EQ(copy.top(), heap.top());
  EXPECT_TRUE(copy.empty());
}

TEST(Codec, SmallStandardTypesCross) {
  expect_same(std::pair<int, std::string>{1, "one"});
  expect_same(std::tuple<int, std::string, std::vector<int>>{1, "one", {1}});
  expect_same(std::optional<std::string>());
  expect_same(std::optional<std::string>("x"));
  expect_same(std::variant<int, std::string>(3));
  expect_same(std::variant<int, std::string>("three"));
  expect_same(std::variant<std::monostate, int>());
  expect_same(std::bitset<3>("101"));
  expect_same(std::bitset<200>("110011").flip());
  expect_same(std::complex<double>(1, -1));
  expect_same(std::chrono::milliseconds(50));
  expect_same(std::chrono::system_clock::now());
  expect_same(std::filesystem::path("/a/b c"));
}

TEST(Codec, UniquePointersCrossWithWhatTheyOwn) {
  EXPECT_EQ(round_trip(std::unique_ptr<int>()), nullptr);
  EXPECT_EQ(*round_trip(std::make_unique<std::string>("owned")), "owned");
  std::vector<std::unique_ptr<int>> owners;
  owners.push_back(std::make_unique<int>(1));
  owners.push_back(nullptr);
  const auto copy = round_trip(owners);
  ASSERT_EQ(copy.size(), 2U);
  EXPECT_EQ(*copy[0], 1);
  EXPECT_EQ(copy[1], nullptr);
}

TEST(Codec, SharedObjectsArriveShared) {
  const auto one = std::make_shared<std::string>("one");
  const std::vector<std::shared_ptr<std::string>> pointers{one, nullptr, one,
                                                           std::make_shared<std::string>("two")};
  const auto copy = round_trip(pointers);
  ASSERT_EQ(copy.size(), 4U);
  EXPECT_EQ(*copy[0], "one");
  EXPECT_EQ(copy[0], copy[2]);
  EXPECT_EQ(copy[1], nullptr);
  EXPECT_EQ(*copy[3], "two");
}

TEST(Codec, ObjectAndItsFirstMemberAreNotTakenForTheSame) {
  struct Pair {
    int first, second;
  };
  const auto whole = std::make_shared<Pair>(Pair{1, 2});
  const std::shared_ptr<int> part(whole, &whole->first);
  const auto copy = round_trip(std::tuple(whole, part));
  EXPECT_EQ(std::get<0>(copy)->second, 2);
  EXPECT_EQ(*std::get<1>(copy), 1);
}

TEST(Codec, ObjectsThatHoldThemselvesCross) {
  const auto ring = std::make_shared<Ring>();
  ring->value = 5;
  ring->next = ring;
  const auto copy = round_trip(ring);
  EXPECT_EQ(copy->value, 5);
  EXPECT_EQ(copy->next, copy);
  ring->next.reset();
  copy->next.reset();
}

TEST(Codec, WeakPointersCrossAsWhatTheyPointTo) {
  const auto owner = std::make_shared<int>(3);
  const auto copy = round_trip(std::tuple(owner, std::weak_ptr<int>(owner), std::weak_ptr<int>()));
  EXPECT_EQ(std::get<1>(copy).lock(), std::get<0>(copy));
  EXPECT_TRUE(std::get<2>(copy).expired());
}

TEST(Codec, AggregatesCrossFieldByField) {
  const Sighting wren{"wren", {9.0, 11.0}, {{"garden", 2}}, 7};
  expect_same(wren);
  expect_same(std::vector<Sighting>{wren, {}, wren});
  expect_same(std::map<int, std::vector<Sighting>>{{1, {wren}}});
}

TEST(Codec, AggregatesOfNumbersAreOneCopyOfMemory) {
  static_assert(is_bytewise<Record> && !is_bytewise<Sighting> && !is_bytewise<Mixed>);
  Record record{"name", {{1, 2, 3}, {4, 5, 6}}, {true, false, true}, 2.5};
  EXPECT_EQ(encoded(record).size(), sizeof(Record));
  const Record copy = round_trip(record);
  EXPECT_STREQ(copy.name, "name");
  EXPECT_EQ(copy.grid[1][2], 6);
  EXPECT_TRUE(copy.flags[2]);
  EXPECT_EQ(copy.weight, 2.5);
  EXPECT_EQ(round_trip(std::vector<Record>(500, record))[499].grid[1][2], 6);
}

TEST(Codec, AggregatesWithArraysOfObjectsCross) {
  const Mixed copy =
      round_trip(Mixed{{"a", "b"}, {"c", "d"}, std::make_unique<int>(5), Kind::small});
  EXPECT_EQ(copy.words[1], "b");
  EXPECT_EQ(copy.more[0], "c");
  EXPECT_EQ(*copy.owned, 5);
  EXPECT_EQ(copy.kind, Kind::small);
}

TEST(Codec, RecursiveAggregatesCross) {
  Tree tree{1, {}, nullptr};
  tree.children.push_back(Tree{2, {}, std::make_unique<Tree>(Tree{3, {}, nullptr})});
  EXPECT_EQ(round_trip(tree).children.at(0).next->value, 3);
}

TEST(Codec, ConstantFieldsAndClassesWithoutDefaultConstructorCross) {
  const Constant constant = round_trip(Constant{4, "text"});
  EXPECT_EQ(constant.number, 4);
  EXPECT_EQ(constant.text, "text");
  const WithoutDefault copy = round_trip(WithoutDefault{Colour(0x00ff00), "green"});
  EXPECT_EQ(copy.colour.rgb, 0x00ff00);
  EXPECT_EQ(copy.name, "green");
  expect_same(std::vector<Colour>(3, Colour(7)));
}

TEST(Codec, StatelessObjectsTakeNoBytes) {
  const auto twice = [](int n) { return 2 * n; };
  EXPECT_EQ(encoded(twice).size(), 0U);
  EXPECT_EQ(round_trip(twice)(4), 8);
  EXPECT_EQ(encoded(std::less<>()).size(), 0U);
}

TEST(Codec, SmallSizesTakeOneByte) {
  EXPECT_EQ(encoded(std::string(254, 'x')).size(), 255U);
  EXPECT_EQ(encoded(std::string(255, 'x')).size(), 264U);
}

TEST(Codec, ValuesFollowEachOther) {
  VectorSink sink;
  encode(sink, std::string("a"));
  encode(sink, 5);
  EXPECT_EQ(sink.written(), 2 + sizeof(int));
  ByteSource source(sink.bytes());
  EXPECT_EQ(decode<std::string>(source), "a");
  EXPECT_EQ(source.remaining(), sizeof(int));
  EXPECT_EQ(decode<int>(source), 5);
  EXPECT_EQ(source.position(), sink.written());
  sink.clear();
  EXPECT_EQ(sink.written(), 0U);
}

TEST(Codec, WhatCannotCrossIsNotSendable) {
  static_assert(Sendable<Sighting> && Sendable<const Sighting> && Sendable<Tree>);
  static_assert(!Sendable<int*> && !Sendable<const char*> && !Sendable<int&>);
  static_assert(!Sendable<std::string_view> && !Sendable<std::span<int>>);
  static_assert(!Sendable<std::function<void()>> && !Sendable<std::thread> &&
                !Sendable<std::mutex>);
  static_assert(!Sendable<std::vector<int*>> && !Sendable<std::tuple<int, std::string_view>>);
  static_assert(!Sendable<std::unique_ptr<int[]>> && !Sendable<std::reference_wrapper<int>>);
  static_assert(!Sendable<std::atomic<int>> && !Sendable<std::any> &&
                !Sendable<std::pair<int, int&>>);
  struct HasPointer {
    std::string name;
    std::map<int, std::vector<const double*>> data;
  };
  struct HasReference {
    int& number;
  };
  struct Derived : Sighting {
    int more;
  };
  static_assert(!Sendable<HasPointer> && !Sendable<HasReference> && !Sendable<Derived>);
  int captured = 3;
  const auto lambda = [captured] { return captured; };
  static_assert(!Sendable<decltype(lambda)>);
  EXPECT_EQ(lambda(), 3);
}

}  // namespace
}  // namespace brood::detail::codec_test
