#include <gtest/gtest.h>

#include <fstream>

#include <brood/platform/oom_watch.hpp>

#include "support/temp_dir.hpp"

namespace brood::detail::oom_watch_test {
namespace {

using namespace brood::testing;

TEST(OomKills, AreFoundInEachFile) {
  EXPECT_EQ(oom_kills_in("low 0\nhigh 12\nmax 7\noom 3\noom_kill 2\noom_group_kill 9\n"), 2u);
  EXPECT_EQ(oom_kills_in("oom_kill_disable 1\nunder_oom 0\noom_kill 77"), 77u);
  EXPECT_EQ(oom_kills_in("nr_free_pages 5\nxoom_kill 8\noom_kill 18446744073709551615\n"),
            18446744073709551615u);
  EXPECT_EQ(oom_kills_in(""), std::nullopt);
  EXPECT_EQ(oom_kills_in("oom_kill"), std::nullopt);
  EXPECT_EQ(oom_kills_in("oom_kill \n"), std::nullopt);
  EXPECT_EQ(oom_kills_in("oom_kill many\n"), std::nullopt);
  EXPECT_EQ(oom_kills_in("oom_kill_disable 0\nunder_oom 0\n"), std::nullopt);
}

TEST(OomWatch, TellsTheDeadApart) {
  const TempDir dir;
  const std::string file = dir.file("memory.events");
  const auto say = [&](int kills) { std::ofstream(file) << "oom_kill " << kills << "\n"; };
  say(5);
  OomWatch watch({file, dir.file("none")});
  EXPECT_FALSE(watch.has_killed());
  say(6);
  EXPECT_TRUE(watch.has_killed());
  EXPECT_FALSE(watch.has_killed());
  say(8);
  EXPECT_TRUE(watch.has_killed());
  EXPECT_TRUE(watch.has_killed()) << "two at once";
  EXPECT_FALSE(watch.has_killed());
  say(1);  // another group's file
  EXPECT_FALSE(watch.has_killed());
}

}  // namespace
}  // namespace brood::detail::oom_watch_test
