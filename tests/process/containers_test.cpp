// Dict, List, Set and Namespace: what they do, in one process and in several, under every start
// method. Names in comments are those of Python's tests from which a behaviour comes.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <brood/dict.hpp>
#include <brood/list.hpp>
#include <brood/namespace.hpp>
#include <brood/process.hpp>
#include <brood/process/family.hpp>
#include <brood/queue.hpp>
#include <brood/set.hpp>
#include <brood/value.hpp>

#include "support/eventually.hpp"
#include "support/no_memory.hpp"
#include "support/proof.hpp"
#include "support/sanitizers.hpp"
#include "support/shared_objects.hpp"
#include "support/single_step.hpp"
#include "support/start_methods.hpp"

namespace brood::containers_test {
namespace {

using testing::eventually;
using testing::shared_objects;

using Texts = Dict<std::string, std::string>;
using Words = std::vector<std::string>;

std::string text(int n) { return std::string(40, 'x') + std::to_string(n); }
detail::Family& family() { return *detail::Family::require(); }
std::size_t shared_bytes() { return detail::Heap::measure(family().segment()).shared; }

/// Whatever a test made is gone when it ends, blocks and objects.
class Conserved {
 public:
  [[nodiscard]] bool holds() const {
    return eventually([this] { return shared_bytes() == shared_ && shared_objects() == objects_; });
  }

 private:
  std::size_t shared_ = shared_bytes();
  std::size_t objects_ = shared_objects();
};
class Containers : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(conserved_.holds()) << shared_bytes() << " bytes"; }
  Conserved conserved_;
};

// --- Dict ----------------------------------------------------------------------------------------

// _TestContainers.test_dict, test_dict_isinstance, test_dict_iter; TestSyncManagerTypes.test_dict
TEST_F(Containers, ADictDoesWhatPythonsDoes) {
  Dict<std::string, int> dict{{"a", 1}, {"b", 2}};
  EXPECT_EQ(dict.size(), 2U);
  EXPECT_EQ(dict.at("a"), 1);
  EXPECT_EQ(dict.get("z"), std::nullopt);
  EXPECT_EQ(dict.get("z", 9), 9);
  EXPECT_TRUE(dict.contains("b"));
  EXPECT_EQ(dict.count("z"), 0U);
  dict["c"] = 3;
  const int c = dict["c"];
  EXPECT_EQ(c, 3);
  EXPECT_EQ(dict["c"], 3);
  dict["d"] = dict["c"];
  dict["c"] += 4;
  ++dict["new"];
  EXPECT_EQ(dict.keys(), (Words{"a", "b", "c", "d", "new"})) << "as they came";
  EXPECT_EQ(dict.values(), (std::vector<int>{1, 2, 7, 3, 1}));
  EXPECT_EQ(dict.setdefault("a", 5), 1);
  EXPECT_EQ(dict.setdefault("e", 5), 5);
  EXPECT_TRUE(dict.try_emplace("f", 6));
  EXPECT_FALSE(dict.try_emplace("f", 7));
  EXPECT_FALSE(dict.insert({"f", 8}));
  EXPECT_FALSE(dict.insert_or_assign("f", 9));
  EXPECT_EQ(dict.pop("f"), 9);
  EXPECT_EQ(dict.pop("f"), std::nullopt);
  EXPECT_EQ(dict.popitem(), (std::pair<std::string, int>("e", 5)));
  EXPECT_TRUE(dict.erase("b"));
  EXPECT_FALSE(dict.erase("b"));
  dict.update(std::map<std::string, int>{{"a", 10}, {"y", 20}});
  dict.update({{"z", 30}});
  const auto copy = dict.copy();
  EXPECT_FALSE(copy == dict);
  const std::map<std::string, int> all(dict.begin(), dict.end());
  EXPECT_EQ(all, (std::map<std::string, int>{
                     {"a", 10}, {"c", 7}, {"d", 3}, {"new", 1}, {"y", 20}, {"z", 30}}));
  dict.clear();
  EXPECT_TRUE(dict.empty());
  EXPECT_EQ(dict.begin(), dict.end());
  EXPECT_EQ(dict.popitem(), std::nullopt);
  EXPECT_EQ(copy.size(), 6U);
}

TEST_F(Containers, AMissingKeyIsSaid) {
  const Dict<std::string, int> dict;
  try {
    static_cast<void>(dict.at("wanted"));
    FAIL();
  } catch (const std::out_of_range& e) {
    EXPECT_NE(std::string(e.what()).find("'wanted'"), std::string::npos) << e.what();
  }
  EXPECT_THROW(static_cast<void>(static_cast<int>(dict["x"])), std::out_of_range);
  EXPECT_TRUE(dict.empty()) << "to look is not to insert";
}

TEST_F(Containers, AnUpdateIsOneStep) {
  Dict<int, std::string> dict;
  dict.update(1, [](std::string& value) { value += "a"; });
  EXPECT_EQ(dict.update(1, [](std::string& value) { return (value += text(1)).size(); }), 42U);
  dict.update(1, [](std::optional<std::string>& value) { value.reset(); });
  EXPECT_FALSE(dict.contains(1));
  dict.update(2, [](std::optional<std::string>& value) { EXPECT_FALSE(value); });
  EXPECT_TRUE(dict.empty());
  dict[3] = "kept";
  const auto fail = [](std::string& value) {
    value = "lost";
    throw std::runtime_error("no");
  };
  EXPECT_THROW(dict.update(3, fail), std::runtime_error);
  EXPECT_THROW(dict.update(4, fail), std::runtime_error);
  EXPECT_EQ(dict.items(), (std::vector<std::pair<int, std::string>>{{3, "kept"}}));
  EXPECT_THROW(dict.update(3, [&](std::string&) { dict.clear(); }), StateError);
  EXPECT_EQ(dict.at(3), "kept");
}

struct Padded {
  char kind;
  double size;
  friend bool operator==(const Padded&, const Padded&) = default;
};

TEST_F(Containers, EqualKeysAreOneKey) {
  Dict<double, int> numbers;
  numbers[0.0] = 1;
  numbers[-0.0] += 1;
  EXPECT_EQ(numbers.size(), 1U);
  Dict<Padded, int> padded;
  std::array<unsigned char, sizeof(Padded)> noise{};
  for (const unsigned char fill : std::array<unsigned char, 3>{0, 85, 255}) {
    noise.fill(fill);
    auto* const key = new (noise.data()) Padded;
    key->kind = 'k';
    key->size = fill == 0 ? 0.0 : -0.0;
    padded[*key] += 1;
  }
  EXPECT_EQ(padded.items(), (std::vector<std::pair<Padded, int>>{{{'k', 0.0}, 3}}));
  Dict<std::string, std::size_t> texts;
  for (const std::size_t size : {0U, 1U, 21U, 22U, 23U, 24U, 63U, 64U, 65U, 255U, 1000U}) {
    texts[std::string(size, '\0')] = size;
    texts[std::string(size, 'a')] = size;
  }
  EXPECT_EQ(texts.size(), 21U) << "the empty one is one";
  for (const auto& [key, size] : texts) {
    EXPECT_EQ(key.size(), size);
    EXPECT_EQ(texts.at(key), size);
  }
  Dict<std::pair<int, std::string>, int> pairs;
  pairs[{1, "x"}] = 1;
  EXPECT_EQ(pairs.at({1, "x"}), 1);
  EXPECT_FALSE(pairs.contains({2, "x"}));
}

template <class K, class V, class NextKey, class NextValue>
void compare_with_the_standards(NextKey next_key, NextValue next_value, int steps) {
  Dict<K, V> dict;
  std::unordered_map<K, V> map;
  std::mt19937 random(7);
  for (int i = 0; i != steps; ++i) {
    const K key = next_key(random);
    switch (random() % 8) {
      case 0:
        EXPECT_EQ(dict.erase(key), map.erase(key) != 0);
        break;
      case 1: {
        const auto found = map.find(key);
        EXPECT_EQ(dict.find(key), found == map.end() ? std::nullopt : std::optional(found->second));
        break;
      }
      case 2:
        if (const auto item = dict.popitem()) {
          EXPECT_EQ(map.erase(item->first), 1U);
        }
        break;
      case 3:
        if (random() % 400 != 0) break;
        dict.clear();
        map.clear();
        break;
      default: {
        const V value = next_value(random);
        EXPECT_EQ(dict.insert_or_assign(key, value), map.insert_or_assign(key, value).second);
      }
    }
    ASSERT_EQ(dict.size(), map.size());
  }
  EXPECT_EQ((std::unordered_map<K, V>(dict.begin(), dict.end())), map);
}

TEST_F(Containers, ADictIsAnUnorderedMap) {
  compare_with_the_standards<int, long>([](auto& random) { return int(random() % 3000); },
                                        [](auto& random) { return long(random()); }, 30'000);
  const auto any_text = [](auto& random) {
    return std::string(random() % 60, char('a' + random() % 26));
  };
  compare_with_the_standards<std::string, std::string>(any_text, any_text, 10'000);
}

// --- List ----------------------------------------------------------------------------------------

// _TestContainers.test_list, test_list_isinstance, test_list_iter; TestSyncManagerTypes.test_list
TEST_F(Containers, AListDoesWhatPythonsDoes) {
  List<std::string> list{"c", "a"};
  list.push_back(text(1));
  list.append("b");
  EXPECT_EQ(list.size(), 4U);
  EXPECT_EQ(list.front(), "c");
  EXPECT_EQ(list.back(), "b");
  EXPECT_EQ(list[2], text(1));
  list[2] = "d";
  list[2] += "e";
  EXPECT_EQ(list.values(), (Words{"c", "a", "de", "b"}));
  list.insert(1, "new");
  list.insert(100, "end");
  list.insert(0, Words{"0", text(0)});
  EXPECT_EQ(list.values(), (Words{"0", text(0), "c", "new", "a", "de", "b", "end"}));
  EXPECT_EQ(list.slice(2, 4), (Words{"c", "new"}));
  EXPECT_EQ(list.slice(7, 100), Words{"end"});
  EXPECT_EQ(list.index("a"), 4U);
  EXPECT_EQ(list.index("a", 5), std::nullopt);
  EXPECT_EQ(list.count("a"), 1U);
  EXPECT_FALSE(list.contains("z"));
  list.erase(1);
  list.erase(0, 2);
  EXPECT_TRUE(list.remove("a"));
  EXPECT_FALSE(list.remove("a"));
  EXPECT_EQ(list.values(), (Words{"new", "de", "b", "end"}));
  list.sort();
  EXPECT_EQ(list.values(), (Words{"b", "de", "end", "new"}));
  list.reverse();
  list.swap(0, 3);
  EXPECT_EQ(list.values(), (Words{"b", "end", "de", "new"}));
  EXPECT_EQ(list.pop(), "new");
  EXPECT_EQ(list.pop(0), "b");
  EXPECT_EQ(list.pop_back(), "de");
  list.extend({"x", text(2), "y"});
  EXPECT_EQ(list.erase_if([](const std::string& s) { return s.size() == 1; }), 2U);
  EXPECT_EQ(list.values(), (Words{"end", text(2)}));
  list.resize(4, "r");
  list.resize(3);
  EXPECT_EQ(list.values(), (Words{"end", text(2), "r"}));
  list.assign({text(3), "a"});
  const auto copy = list.copy();
  list.clear();
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(Words(copy.begin(), copy.end()), (Words{text(3), "a"}));
}

TEST_F(Containers, AnIndexBeyondTheEndIsSaid) {
  const List<int> list{1, 2, 3};
  EXPECT_THROW(static_cast<void>(list.at(3)), std::out_of_range);
  EXPECT_THROW(static_cast<void>(list.at(static_cast<std::size_t>(-1))), std::out_of_range);
  EXPECT_THROW(list[3] = 1, std::out_of_range);
  EXPECT_THROW(list.set(3, 1), std::out_of_range);
  EXPECT_THROW(list.erase(3), std::out_of_range);
  EXPECT_THROW(list.pop(3), std::out_of_range);
  EXPECT_THROW(list.swap(0, 3), std::out_of_range);
  EXPECT_THROW(list.update(3, [](int&) {}), std::out_of_range);
  list.erase(1, 100);
  list.erase(5, 9);
  list.clear();
  EXPECT_THROW(list.pop(), std::out_of_range);
  EXPECT_THROW(static_cast<void>(list.back()), std::out_of_range);
}

TEST_F(Containers, AListIsAVector) {
  List<std::string> list;
  Words vector;
  std::mt19937 random(11);
  const auto any = [&] { return std::string(random() % 50, char('a' + random() % 26)); };
  for (int i = 0; i != 4000; ++i) {
    const std::size_t at = vector.empty() ? 0 : random() % vector.size();
    const auto it = vector.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random() % 10) {
      case 0:
        list.insert(at, any());
        vector.insert(it, list.at(at));
        break;
      case 1:
        if (vector.empty()) break;
        list.erase(at);
        vector.erase(it);
        break;
      case 2:
        if (vector.empty()) break;
        EXPECT_EQ(list.pop(), vector.back());
        vector.pop_back();
        break;
      case 3:
        if (vector.empty()) break;
        vector[at] = any();
        list[at] = vector[at];
        break;
      case 4:
        if (i % 50 == 0) list.sort(), std::ranges::sort(vector);
        break;
      case 5:
        list.reverse();
        std::ranges::reverse(vector);
        break;
      default:
        vector.push_back(any());
        list.push_back(vector.back());
    }
    ASSERT_EQ(list.size(), vector.size());
  }
  EXPECT_EQ(list.values(), vector);
  EXPECT_GT(vector.size(), 500U);
}

TEST_F(Containers, AComparisonThatThrowsLeavesTheListAsItWas) {
  List<std::string> list{"b", text(1), "a"};
  const auto fail = [](const std::string&, const std::string&) -> bool {
    throw std::runtime_error("no");
  };
  EXPECT_THROW(list.sort(fail), std::runtime_error);
  EXPECT_EQ(list.values(), (Words{"b", text(1), "a"}));
}

// --- Set, Namespace ------------------------------------------------------------------------------

// TestSyncManagerTypes.test_set, test_set_init, test_set_contain_all_method
TEST_F(Containers, ASetDoesWhatPythonsDoes) {
  Set<std::string> a{"1", "2", text(3)};
  const Set<std::string> b(Words{text(3), "4"});
  EXPECT_FALSE(a.insert("1"));
  EXPECT_TRUE(a.add("5"));
  EXPECT_TRUE(a.discard("5"));
  EXPECT_FALSE(a.erase("5"));
  EXPECT_THROW(a.remove("5"), std::out_of_range);
  EXPECT_EQ((a | b).values(), (Words{"1", "2", text(3), "4"}));
  EXPECT_EQ((a & b).values(), Words{text(3)});
  EXPECT_EQ((a - b).values(), (Words{"1", "2"}));
  EXPECT_EQ((a ^ b).values(), (Words{"1", "2", "4"}));
  EXPECT_TRUE((a & b).is_subset(b));
  EXPECT_TRUE(a.is_superset(a & b));
  EXPECT_TRUE((a - b).is_disjoint(b));
  EXPECT_TRUE(a.equals(a.copy()));
  EXPECT_FALSE(a == a.copy());
  a |= b;
  EXPECT_EQ(a.size(), 4U);
  a ^= b;
  EXPECT_EQ(a.values(), (Words{"1", "2"}));
  a &= Set<std::string>{"2"};
  a -= b;
  EXPECT_EQ(a.pop(), "2");
  EXPECT_EQ(a.pop(), std::nullopt);
  Set<int> numbers;
  for (int i = 0; i != 1000; ++i) numbers.insert(i * i);
  EXPECT_EQ(std::set<int>(numbers.begin(), numbers.end()).size(), 1000U);
  numbers.clear();
  EXPECT_TRUE(numbers.empty());
}

// _TestContainers.test_namespace; TestSyncManagerTypes.test_namespace
TEST_F(Containers, ANamespaceHasValuesOfAnyType) {
  const Namespace space;
  space.set("name", "Bob");
  space.set("age", 3);
  space.set("list", std::vector<std::string>{text(1), text(2)});
  EXPECT_EQ(space.get<std::string>("name"), "Bob");
  EXPECT_EQ(space.get<int>("age"), 3);
  EXPECT_EQ(space.get<Words>("list")[1], text(2));
  EXPECT_TRUE(space.holds<int>("age"));
  EXPECT_THROW(static_cast<void>(space.get<long>("age")), StateError);
  EXPECT_THROW(space.update<std::string>("age", [](std::string&) {}), StateError);
  EXPECT_THROW(static_cast<void>(space.get<int>("none")), std::out_of_range);
  EXPECT_EQ(space.get<int>("none", 4), 4);
  EXPECT_EQ(space.find<int>("none"), std::nullopt);
  space.update<int>("age", [](int& age) { ++age; });
  EXPECT_EQ(space.get<int>("age"), 4);
  space.set("age", text(4));
  EXPECT_EQ(space.get<std::string>("age"), text(4));
  EXPECT_TRUE(space.erase("name"));
  EXPECT_FALSE(space.contains("name"));
  EXPECT_EQ(space.names(), (Words{"age", "list"}));
  space.clear();
  EXPECT_EQ(space.size(), 0U);
}

// --- what holds for all --------------------------------------------------------------------------

// _TestContainers.test_list_proxy_in_list, test_dict_proxy_nested, test_nested_queue
TEST_F(Containers, ContainersHoldContainers) {
  List<List<int>> lists;
  for (int i = 0; i != 5; ++i) lists.push_back(List<int>{0, 1, 2});
  lists.at(0)[2] = 55;
  EXPECT_EQ(lists.at(0).values(), (std::vector<int>{0, 1, 55}));
  EXPECT_EQ(lists.at(1).pop(), 2);
  EXPECT_EQ(lists.at(1).size(), 2U);
  EXPECT_EQ(lists.at(4).size(), 3U);
  Dict<std::string, Dict<std::string, List<int>>> pets;
  pets["dogs"] = {};
  const auto dogs = pets.at("dogs");
  dogs["x"] = lists.at(0);
  EXPECT_EQ(pets.at("dogs").at("x").size(), 3U);
  pets.erase("dogs");
  EXPECT_EQ(dogs.at("x").back(), 55) << "lives with its last handle";
  Dict<int, Queue<std::string>> queues;
  queues[1] = Queue<std::string>(3);
  queues.at(1).put("in");
  EXPECT_EQ(queues.at(1).get(), "in");
  Set<List<int>> set{lists.at(0), lists.at(1), lists.at(0)};
  EXPECT_EQ(set.size(), 2U);
  EXPECT_TRUE(set.contains(dogs.at("x")));
  Namespace space;
  space.set("lists", std::vector<List<int>>{lists.at(2), lists.at(3)});
  lists.clear();
  EXPECT_EQ(space.get<std::vector<List<int>>>("lists")[1].size(), 3U);
}

struct Node {
  int number;
  List<Node> children;
};

TEST_F(Containers, ATreeIsHeldByItsRoot) {
  Node root{1, {}};
  root.children.push_back({2, {}});
  root.children.at(0).children.push_back({3, {}});
  root.children.at(0).children.push_back({4, {}});
  EXPECT_EQ(root.children.at(0).children.at(1).number, 4);
}

TEST_F(Containers, ASnapshotIsOfOneMoment) {
  List<int> list{1, 2, 3};
  std::vector<int> seen;
  for (const int n : list) {
    seen.push_back(n);
    list.push_back(n);
    list.erase(0);
  }
  EXPECT_EQ(seen, (std::vector<int>{1, 2, 3}));
}

TEST_F(Containers, HandlesCompareAndAreEmptyWhenMovedFrom) {
  Dict<int, int> a{{1, 1}};
  Dict<int, int> b;
  swap(a, b);
  EXPECT_EQ(b.at(1), 1);
  const Dict<int, int> c = b;
  EXPECT_EQ(c, b);
  EXPECT_EQ((std::hash<Dict<int, int>>()(c)), (std::hash<Dict<int, int>>()(b)));
  const Dict<int, int> d = std::move(b);
  EXPECT_THROW(b.clear(), StateError);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(d.size(), 1U);
}

TEST_F(Containers, FullMemoryChangesNothing) {
  Texts dict{{"a", text(1)}};
  List<std::string> list{"a", text(2)};
  List<int> numbers{1};
  const std::string large(20'000'000, 'x');
  {
    const testing::NoMemory none;
    EXPECT_THROW(dict.insert_or_assign("a", large), SharedMemoryFull);
    EXPECT_THROW(dict.insert_or_assign("b", large), SharedMemoryFull);
    EXPECT_THROW(dict.insert_or_assign(large, "b"), SharedMemoryFull);
    EXPECT_THROW(dict.update("a", [&](std::string& value) { value = large; }), SharedMemoryFull);
    EXPECT_THROW(dict.reserve(1'000'000), SharedMemoryFull);
    EXPECT_THROW(list.push_back(large), SharedMemoryFull);
    EXPECT_THROW(list.extend({"b", text(3), large}), SharedMemoryFull);
    EXPECT_THROW(list.insert(0, Words{"b", text(3), large}), SharedMemoryFull);
    EXPECT_THROW(numbers.extend(std::vector<int>(3'000'000)), SharedMemoryFull);
    EXPECT_EQ(dict.items(), (std::vector<std::pair<std::string, std::string>>{{"a", text(1)}}));
    EXPECT_EQ(list.values(), (Words{"a", text(2)}));
    EXPECT_EQ(numbers.values(), std::vector<int>{1});
  }
  dict["a"] = large;
  EXPECT_EQ(dict.at("a").size(), large.size());
}

/// The object's header, or the body behind it, as others could write over it.
template <class C>
detail::RecordsHeader& header_of(const C& container) {
  return *reinterpret_cast<detail::RecordsHeader*>(
      detail::HandleAccess::handle(container).payload().data());
}
template <class C>
detail::RecordsBody& body_of(const C& container) {
  return *reinterpret_cast<detail::RecordsBody*>(
      family().segment().at(header_of(container).body.load()));
}

TEST_F(Containers, DamagedBytesAreErrors) {
  Texts dict{{"a", text(1)}, {"b", "2"}};
  const auto damaged = [&](auto& word, auto value) {
    const auto before = word.load();
    word.store(value);
    EXPECT_THROW(static_cast<void>(dict.items()), DecodeError);
    EXPECT_THROW(dict["c"] = "", DecodeError);
    word.store(before);
    EXPECT_EQ(dict.size(), 2U);
  };
  constexpr std::uint64_t kMuch = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t at : {std::uint64_t{64}, std::uint64_t{1} << 50U, kMuch}) {
    damaged(header_of(dict).body, at);
  }
  auto& body = body_of(dict);
  damaged(body.counts, kMuch);
  damaged(body.counts, detail::RecordsBody::pack(9, 0));
  for (std::uint64_t* const number : {&body.capacity, &body.index_bits}) {
    const std::uint64_t before = std::exchange(*number, kMuch);
    EXPECT_THROW(static_cast<void>(dict.find("a")), DecodeError);
    *number = before;
  }
  // The value of the first record, a cell in a block.
  auto* const cell = reinterpret_cast<detail::SharedWord*>(&body + 1) + 1 + 3;
  for (const int word : {1, 2}) {
    const std::uint64_t before = cell[word].exchange(kMuch / 2);
    EXPECT_THROW(static_cast<void>(dict.at("a")), DecodeError);
    cell[word].store(before);
  }
  const std::uint64_t kind = cell[0].exchange(100);
  EXPECT_THROW(static_cast<void>(dict.at("a")), DecodeError);
  cell[0].store(kind);
  EXPECT_EQ(dict.at("a"), text(1));
  // Of another type.
  detail::VectorSink sink;
  detail::encode(sink, dict);
  detail::ByteSource source(sink.bytes());
  EXPECT_THROW((detail::decode<Dict<std::string, int>>(source)), DecodeError);
}

TEST_F(Containers, ThreadsChangeThemAtOnce) {
  Dict<int, long> counts;
  List<std::string> list;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t != 3; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i != 500; ++i) {
          counts[i % 7] += 1;
          list.push_back(text(t));
          counts.insert_or_assign(1000 + i, t);
          if (i % 2 == 0) static_cast<void>(list.pop());
        }
      });
    }
  }
  long sum = 0;
  for (int i = 0; i != 7; ++i) sum += counts.at(i);
  EXPECT_EQ(sum, 1500);
  EXPECT_EQ(counts.size(), 507U);
  EXPECT_EQ(list.size(), 750U);
}

// --- between processes ---------------------------------------------------------------------------

class SharedContainers : public testing::EveryStartMethod {
 protected:
  void SetUp() override {
    EveryStartMethod::SetUp();
    if (!IsSkipped()) conserved_.emplace();
  }
  void TearDown() override {
    if (conserved_) {
      EXPECT_TRUE(conserved_->holds()) << shared_bytes() << " bytes";
    }
    EveryStartMethod::TearDown();
  }
  template <class... Arguments>
  static void run(Arguments&&... arguments) {
    Process process(std::forward<Arguments>(arguments)...);
    process.start();
    process.join();
    EXPECT_EQ(process.exitcode(), 0);
  }
  std::optional<Conserved> conserved_;
};

void set_key(Dict<std::string, int> dict, std::string key, int value) { dict[key] = value; }

TEST_P(SharedContainers, ADictIsFilledByManyProcesses) {
  Dict<std::string, int> dict;
  std::vector<Process> all;
  for (int i = 0; i != 5; ++i) all.emplace_back(set_key, dict, "k" + std::to_string(i), i * i);
  for (Process& process : all) process.start();
  for (Process& process : all) process.join();
  EXPECT_EQ((std::map<std::string, int>(dict.begin(), dict.end())),
            (std::map<std::string, int>{{"k0", 0}, {"k1", 1}, {"k2", 4}, {"k3", 9}, {"k4", 16}}));
}

struct All {
  Texts dict;
  List<std::string> list;
  Set<int> set;
  Namespace space;
  std::vector<List<int>> lists;
};
void change_all(All all) {
  all.dict[text(1)] = text(2);
  all.dict.erase("gone");
  all.list.extend({"x", text(3)});
  all.list.sort();
  all.set |= Set<int>{7, 8};
  all.space.set("made", List<int>{1, 2, 3});
  all.lists.at(1).push_back(5);
}

// TestSyncManagerTypes: made in the parent, used in the child.
TEST_P(SharedContainers, TheChildChangesWhatItWasGiven) {
  const All all{.dict = {{"gone", text(9)}},
                .list = {text(4), "a"},
                .set = {8, 9},
                .space = {},
                .lists = {List<int>{}, List<int>{4}}};
  run(change_all, all);
  EXPECT_EQ(all.dict.keys(), Words{text(1)});
  EXPECT_EQ(all.list.values(), (Words{"a", "x", text(3), text(4)}));
  EXPECT_EQ(all.set.values(), (std::vector<int>{8, 9, 7}));
  EXPECT_EQ(all.space.get<List<int>>("made").size(), 3U) << "its maker is gone";
  EXPECT_EQ(all.lists[1].values(), (std::vector<int>{4, 5}));
}

void put_list(Queue<Dict<std::string, List<int>>> queue) {
  Dict<std::string, List<int>> dict;
  dict["made"] = List<int>{1, 2};
  queue.put(dict);
}

TEST_P(SharedContainers, TravelThroughQueues) {
  Queue<Dict<std::string, List<int>>> queue;
  run(put_list, queue);
  const auto dict = queue.get();
  EXPECT_EQ(dict.at("made").values(), (std::vector<int>{1, 2}));
}

void die_with(Dict<std::string, List<std::string>> dict) {
  dict["kept"] = List<std::string>{text(1)};
  const Dict<int, List<std::string>> own{{1, List<std::string>{text(2)}}, {2, dict.at("kept")}};
  std::raise(SIGKILL);
}

TEST_P(SharedContainers, OfTheKilledAreGoneAndWhatTheyPutStays) {
  Dict<std::string, List<std::string>> dict;
  Process process(die_with, dict);
  process.start();
  process.join();
  EXPECT_EQ(process.exitcode(), -SIGKILL);
  EXPECT_EQ(dict.at("kept").values(), Words{text(1)});
  // The dictionary and the list in it.
  EXPECT_TRUE(eventually([] { return shared_objects() >= 2; }));
}

void count_up(Dict<std::string, long> dict, List<long> list, int times) {
  for (int i = 0; i != times; ++i) {
    dict["count"] += 1;
    list[0] += 1;
  }
}

TEST_P(SharedContainers, NoUpdateIsLost) {
  Dict<std::string, long> dict;
  const List<long> list{0};
  std::vector<Process> all;
  for (int i = 0; i != 3; ++i) all.emplace_back(count_up, dict, list, 2000);
  for (Process& process : all) process.start();
  for (Process& process : all) process.join();
  EXPECT_EQ(dict.at("count"), 6000);
  EXPECT_EQ(list.at(0), 6000);
}

BROOD_UNDER_EVERY_START_METHOD(SharedContainers);

// --- chaos ---------------------------------------------------------------------------------------

/// What a worker does in step n, to keys and values of its own among those of the others.
struct Shop {
  Dict<std::string, std::string> stock{};
  Dict<int, long> sums{};
  std::array<List<std::string>, 3> logs{};
  Dict<int, List<int>> baskets{};
  List<long> done;  // steps that worker w has finished
};
std::string key_of(int worker, long n) {
  return (n % 2 == 0 ? "k" : text(0)) + std::to_string(worker) + "." + std::to_string(n % 5);
}
void step(const Shop& shop, int worker, long n) {
  switch (n % 6) {
    case 0:
    case 1:
      return static_cast<void>(
          shop.stock.insert_or_assign(key_of(worker, n), text(static_cast<int>(n))));
    case 2:
      return static_cast<void>(shop.stock.erase(key_of(worker, n - 1)));
    case 3:
      return static_cast<void>(shop.sums[worker] += n);
    case 4:
      // Emptied now and then: a log without bound would make every look at it slower than the last.
      if (n % 240 == 4) return shop.logs.at(std::size_t(worker)).clear();
      return shop.logs.at(std::size_t(worker)).push_back(key_of(worker, n));
    default:
      return static_cast<void>(shop.baskets.insert_or_assign(worker, List<int>{worker, int(n)}));
  }
}
void work(Shop shop, int worker, long from) {
  for (long n = from;; ++n) {
    step(shop, worker, n);
    shop.done.set(static_cast<std::size_t>(worker), n + 1);
  }
}

/// What is the worker's in the shop.
struct Own {
  std::map<std::string, std::string> stock;
  long sum = 0;
  std::vector<std::string> log;
  std::vector<int> basket;
  friend bool operator==(const Own&, const Own&) = default;

  static Own of(const Shop& shop, int worker) {
    const std::string mine = std::to_string(worker) + ".";
    const auto is_mine = [&](const std::string& key) {
      const std::size_t dot = key.rfind('.');
      return key.compare(dot + 1 - mine.size(), mine.size(), mine) == 0;
    };
    Own own;
    for (const auto& [key, value] : shop.stock) {
      if (is_mine(key)) own.stock[key] = value;
    }
    own.sum = shop.sums.get(worker, 0);
    own.log = shop.logs.at(std::size_t(worker)).values();
    if (const auto basket = shop.baskets.find(worker)) own.basket = basket->values();
    return own;
  }
};

// Workers are killed at random. What each had done is found, and at most the step that it was in.
TEST_F(Containers, KilledWorkersHaveDoneAStepOrNot) {
  if (testing::kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  constexpr std::size_t kWorkers = 3;
  const Shop shop{.done = List<long>(std::vector<long>(kWorkers))};
  // The same steps, in a shop of nobody else's.
  const Shop model{.done = List<long>(std::vector<long>(kWorkers))};
  std::array<long, kWorkers> modelled{};
  std::mt19937 random(static_cast<unsigned>(std::random_device()()));
  std::array<long, kWorkers> next{};
  int in_the_middle = 0;
  const int rounds = testing::prove_everything() ? 1000 : 15;
  for (int round = 0; round != rounds; ++round) {
    std::vector<std::unique_ptr<Process>> all;
    for (std::size_t w = 0; w != kWorkers; ++w) {
      all.push_back(std::make_unique<Process>(work, shop, int(w), next.at(w)));
      all.back()->start();
    }
    // One after the other: those that are left go on in what the dead have left.
    for (std::size_t w = 0; w != kWorkers; ++w) {
      const long until = shop.done.at(w) + long(random() % 50);
      ASSERT_TRUE(eventually([&] { return shop.done.at(w) > until; }));
      all[w]->kill();
      all[w]->join();
    }
    // All of them are dead now: what the model takes time for does not make it more to do.
    for (std::size_t w = 0; w != kWorkers; ++w) {
      const int worker = static_cast<int>(w);
      const long done = shop.done.at(w);
      const Own own = Own::of(shop, worker);
      while (modelled.at(w) < done) step(model, worker, modelled.at(w)++);
      next.at(w) = done;
      if (own == Own::of(model, worker)) continue;
      ++in_the_middle;
      step(model, worker, modelled.at(w)++);
      next.at(w) = done + 1;
      ASSERT_EQ(own.stock, Own::of(model, worker).stock) << "step " << done;
      ASSERT_EQ(own, Own::of(model, worker)) << "step " << done;
    }
  }
  std::printf("%d workers killed, %d of them after a step and before they said so\n",
              rounds * int(kWorkers), in_the_middle);
}

}  // namespace
}  // namespace brood::containers_test
