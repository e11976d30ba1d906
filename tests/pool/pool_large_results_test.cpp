// Results that need pages of shared memory, beside small ones, and beside other pools.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cereal/types/string.hpp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/pool.hpp>
#include <brood/queue.hpp>
#include <brood/shared_array.hpp>
#include <brood/shared_memory_info.hpp>

#include "pool_test_support.hpp"
#include "support/proof.hpp"
#include "support/shared_objects.hpp"
#include "support/shared_thing.hpp"

namespace brood::pool_large_results_test {
namespace {

using namespace brood::testing;

constexpr std::size_t kMiB = std::size_t{1} << 20U;

class PoolLargeResults : public PoolTest {};
BROOD_UNDER_EVERY_START_METHOD(PoolLargeResults);

std::string filled(int n, std::size_t bytes) {
  return std::string(bytes, static_cast<char>('a' + n % 26));
}
std::size_t used() { return shared_memory_info().used; }

std::string of_any_size(int n) {
  if (n % 10 == 7) throw BadInput("item " + std::to_string(n));
  if (n % 10 == 8) std::raise(SIGKILL);
  constexpr std::size_t kSizes[] = {0, 1, 100, 256 << 10, (256 << 10) - 100, kMiB, 3 * kMiB};
  return filled(n, kSizes[n % 10 % 7]);
}

// Also when they are read long after the worker has had nothing to do any more.
TEST_P(PoolLargeResults, LeaveNothingWithIdleWorkers) {
  Pool pool({.workers = 2});
  pool.map([](int n) { return n; }, first_integers(100));
  trim_shared_memory();
  const std::size_t before = used();
  const auto little = [&] {
    trim_shared_memory();
    return used() <= before + 8 * kMiB;
  };
  for (int round = 0; round != 2; ++round) {
    std::vector<Future<std::string>> futures;
    for (int i = 0; i != 6; ++i) futures.push_back(pool.submit(filled, i, 30 * kMiB));
    wait_all(futures);
    EXPECT_GE(used(), before + 180 * kMiB);
    EXPECT_FALSE(little());
    for (int i = 0; i != 6; ++i) {
      EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), filled(i, 30 * kMiB));
    }
    EXPECT_TRUE(eventually(little)) << (used() - before) / kMiB << " MiB";
  }
  // Arguments: more than the owner keeps to use it again.
  pool.map([](const std::string& text) { return text.size(); },
           std::vector<std::string>(10, std::string(30 * kMiB, 'x')));
  EXPECT_TRUE(little()) << (used() - before) / kMiB << " MiB";
  // What an item itself has put into shared memory and freed.
  pool.apply([] {
    Queue<std::string> queue;
    queue.put(std::string(30 * kMiB, 'x'));
    return queue.get().size();
  });
  EXPECT_TRUE(eventually(little)) << (used() - before) / kMiB << " MiB";
}

TEST_P(PoolLargeResults, AreEachAtItsPlaceWhateverHappensToOthers) {
  for (const int workers : {1, 2, 5}) {
    for (const std::size_t chunk : {std::size_t{0}, std::size_t{7}}) {
      SCOPED_TRACE(std::to_string(workers) + " workers, chunk " + std::to_string(chunk));
      Pool pool({.workers = workers});
      const auto all = pool.with({.chunk = chunk}).try_map(of_any_size, first_integers(40));
      for (int n = 0; n != 40; ++n) {
        const auto& one = all[static_cast<std::size_t>(n)];
        if (n % 10 == 7) {
          EXPECT_TRUE(is_a<BadInput>(one.error())) << n << ": " << message_of(one.error());
        } else if (n % 10 == 8) {
          EXPECT_TRUE(is_a<WorkerCrashed>(one.error())) << n << ": " << message_of(one.error());
        } else {
          ASSERT_TRUE(one) << n << ": " << message_of(one.error());
          EXPECT_TRUE(*one == of_any_size(n)) << n;
        }
      }
    }
  }
}

std::string large_but_the_last(int n) {
  if (n == 9) throw BadInput("the last");
  return filled(n, 4 * kMiB);
}

TEST_P(PoolLargeResults, OfAMapThatFailsAreGivenBack) {
  Pool pool({.workers = 2});
  const std::size_t before = used();
  for (int i = 0; i != 20; ++i) {
    EXPECT_THROW(pool.map(large_but_the_last, first_integers(10)), BadInput);
  }
  // Of 720 MiB; a worker keeps eight pages to write into again.
  constexpr std::size_t kMost = std::size_t{2} * 9 * 5 * kMiB;
  EXPECT_TRUE(eventually([&] { return used() <= before + kMost; })) << used() - before;
}

struct Picky {
  std::string text;
  template <class Archive>
  void save(Archive& to) const {
    to(text);
  }
  template <class Archive>
  void load(Archive& from) {
    from(text);
    if (text.starts_with('c')) throw std::runtime_error("no text may begin with a c");
  }
};
Picky picky(int n) { return {filled(n, kMiB)}; }

TEST_P(PoolLargeResults, ThatDoNotDecodeCostOneItem) {
  Pool pool({.workers = 2});
  const auto all = pool.try_map(picky, first_integers(6));
  for (int n = 0; n != 6; ++n) {
    const auto& one = all[static_cast<std::size_t>(n)];
    if (n == 2) {
      EXPECT_FALSE(one);
      EXPECT_NE(message_of(one.error()).find("begin with a c"), std::string::npos)
          << message_of(one.error());
    } else {
      ASSERT_TRUE(one) << message_of(one.error());
      EXPECT_TRUE(one->text == filled(n, kMiB)) << n;
    }
  }
  EXPECT_THROW(pool.map(picky, first_integers(6)), std::exception);
  EXPECT_EQ(pool.map(picky, std::vector{3})[0].text, filled(3, kMiB));
}

struct WithThing {
  std::string text;
  std::optional<Thing> thing;
};
WithThing with_thing(int n) { return {filled(n, kMiB), Thing(n, 100)}; }

TEST_P(PoolLargeResults, KeepWhatTheyNameAliveAndNoLonger) {
  const std::size_t before = shared_objects();
  Pool pool({.workers = 2});
  {
    const auto all = pool.map(with_thing, first_integers(8));
    for (int n = 0; n != 8; ++n) {
      EXPECT_EQ(all[static_cast<std::size_t>(n)].thing->number(), n);
    }
  }
  EXPECT_TRUE(eventually([&] { return shared_objects() == before; })) << shared_objects() - before;
}

std::string of_size(int n, int size) { return filled(n, static_cast<std::size_t>(size)); }

// Small ones behind a large one: taking them changes nothing in it.
TEST_P(PoolLargeResults, FetchedInAnyOrderAreWhole) {
  Pool pool({.workers = 1});
  for (const int large : {100'000, 900'000, 1'100'000, 1'500'000, 2'500'000, 3 << 20, 5'000'000}) {
    std::vector<Future<std::string>> all;
    std::vector<int> sizes;
    for (int n = 0; n != 8; ++n) {
      sizes.push_back(n % 4 == 0 ? large : n * 7'000);
      all.push_back(pool.submit(of_size, n, sizes.back()));
    }
    for (int n = 7; n >= 0; --n) {
      const auto i = static_cast<std::size_t>(n);
      EXPECT_TRUE(all[i].get() == of_size(n, sizes[i])) << n << " of " << large;
    }
  }
}

// Each byte tells of which result it is, and where in it.
std::string patterned(std::uint32_t which, std::uint64_t size) {
  std::string bytes(size, '\0');
  std::uint32_t x = which * 2'654'435'761U + 1;
  for (char& byte : bytes) {
    byte = static_cast<char>(x >> 24U);
    x += 0x9E37'79B9U;
  }
  return bytes;
}

// At the sizes where something changes: in the record, steps of a page, granules.
std::uint64_t any_size(std::mt19937& random) {
  constexpr std::uint64_t kEdges[] = {0,        32,        40,   1000,    32 << 10,
                                      64 << 10, 256 << 10, kMiB, 3 * kMiB};
  const std::uint64_t edge = kEdges[random() % std::size(kEdges)];
  return edge + random() % 100 - std::min<std::uint64_t>(edge, 50);
}

TEST_P(PoolLargeResults, OfAnySizeTakenInAnyOrderOrNotAtAllAreWhole) {
  const Seeds seeds = seeds_to_try(4, 300);
  for (std::uint64_t seed = seeds.first; seed != seeds.first + seeds.count; ++seed) {
    SCOPED_TRACE("BROOD_SEED=" + std::to_string(seed));
    std::mt19937 random(static_cast<std::uint32_t>(seed));
    Pool pool({.workers = static_cast<int>(1 + seed % 3)});
    std::uint32_t count = 0;
    struct Asked {
      std::uint32_t which;
      std::uint64_t size;
      Future<std::string> future;
    };
    std::vector<Asked> asked;
    for (int step = 0; step != 120; ++step) {
      const auto what = random() % 10;
      if (what < 5 || asked.empty()) {
        const std::uint64_t size = any_size(random);
        asked.push_back({++count, size, pool.submit(patterned, count, size)});
      } else if (what < 9) {
        std::swap(asked[random() % asked.size()], asked.back());
        if (what < 8) {
          Asked& one = asked.back();
          ASSERT_TRUE(one.future.get() == patterned(one.which, one.size)) << one.size;
        }
        asked.pop_back();
      } else {  // a map in between, while results of tasks are not fetched
        std::vector<std::uint32_t> which;
        std::vector<std::uint64_t> sizes;
        for (int i = 0; i != 6; ++i) {
          which.push_back(++count);
          sizes.push_back(any_size(random));
        }
        const auto all = pool.map(patterned, which, sizes);
        for (std::size_t i = 0; i != all.size(); ++i) {
          ASSERT_TRUE(all[i] == patterned(which[i], sizes[i])) << sizes[i];
        }
      }
    }
    for (Asked& one : asked) {
      ASSERT_TRUE(one.future.get() == patterned(one.which, one.size)) << one.size;
    }
  }
  std::printf("%llu seeds\n", static_cast<unsigned long long>(seeds.count));
}

int die(int) {
  std::raise(SIGKILL);
  return 0;
}

TEST_P(PoolLargeResults, OfOnePoolOutliveWorkersAndTheEndOfAnother) {
  Pool pool({.workers = 2});
  for (const bool killed : {true, false}) {
    SCOPED_TRACE(killed ? "a worker of the other is killed" : "the other ends");
    std::vector<Future<std::string>> kept;
    constexpr std::uint64_t kSizes[] = {1000, 3 * kMiB};
    for (std::uint32_t i = 0; i != 8; ++i) {
      kept.push_back(pool.submit(patterned, i, kSizes[i % 2]));
    }
    for (const Future<std::string>& one : kept) one.wait();
    {
      Pool other({.workers = 2});
      EXPECT_EQ(other.apply(filled, 1, 1000).size(), 1000u);
      if (killed) {
        EXPECT_THROW(other.map(die, std::vector{1, 2, 3, 4}), WorkerCrashed);
        EXPECT_EQ(other.apply(filled, 1, 1000).size(), 1000u);
      }
    }
    // Whoever wants memory now gets what is free.
    std::vector<SharedArray<char>> others;
    for (int i = 0; i != 16; ++i) others.emplace_back(2 * kMiB, 'z');
    for (std::uint32_t i = 0; i != 8; ++i) {
      EXPECT_TRUE(kept[i].get() == patterned(i, kSizes[i % 2])) << i;
    }
    for (std::uint32_t i = 0; i != 4; ++i) {
      EXPECT_TRUE(pool.apply(patterned, i, 2 * kMiB) == patterned(i, 2 * kMiB)) << i;
    }
    for (const SharedArray<char>& one : others) {
      EXPECT_EQ(std::count(one.begin(), one.end(), 'z'), static_cast<long>(2 * kMiB));
    }
  }
}

std::vector<std::string> many_texts(int count) {
  std::vector<std::string> texts;
  for (int i = 0; i != count; ++i) texts.push_back(filled(i, 1000));
  return texts;
}

// It is encoded behind one that has been fetched, and has room only at the front of the page.
TEST_P(PoolLargeResults, AResultThatOutgrowsTheRestOfItsPageIsWhole) {
  Pool pool({.workers = 1});
  for (const int first : {100, 300, 500, 700}) {
    for (const int second : {300, 600, 800, 1000}) {
      EXPECT_EQ(pool.apply(many_texts, first), many_texts(first));
      EXPECT_EQ(pool.apply(many_texts, second), many_texts(second)) << "behind " << first;
    }
  }
}

}  // namespace
}  // namespace brood::pool_large_results_test
