#include <brood/memory/replaced_bytes.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"

namespace brood::detail::authkey_cell_test {
namespace {

using brood::testing::Shared;
using brood::testing::SingleStep;

constexpr Tag kMe(1, 1);
constexpr Tag kOther(2, 1);

const auto nobody_is_dead = [](Tag) { return false; };

TEST(AuthKeyCell, KeysOfEveryLengthAreReadAsTheyWereWritten) {
  AuthKeyCell cell{};
  cell.begin(std::as_bytes(std::span("first", 5)));
  EXPECT_EQ(cell.read(), "first");
  for (const std::size_t length : {std::size_t{256}, std::size_t{0}, std::size_t{13}}) {
    const std::string key(length, '\0');
    const std::uint64_t generation = cell.generation();
    EXPECT_TRUE(cell.try_write(key, kMe, nobody_is_dead));
    EXPECT_EQ(cell.read(), key);
    EXPECT_NE(cell.generation(), generation);
  }
}

TEST(AuthKeyCell, ReadersSeeOneOfTheKeysWhoeverWrites) {
  AuthKeyCell cell{};
  const std::vector<std::string> keys{std::string(200, 'a'), std::string(100, 'b'),
                                      std::string(7, 'c')};
  ASSERT_TRUE(cell.try_write(keys[0], kMe, nobody_is_dead));
  std::vector<std::thread> writers;
  for (std::uint32_t w = 0; w < 2; ++w) {
    writers.emplace_back([&, w] {
      for (std::size_t i = 0; i < 20'000; ++i) {
        static_cast<void>(cell.try_write(keys[(i + w) % 3], Tag(w + 1, 1), nobody_is_dead));
      }
    });
  }
  for (int i = 0; i < 20'000; ++i) {
    const std::string key = cell.read();
    ASSERT_TRUE(std::find(keys.begin(), keys.end(), key) != keys.end()) << key;
  }
  for (std::thread& writer : writers) writer.join();
}

// The kill windows: before the commit nothing has changed, after it all has; the next writer takes
// a dead one's place, and not a living one's.
TEST(AuthKeyCell, KilledAtAnyInstructionTheKeyIsTheOldOrTheNewAndCanBeSet) {
  if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  const std::uint64_t stride = testing::prove_everything() ? 1 : 7;
  bool done = false;
  int old = 0;
  int fresh = 0;
  for (std::uint64_t at = 0; !done; at += stride) {
    const Shared<AuthKeyCell> cell;
    ASSERT_TRUE(cell->try_write("old", kMe, nobody_is_dead));
    SingleStep child([&] { static_cast<void>(cell->try_write("new", kOther, nobody_is_dead)); });
    done = !child.step(at);
    child.kill();
    const std::string key = cell->read();
    ASSERT_TRUE(key == "old" || key == "new") << key << " after " << at;
    ++(key == "old" ? old : fresh);
    ASSERT_TRUE(!done || key == "new") << "it returned";
    ASSERT_TRUE(cell->try_write("next", kMe, [](Tag tag) { return tag == kOther; })) << at;
    ASSERT_EQ(cell->read(), "next");
  }
  EXPECT_GT(old, 0);
  EXPECT_GT(fresh, 0);
}

TEST(AuthKeyCell, AStoppedWriterIsNotRobbed) {
  if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  int windows = 0;
  for (std::uint64_t at = 0; windows < 3; at += 5) {
    const Shared<AuthKeyCell> cell;
    ASSERT_TRUE(cell->try_write("old", kMe, nobody_is_dead));
    SingleStep child([&] { static_cast<void>(cell->try_write("slow", kOther, nobody_is_dead)); });
    ASSERT_TRUE(child.step(at)) << "nobody was ever kept from writing";
    if (cell->try_write("quick", kMe, nobody_is_dead)) continue;
    ++windows;
    EXPECT_EQ(cell->read(), "old");
    child.finish();
    EXPECT_EQ(cell->read(), "slow");
  }
}

}  // namespace
}  // namespace brood::detail::authkey_cell_test
