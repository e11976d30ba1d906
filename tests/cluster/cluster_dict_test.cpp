// Dictionaries on a real server, changed by processes at once.
// Not for ThreadSanitizer: it does not know libnats' locks.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <future>
#include <iostream>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <brood/cluster_dict.hpp>
#include <brood/cluster_pool.hpp>
#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/value.hpp>

#include "cluster/nats_server.hpp"
#include "support/eventually.hpp"
#include "support/program.hpp"

namespace brood::testing::cluster_dict_test {
namespace {

using namespace std::chrono_literals;
using Counts = ClusterDict<std::string, int>;

class ClusterDictTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!NatsServer::there()) GTEST_SKIP() << "nats-server is not installed";
    ::setenv("BROOD_CLUSTER_KEY", "secret", 1);
    server_.emplace();
  }
  void TearDown() override {
    ::unsetenv("BROOD_CLUSTER_KEY");
    if (!HasFailure() || !server_) return;
    const std::string log = server_->log();
    std::cerr << log.substr(log.size() > 4000 ? log.size() - 4000 : 0) << '\n';
  }
  [[nodiscard]] ClusterOptions at(std::chrono::nanoseconds patience = 60s) const {
    return {.url = server_->url(), .patience = patience};
  }

  std::optional<NatsServer> server_;
};

TEST_F(ClusterDictTest, WhatOneHandleSetsAnotherHas) {
  const Counts one("counts", at());
  const Counts other("counts", at());
  EXPECT_EQ(one, other);
  EXPECT_TRUE(other.empty());
  EXPECT_TRUE(one.insert_or_assign("a", 1));
  EXPECT_FALSE(one.insert_or_assign("a", 2));
  EXPECT_EQ(other.find("a"), 2);
  EXPECT_EQ(other.get("b"), std::nullopt);
  EXPECT_EQ(other.get("b", 7), 7);
  EXPECT_EQ(other.at("a"), 2);
  EXPECT_THROW(static_cast<void>(other.at("b")), std::out_of_range);
  EXPECT_TRUE(other.contains("a"));
  EXPECT_EQ(other.count("b"), 0U);
  EXPECT_FALSE(other.insert({"a", 3}));
  EXPECT_TRUE(other.try_emplace("b", 4));
  EXPECT_EQ(other.setdefault("b", 5), 4);
  EXPECT_EQ(other.setdefault("c", 5), 5);
  one["a"] = 6;
  one["d"] += 8;
  --one["d"];
  const int seven = other["d"];
  EXPECT_EQ(seven, 7);
  EXPECT_THROW(static_cast<void>(int{other["nobody"]}), std::out_of_range);
  EXPECT_EQ(other.size(), 4U);
  const std::vector<std::pair<std::string, int>> items{{"b", 4}, {"c", 5}, {"a", 6}, {"d", 7}};
  EXPECT_EQ(other.items(), items);
  EXPECT_EQ(other.keys(), (std::vector<std::string>{"b", "c", "a", "d"}));
  EXPECT_EQ(other.values(), (std::vector{4, 5, 6, 7}));
  EXPECT_EQ((std::map<std::string, int>(other.begin(), other.end()).at("a")), 6);
}

TEST_F(ClusterDictTest, WhatIsTakenOutIsGoneAndCanComeBack) {
  const Counts dict("counts", at());
  dict.update({{"a", 1}, {"b", 2}, {"c", 3}});
  EXPECT_EQ(dict.pop("a"), 1);
  EXPECT_EQ(dict.pop("a"), std::nullopt);
  EXPECT_TRUE(dict.erase("b"));
  EXPECT_FALSE(dict.erase("b"));
  EXPECT_EQ(dict.size(), 1U);
  EXPECT_TRUE(dict.insert({"a", 4}));
  EXPECT_EQ(dict.at("a"), 4);
  dict.clear();
  EXPECT_TRUE(dict.empty());
  EXPECT_TRUE(dict.items().empty());
  EXPECT_TRUE(dict.insert({"a", 5}));
  dict.unlink();
  EXPECT_THROW(static_cast<void>(dict.find("a")), EngineError);
  EXPECT_THROW(dict["a"] = 1, EngineError);
  EXPECT_THROW(static_cast<void>(dict.erase("a")), EngineError);
  EXPECT_THROW(static_cast<void>(dict.items()), EngineError);
  const Counts anew("counts", at());
  EXPECT_TRUE(anew.empty());
}

TEST_F(ClusterDictTest, UpdateSeesWhetherTheKeyIsThereAndMayTakeItAway) {
  const Counts dict("counts", at());
  const auto toggle = [](std::optional<int>& value) {
    const bool was = value.has_value();
    if (was) {
      value.reset();
    } else {
      value = 1;
    }
    return was;
  };
  EXPECT_FALSE(dict.update("a", toggle));
  EXPECT_TRUE(dict.contains("a"));
  EXPECT_TRUE(dict.update("a", toggle));
  EXPECT_FALSE(dict.contains("a"));
  EXPECT_THROW(dict.update("b", [](int&) { throw std::domain_error("no"); }), std::domain_error);
  EXPECT_FALSE(dict.contains("b"));
  EXPECT_EQ(dict.update("b", [](int& value) { return value += 3; }), 3);
}

TEST_F(ClusterDictTest, AnUpdateThatAnotherCameBeforeRunsAgain) {
  const Counts dict("counts", at());
  dict["a"] = 1;
  int runs = 0;
  dict.update("a", [&](int& value) {
    if (++runs == 1) dict["a"] = 10;
    ++value;
  });
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(dict.at("a"), 11);
  runs = 0;
  dict.update("a", [&](std::optional<int>& value) {
    if (++runs == 1) static_cast<void>(dict.erase("a"));
    value = value.value_or(0) + 1;
  });
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(dict.at("a"), 1);
}

void count(Counts dict, int times) {
  for (int i = 0; i < times; ++i) dict["sum"] += 1;
}
void pop_all(ClusterDict<int, int> numbers, Counts dict) {
  for (int i = 0; i < 40; ++i) {
    if (const auto found = numbers.pop(i)) dict["popped"] += *found;
  }
}

TEST_F(ClusterDictTest, ChangesOfSeveralProcessesAtOnceAllCount) {
  const Counts dict("counts", at());
  const ClusterDict<int, int> numbers("numbers", at());
  for (int i = 0; i < 40; ++i) numbers[i] = i;
  std::vector<Process> processes;
  for (int i = 0; i < 3; ++i) processes.emplace_back(count, dict, 50);
  for (int i = 0; i < 2; ++i) processes.emplace_back(pop_all, numbers, dict);
  for (Process& process : processes) process.start();
  for (Process& process : processes) {
    process.join();
    EXPECT_EQ(process.exitcode(), 0);
  }
  EXPECT_EQ(dict.at("sum"), 150);
  EXPECT_EQ(dict.at("popped"), 40 * 39 / 2) << "each was popped by one";
  EXPECT_TRUE(numbers.empty());
}

struct Place {
  int row;
  int column;
  auto operator<=>(const Place&) const = default;
};

TEST_F(ClusterDictTest, KeysAreWhatEncodesToTheSameBytes) {
  const ClusterDict<Place, std::string> places("places", at());
  std::map<Place, std::string> expected;
  for (int i = -3; i < 3; ++i) {
    const Place place{.row = i, .column = i * 1'000'000};
    places[place] = std::to_string(i);
    expected[place] = std::to_string(i);
  }
  EXPECT_EQ((std::map<Place, std::string>(places.begin(), places.end())), expected);
  const ClusterDict<std::vector<std::string>, int> lists("lists", at());
  const std::vector<std::vector<std::string>> keys{{}, {""}, {"a.b", "*", ">"}, {"\xff\n "}};
  for (const auto& key : keys) lists[key] = static_cast<int>(key.size());
  EXPECT_EQ(lists.keys(), keys);
  for (const auto& key : keys) EXPECT_EQ(lists.at(key), static_cast<int>(key.size()));
  const ClusterDict<std::string, int> words("words", at());
  for (std::size_t size = 0; size != 40; ++size) words[std::string(size, '?')] = 1;
  EXPECT_EQ(words.size(), 40U);
  for (const std::string& word : words.keys()) EXPECT_EQ(word, std::string(word.size(), '?'));
  EXPECT_THROW(words[std::string(2000, 'x')] = 1, ArgumentError);
}

TEST_F(ClusterDictTest, AServerThatIsKilledAndBackIsWaitedFor) {
  const Counts dict("counts", at());
  dict["a"] = 1;
  auto counted = std::async(std::launch::async, [&] {
    for (int i = 0; i < 200; ++i) dict["sum"] += 1;
  });
  ASSERT_TRUE(eventually([&] { return dict.get("sum", 0) > 3; }));
  server_->kill();
  server_->restart();
  counted.get();
  EXPECT_EQ(dict.at("a"), 1);
  EXPECT_EQ(dict.at("sum"), 200);
}

TEST_F(ClusterDictTest, AServerThatStaysAwayIsAnError) {
  const Counts dict("counts", at(10ms));
  dict["a"] = 1;
  server_->kill();
  EXPECT_THROW(static_cast<void>(dict.find("a")), EngineError);
  EXPECT_THROW(dict["a"] = 2, EngineError);
  EXPECT_THROW(static_cast<void>(dict.items()), EngineError);
}

TEST_F(ClusterDictTest, OtherTypesAndKeysOfTheClusterAreRefused) {
  const Counts dict("counts", at());
  dict["a"] = 1;
  EXPECT_THROW((ClusterDict<std::string, long>("counts", at())), TypeMismatch);
  EXPECT_THROW((ClusterDict<int, int>("counts", at())), TypeMismatch);
  ClusterOptions other = at();
  other.key = "another";
  EXPECT_THROW(Counts("counts", other), AuthenticationError);
  EXPECT_THROW(Counts("a b", at()), ArgumentError);
  const ClusterDict<int, Value<int>> handles("handles", at());
  EXPECT_THROW(handles[1] = Value<int>(1), ArgumentError);
  const ClusterDict<int, std::string> words("words", at());
  EXPECT_THROW(words[1] = std::string(std::size_t{1} << 20U, 'x'), MessageTooLarge);
  EXPECT_TRUE(words.empty());
  EXPECT_EQ(dict.at("a"), 1);
}

TEST_F(ClusterDictTest, HandlesGoIntoTasksOnOtherMachinesAndOnThisOne) {
  const std::string url = server_->url();
  Program agent("cluster_tests", {.arguments = {"--brood-agent", url}, .prepare = [] {
                                    ::setenv("BROOD_CLUSTER_KEY", "secret", 1);
                                    ::setenv("BROOD_AGENT_WORKERS", "2", 1);
                                    return true;
                                  }});
  const Counts dict("counts", at());
  Pool local({.workers = 1});
  const ClusterPool far({.url = url, .patience = 60s});
  const std::vector<int> times(10, 5);
  const auto work = [](const Counts& counts, int n) { count(counts, n); };
  Future<void> here = local.submit(work, dict, 30);
  std::vector<Future<void>> there;
  for (const int n : times) there.push_back(far.submit(work, dict, n));
  here.get();
  for (Future<void>& future : there) future.get(60s);
  EXPECT_EQ(dict.at("sum"), 80) << agent.describe();
}

}  // namespace
}  // namespace brood::testing::cluster_dict_test
