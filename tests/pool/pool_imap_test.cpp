// The lazy map. Names in brackets are the tests of CPython's suites that ask for the same.
// Not for ThreadSanitizer: processes.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <list>
#include <ranges>
#include <string>
#include <vector>

#include <brood/bind.hpp>

#include "pool_test_support.hpp"

namespace pool_imap_test {
namespace {

using namespace brood::testing;
using brood::Pool;

class PoolImapTest : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolImapTest);

int twice(int n) { return 2 * n; }

/// 0, 1, 2 ... and how many have been asked for.
class Counted {
 public:
  struct Iterator {
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = int;
    Counted* from = nullptr;
    int operator*() const { return from->pulled_ - 1; }
    Iterator& operator++() {
      from->pull();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t /*end*/) const { return from->at_end_; }
  };
  explicit Counted(int end = -1, int throws_at = -1) : end_(end), throws_at_(throws_at) {}
  Iterator begin() {
    pull();
    return {this};
  }
  std::default_sentinel_t end() { return {}; }
  [[nodiscard]] int pulled() const { return pulled_; }

 private:
  void pull() {
    if (pulled_ == throws_at_) throw BadInput("the input itself");
    at_end_ = pulled_ == end_;
    if (!at_end_) ++pulled_;
  }
  int end_;
  int throws_at_;
  int pulled_ = 0;
  bool at_end_ = false;
};

TEST_P(PoolImapTest, GivesTheResultsInOrder) {  // [test_imap]
  for (const int workers : {0, 1, 2, 5}) {
    Pool pool({.workers = workers});
    for (const int count : {0, 1, 2, 100, 1000}) {
      std::vector<int> results;
      for (const int n : pool.imap(twice, std::views::iota(0, count))) results.push_back(n);
      ASSERT_EQ(results.size(), static_cast<std::size_t>(count));
      for (int i = 0; i < count; ++i) EXPECT_EQ(results[static_cast<std::size_t>(i)], 2 * i);
    }
  }
}

// [test_map_buffersize, test_map_buffersize_when_buffer_is_full, ..._on_infinite_iterable]
TEST_P(PoolImapTest, PullsNoFurtherThanTheWindow) {
  Pool pool({.workers = 2});
  for (const int window : {1, 3, 40}) {
    SCOPED_TRACE(window);
    Counted endless;
    auto results = pool.with({.window = static_cast<std::size_t>(window)}).imap(twice, endless);
    EXPECT_EQ(endless.pulled(), 0) << "nothing is asked for before the first";
    auto at = results.begin();
    for (int fetched = 0; fetched < 100; ++fetched, ++at) {
      ASSERT_EQ(endless.pulled(), fetched + window);
      EXPECT_EQ(*at, 2 * fetched);
    }
  }
}

TEST_P(PoolImapTest, HasAWindowByItself) {
  Pool pool({.workers = 2});
  Counted endless;
  auto results = pool.imap(twice, endless);
  EXPECT_EQ(*results.begin(), 0);
  EXPECT_LE(endless.pulled(), 100);
}

TEST_P(PoolImapTest, WithoutWorkersNothingIsComputedAhead) {
  Pool pool({.workers = 0});
  Counted endless;
  auto results = pool.imap(twice, endless);
  auto at = results.begin();
  EXPECT_EQ(endless.pulled(), 1);
  EXPECT_EQ(*at, 0);
  ++at;
  EXPECT_EQ(*at, 2);
  EXPECT_EQ(endless.pulled(), 2);
}

TEST_P(PoolImapTest, AFailureIsThrownAtItsPlaceAndTheRestFollows) {  // [test_map_exception]
  for (const int workers : {0, 2}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    auto results = pool.imap(
        [](int n) {
          if (n % 10 == 3) throw BadInput(std::to_string(n));
          return n;
        },
        std::views::iota(0, 100));
    int n = 0;
    for (auto at = results.begin(); at != results.end(); ++at, ++n) {
      if (n % 10 == 3) {
        EXPECT_EQ(message_of(thrown_by([&] { *at; })), std::to_string(n));
      } else {
        EXPECT_EQ(*at, n);
      }
    }
    EXPECT_EQ(n, 100);
  }
}

TEST_P(PoolImapTest, ADeathIsThrownAtItsPlaceAndTheRestFollows) {
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    auto results = pool.imap(
        [](int n) {
          if (n % 10 == 3) ::raise(SIGKILL);
          return std::to_string(n);
        },
        std::views::iota(0, 40));
    int n = 0;
    for (auto at = results.begin(); at != results.end(); ++at, ++n) {
      if (n % 10 == 3) {
        EXPECT_THROW(*at, brood::WorkerCrashed);
      } else {
        EXPECT_EQ(*at, std::to_string(n));
      }
    }
    EXPECT_EQ(n, 40);
  }
}

TEST_P(PoolImapTest, MayBeLeftEarly) {
  Pool pool({.workers = 2});
  for (int round = 0; round < 20; ++round) {
    int last = 0;
    for (const int n : pool.imap(twice, std::views::iota(0))) {
      last = n;
      if (n == 50) break;
    }
    EXPECT_EQ(last, 50);
  }
  { auto never_begun = pool.imap(twice, std::views::iota(0)); }
  EXPECT_EQ(pool.apply(twice, 4), 8);
}

TEST_P(PoolImapTest, SeveralMayRunAtOnce) {
  Pool pool({.workers = 2});
  auto odd = pool.imap(twice, std::views::iota(0, 50));
  auto even =
      pool.imap(brood::bind([](int by, int n) { return by * n; }, 3), std::views::iota(0, 50));
  auto a = odd.begin();
  auto b = even.begin();
  for (int i = 0; i < 50; ++i, ++a, ++b) {
    EXPECT_EQ(*a, 2 * i);
    EXPECT_EQ(*b, 3 * i);
    if (i == 25) {
      EXPECT_EQ(pool.map(twice, first_integers(2)), (std::vector<int>{0, 2}));
    }
  }
}

TEST_P(PoolImapTest, WhatTheInputThrowsComesBehindTheResultsBeforeIt) {
  // [test_imap_handle_iterable_exception]
  for (const int workers : {0, 2}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    std::vector<int> got;
    const std::exception_ptr error = thrown_by([&] {
      for (const int n : pool.imap(twice, Counted(-1, 20))) got.push_back(n);
    });
    EXPECT_EQ(got.size(), 20u);
    EXPECT_TRUE(is_a<BadInput>(error)) << message_of(error);
    EXPECT_EQ(pool.apply(twice, 4), 8);
  }
}

TEST_P(PoolImapTest, TheInputMayBeATemporaryOfAnyKind) {
  Pool pool({.workers = 2});
  std::vector<std::string> got;
  const auto shout = [](const std::string& s) { return s + "!"; };
  for (const std::string& s : pool.imap(shout, std::list<std::string>{"a", "b"})) got.push_back(s);
  std::vector<std::string> kept{"c", "d"};
  for (const std::string& s : pool.imap(shout, kept)) got.push_back(s);
  EXPECT_EQ(got, (std::vector<std::string>{"a!", "b!", "c!", "d!"}));
  int calls = 0;
  for ([[maybe_unused]] int n : pool.imap(
           twice, std::views::iota(0, 10) | std::views::filter([](int x) { return x % 2 == 1; }))) {
    ++calls;
  }
  EXPECT_EQ(calls, 5);
}

TEST_P(PoolImapTest, APoolThatIsClosedMeanwhileEndsIt) {
  Pool pool({.workers = 2});
  std::vector<int> got;
  const std::exception_ptr error = thrown_by([&] {
    for (const int n : pool.with({.window = 4}).imap(twice, std::views::iota(0))) {
      got.push_back(n);
      if (n == 20) pool.close();
    }
  });
  EXPECT_TRUE(is_a<brood::PoolClosed>(error)) << message_of(error);
  EXPECT_GE(got.size(), 11u) << "what was in flight is delivered";
  pool.join();
}

}  // namespace
}  // namespace pool_imap_test
