// Runs ObjectTable under a scheduler: every order of its atomic steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include <brood/memory/object_table.hpp>

#include "memory/object_world.hpp"
#include "support/proof.hpp"
#include "support/schedule.hpp"

namespace brood::detail::object_schedule_test {
namespace {

using testing::ExhaustiveChoices;
using testing::prove_everything;
using testing::RandomChoices;
using testing::Schedule;
using testing::ScheduledAtom;

constexpr std::uint32_t kCapacity = 16;
constexpr ObjectType kType{.kind = 1, .contents = 2};
constexpr std::size_t kLarge = 1000;
constexpr Tag kKeeper(1, 1);
constexpr Tag kWatchdog(2, 1);
constexpr ObjectRef kFirst{0, 1};
constexpr ObjectRef kSecond{1, 1};

using World = testing::ObjectTestWorld<ScheduledAtom, kCapacity>;
using Table = ObjectTable<World>;

// Processes that hold and let go of the same objects, some of which die; a watchdog that takes the
// dead out of the table as they die, and hands their slots on to new ones.
class Story {
 public:
  explicit Story(testing::Choices& choices, int processes, int rounds)
      : choices_(choices), processes_(processes), rounds_(rounds) {
    table_.create(kType, kLarge, 0, kKeeper);
    table_.create(kType, 4, 0, kKeeper);
    world_.on_pause = [this] {
      // Until another has done something; or at once, as one may have died since it was looked at.
      const std::uint64_t now = schedule_->steps();
      const bool at_once = looks_after_death_ > 0;
      if (at_once) --looks_after_death_;
      const std::size_t deaths = deaths_;
      Schedule::wait_until([this, now, at_once, deaths] {
        return at_once || schedule_->steps() != now || deaths_ != deaths;
      });
    };
  }

  std::string run() {
    Schedule schedule(choices_);
    schedule_ = &schedule;
    for (int i = 0; i != processes_; ++i) {
      const Tag tag(3 + static_cast<std::uint32_t>(i) % 2, 1 + static_cast<std::uint32_t>(i) / 2);
      if (i < 2) start(schedule, tag);
    }
    schedule.spawn([&] {
      for (int ended = 0; ended != processes_;) {
        Schedule::wait_until([&] { return !dead_.empty(); });
        const Tag tag = dead_.back();
        dead_.pop_back();
        // Sometimes the slot is used again first.
        const bool late = choices_.pick(2) == 1;
        const bool another = ended + 2 < processes_;
        const Tag next(tag.slot(), tag.generation() + 1);
        ++ended;
        if (late && another) start(schedule, next);
        // What it left in messages goes before what it held, or behind.
        const bool before = choices_.pick(2) == 1;
        if (before) end_messages(tag);
        while (!table_.release_all(tag, kWatchdog)) world_.pause(0);
        if (!before) end_messages(tag);
        if (!late && another) start(schedule, next);
      }
      watched_ = true;
    });
    schedule.run();
    if (!watched_) return "the watchdog waits for ever";
    if (!wrong_.empty()) return wrong_;
    std::string wrong = world_.verdict({Tag(3, 1), Tag(4, 1), Tag(3, 2), Tag(4, 2)});
    if (!wrong.empty()) return wrong;
    if (!table_.held(kFirst, kKeeper) || !table_.held(kSecond, kKeeper)) return "the keeper's gone";
    std::size_t count = 0;
    table_.for_each([&](ObjectRef, const auto&) { ++count; });
    if (count != 2) return std::to_string(count) + " objects are left instead of the keeper's 2";
    return {};
  }

 private:
  void start(Schedule& schedule, Tag tag) {
    schedule.spawn(
        [this, tag] {
          for (int i = 0; i != rounds_; ++i) {
            if (!table_.adopt(kFirst, tag, tag)) wrong_ = "what the keeper holds was gone";
            const auto mine = table_.create(kType, i % 2 == 0 ? kLarge : 4, 0, tag);
            if (!mine) {
              wrong_ = "the table is full";
              return;
            }
            if (!table_.held(*mine, tag) || !table_.held(kFirst, tag))
              wrong_ = "what it held was taken";
            send(kFirst, message_of(tag, 0), tag);
            send(*mine, message_of(tag, 1), tag);
            table_.drop(*mine, tag, tag);
            if (!table_.adopt(*mine, tag, tag)) wrong_ = "what a message held was gone";
            table_.unlink(message_of(tag, 1), tag);
            table_.drop(*mine, tag, tag);
            if (table_.adopt(*mine, tag, tag)) wrong_ = "what nobody held was still there";
            table_.unlink(message_of(tag, 0), tag);
            table_.drop(kFirst, tag, tag);
          }
          end(tag);  // as a process that ended in order, without letting go of all
        },
        [this, tag] { end(tag); });
  }
  // A message of a process that names an object; its memory is nobody else's before it is ended.
  static std::uint64_t message_of(Tag tag, std::uint32_t which) {
    return 1 + (tag.slot() - 3) * 4 + tag.generation() % 2 * 2 + which;
  }
  void send(ObjectRef ref, std::uint64_t at, Tag tag) {
    world_.link(at)->ref = ref;
    table_.link(at, tag);
  }
  void end_messages(Tag tag) {
    for (std::uint32_t which = 0; which != 2; ++which) {
      table_.unlink(message_of(tag, which), kWatchdog);
    }
  }
  // A fact of the kernel's, not a step of anybody's.
  void end(Tag tag) {
    world_.bury(tag);
    dead_.push_back(tag);
    looks_after_death_ = 40;  // by any of those that wait, again and again
    ++deaths_;
  }

  testing::Choices& choices_;
  int processes_;
  int rounds_;
  std::unique_ptr<World::Memory> memory_ = std::make_unique<World::Memory>();
  World world_{*memory_};
  Table table_{world_, memory_->entries.data(), kCapacity, memory_->header};
  std::vector<Tag> dead_;
  std::string wrong_;
  Schedule* schedule_ = nullptr;
  bool watched_ = false;
  std::size_t deaths_ = 0;
  int looks_after_death_ = 0;
};

TEST(ObjectSchedule, RandomOrdersWithDeaths) {
  const testing::Seeds seeds = testing::seeds_to_try(4'000, 200'000);
  for (std::uint64_t seed = seeds.first; seed != seeds.first + seeds.count; ++seed) {
    RandomChoices choices(seed, static_cast<int>(seed % 4));
    Story story(choices, 2 + static_cast<int>(seed % 3), 2);
    ASSERT_EQ(story.run(), "") << "BROOD_SEED=" << seed;
  }
}

TEST(ObjectSchedule, AllOrdersWithinBounds) {
  ExhaustiveChoices all({.preemptions = prove_everything() ? 1 : 0, .crashes = 1});
  const std::uint64_t most = testing::orders_to_try();
  std::uint64_t runs = 0;
  do {
    Story story(all, 2, 1);
    ASSERT_EQ(story.run(), "") << all.str();
    ++runs;
  } while (runs < most && all.advance());
  std::printf("%llu orders\n", static_cast<unsigned long long>(runs));
  EXPECT_GT(runs, 100U);
}

}  // namespace
}  // namespace brood::detail::object_schedule_test
