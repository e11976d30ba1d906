// Kills a process in a step of the ring at every instruction, and those who recover from that too.
// Not for ThreadSanitizer: processes that are killed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "channel/ring_world.hpp"
#include "support/forked.hpp"
#include "support/proof.hpp"
#include "support/single_step.hpp"

namespace brood::detail::ring_kill_test {
namespace {

using testing::prove_everything;
using testing::SingleStep;

using Area = RingArea<RingMachine>;
using Held = Ring<>::Held;

constexpr std::uint32_t kFirstNew = 1000;  // what the victim puts

struct Victims {
  std::uint32_t epoch;
  std::uint32_t dead[4];
};

// The memory that all see.
struct Memory {
  Area area;
  Victims victims;
};

struct World {
  Memory& memory;
  Tag tag;
  Tag self() const { return tag; }
  std::uint32_t epoch() const { return memory.victims.epoch; }
  bool dead(Tag other) const {
    const auto& dead = memory.victims.dead;
    return std::find(std::begin(dead), std::end(dead), other.bits()) != std::end(dead);
  }
  void clean(const Held& held) const { held.slot->kind = kNoMessage; }
  bool grow(const Ring<>& ring) const { return memory.area.grow(ring); }
  int look() const { return 0; }
  void sleep(int, const std::atomic<std::uint32_t>&, std::uint32_t) const {}
  void nap(unsigned) const {}
  bool spin() const { return false; }
  bool settled() const { return true; }
  bool passed() const { return true; }
  Ring<>::Hint put_hint{};
  Ring<>::Hint take_hint{};
};

const Tag kVictim(5, 1);
const Tag kRecoverer(6, 1);
const Tag kSurvivor(7, 1);

bool put(const Ring<>& ring, World& world, std::uint32_t first, std::size_t count) {
  while (count != 0) {
    Held slots[4];
    std::size_t got = 0;
    const std::size_t want = std::min<std::size_t>(count, 4);
    if (wait_to_claim(ring, world, {slots, want}, got, world.put_hint) != RingStep::done)
      return false;
    for (std::size_t i = 0; i != got; ++i) {
      const std::uint32_t id = first++;
      std::memcpy(slots[i].slot->payload, &id, sizeof id);
      slots[i].slot->kind = 1;
    }
    ring.commit({slots, got});
    count -= got;
  }
  return true;
}

std::uint32_t id_in(const Held& held) {
  std::uint32_t id = 0;
  std::memcpy(&id, held.slot->payload, sizeof id);
  return id;
}

// Takes up to `most` messages. Returns what was taken.
std::vector<std::uint32_t> take(const Ring<>& ring, World& world, std::size_t most) {
  std::vector<std::uint32_t> ids;
  while (ids.size() < most) {
    Held held;
    std::size_t got = 0;
    if (wait_to_take(ring, world, {&held, 1}, got, false, world.take_hint) != RingStep::done) break;
    ids.push_back(id_in(held));
    ring.release(held);
  }
  return ids;
}

struct Case {
  const char* name;
  Ring<>::Shape shape;
  std::uint32_t laps;    // messages that went through before
  std::uint32_t inside;  // messages inside: 0, 1, ...
  std::uint32_t puts;    // what the operation may put
  std::uint32_t takes;   // what it may take
  std::function<void(const Ring<>&, World&)> operation;
};

void take_some(const Ring<>& ring, World& world, std::size_t count, bool lease) {
  Held slots[4];
  std::size_t got = 0;
  if (ring.take(world.self(), {slots, count}, got, lease, world.take_hint) != RingStep::done)
    return;
  for (std::size_t i = 0; i != got; ++i) ring.release(slots[i]);
}

const Case kCases[] = {
    {"put",
     {.limit = 3, .first_bits = 2},
     5,
     1,
     1,
     0,
     [](const Ring<>& ring, World& world) { put(ring, world, kFirstNew, 1); }},
    {"put_to_empty",
     {.limit = 1, .first_bits = 2},
     4,
     0,
     1,
     0,
     [](const Ring<>& ring, World& world) { put(ring, world, kFirstNew, 1); }},
    {"put_to_full",
     {.limit = 2, .first_bits = 2},
     6,
     2,
     0,
     0,
     [](const Ring<>& ring, World& world) { put(ring, world, kFirstNew, 1); }},
    {"put_many",
     {.limit = 4, .first_bits = 2},
     7,
     1,
     3,
     0,
     [](const Ring<>& ring, World& world) { put(ring, world, kFirstNew, 3); }},
    {"put_grows",
     {.first_bits = 2},
     3,
     4,
     2,
     0,
     [](const Ring<>& ring, World& world) { put(ring, world, kFirstNew, 2); }},
    {"get",
     {.limit = 3, .first_bits = 2},
     5,
     2,
     0,
     1,
     [](const Ring<>& ring, World& world) { take_some(ring, world, 1, false); }},
    {"get_many",
     {.limit = 4, .first_bits = 2},
     6,
     4,
     0,
     3,
     [](const Ring<>& ring, World& world) { take_some(ring, world, 3, false); }},
    {"get_after_growing",
     {.first_bits = 2},
     2,
     7,
     0,
     4,
     [](const Ring<>& ring, World& world) {
       for (int i = 0; i != 4; ++i) take_some(ring, world, 1, false);
     }},
    {"lease",
     {.limit = 3, .first_bits = 2},
     4,
     2,
     0,
     1,
     [](const Ring<>& ring, World& world) { take_some(ring, world, 1, true); }},
    {"give_back",
     {.limit = 3, .first_bits = 2},
     4,
     2,
     0,
     0,
     [](const Ring<>& ring, World& world) {
       Held held;
       if (ring.take(world.self(), held, true) == RingStep::done) ring.give_back(held);
     }},
    {"get_late",
     {.limit = 3, .first_bits = 2},
     4,
     2,
     0,
     1,
     [](const Ring<>& ring, World& world) {
       Held held;
       if (ring.take(world.self(), held, true) == RingStep::done) ring.give_back(held);
       take_some(ring, world, 1, false);
     }},
    {"finish",
     {.limit = 3, .first_bits = 2},
     4,
     2,
     0,
     1,
     [](const Ring<>& ring, World& world) {
       Held held;
       if (ring.take(world.self(), held, true) != RingStep::done) return;
       ring.finish(held);
       ring.release(held);
     }},
    {"watch",  // a tombstone in the way, then nothing
     {.limit = 3, .first_bits = 2},
     4,
     0,
     0,
     0,
     [](const Ring<>& ring, World& world) {
       Held held;
       if (ring.claim(world.self(), held) == RingStep::done) ring.abandon(held);
       std::uint32_t expected = 0;
       ring.pass_on(look_for_message(ring, world, expected));
     }},
    {"watch_message",
     {.limit = 3, .first_bits = 2},
     4,
     2,
     0,
     1,
     [](const Ring<>& ring, World& world) {
       take_some(ring, world, 1, false);
       std::uint32_t expected = 0;
       Ring<>::announce_sleep(ring.items());
       ring.pass_on(look_for_message(ring, world, expected));
     }},
    {"close",
     {.limit = 3, .first_bits = 2},
     4,
     1,
     0,
     0,
     [](const Ring<>& ring, World& world) { close(ring, world); }},
    {"close_full",
     {.first_bits = 2},
     4,
     4,
     0,
     0,
     [](const Ring<>& ring, World& world) { close(ring, world); }},
};

class RingKill : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
    memory_->victims = {};
    ring_.emplace(memory_->area.format(GetParam().shape));
    World world = as(kSurvivor);
    std::uint32_t id = 1;
    for (std::uint32_t i = 0; i != GetParam().laps; ++i) {
      ASSERT_TRUE(put(*ring_, world, id++, 1));
      ASSERT_EQ(take(*ring_, world, 1).size(), 1u);
    }
    for (std::uint32_t i = 0; i != GetParam().inside; ++i) {
      inside_.push_back(id);
      ASSERT_TRUE(put(*ring_, world, id++, 1));
    }
    next_ = id;
  }

  World as(Tag tag) { return World{*memory_, tag}; }
  const Ring<>& ring() const { return *ring_; }

  std::vector<std::byte> save() const {
    std::vector<std::byte> copy(sizeof(Memory));
    std::memcpy(copy.data(), &*memory_, sizeof(Memory));
    return copy;
  }
  void restore(const std::vector<std::byte>& copy) {
    std::memcpy(static_cast<void*>(&*memory_), copy.data(), sizeof(Memory));
  }

  void die(Tag tag) {
    auto& victims = memory_->victims;
    for (std::uint32_t& one : victims.dead) {
      if (one != 0) continue;
      one = tag.bits();
      break;
    }
    ++victims.epoch;
  }

  // The others go on. What is wrong, if anything.
  std::string carry_on() {
    World world = as(kSurvivor);
    heal(ring(), world);
    if (ring().holds(kSurvivor).mine != 0) return "the survivor holds what it never took";
    const bool closing = ring().closing();
    const std::uint64_t size = ring().size();
    const std::vector<std::uint32_t> got = take(ring(), world, 100);
    if (size != got.size()) {
      return "size() said " + std::to_string(size) + " of " + std::to_string(got.size());
    }
    std::vector<std::uint32_t> old;
    std::vector<std::uint32_t> fresh;
    for (const std::uint32_t id : got) (id >= kFirstNew ? fresh : old).push_back(id);
    const std::set<std::uint32_t> unique(got.begin(), got.end());
    if (unique.size() != got.size()) return "a message was delivered twice";
    for (const std::uint32_t id : old) {
      if (std::find(inside_.begin(), inside_.end(), id) == inside_.end())
        return "a strange message";
    }
    const std::size_t lost = inside_.size() - old.size();
    if (lost > GetParam().takes) return std::to_string(lost) + " messages were lost";
    for (std::size_t i = 0; i < lost; ++i) {
      // What the victim has taken for good it took in order.
      if (std::find(old.begin(), old.end(), inside_[i]) != old.end()) return "taken out of order";
    }
    // All in order but what came back.
    if (GetParam().takes == 0 && std::string(GetParam().name) != "give_back" &&
        !std::is_sorted(old.begin(), old.end())) {
      return "out of order";
    }
    if (fresh.size() > GetParam().puts) return "more was put than the victim put";
    for (std::size_t i = 0; i != fresh.size(); ++i) {
      if (fresh[i] != kFirstNew + i) return "a message before it is missing";
    }
    if (closing) {  // it has been called, which does not say that it has happened
      Held held;
      if (ring().claim(kSurvivor, held) == RingStep::closed) {
        return ring().take(kSurvivor, held) == RingStep::closed ? "" : "closed, and no end";
      }
      ring().abandon(held);
    }
    // It works as ever, three times around.
    const std::uint64_t full = std::min<std::uint64_t>(GetParam().shape.limit, 6);
    for (std::uint32_t i = 0; i != 12; ++i) {
      const std::uint32_t first = next_ + i * 10;
      if (!put(ring(), world, first, full)) return "no room for " + std::to_string(full);
      if (GetParam().shape.limit <= 6 && put(ring(), world, 5, 1)) return "beyond the limit";
      const std::vector<std::uint32_t> all = take(ring(), world, 100);
      if (all.size() != full) return "later messages lost";
      for (std::size_t n = 0; n != all.size(); ++n) {
        if (all[n] != first + n) return "later messages out of order";
      }
    }
    if (ring().size() != 0) return "not empty at the end";
    return {};
  }

  testing::Shared<Memory> memory_;
  std::optional<Ring<>> ring_;
  std::vector<std::uint32_t> inside_;
  std::uint32_t next_ = 0;
};

TEST_P(RingKill, SurvivorsGoOnWhereverItStops) {
  SingleStep child([&] {
    World world = as(kVictim);
    GetParam().operation(ring(), world);
  });
  std::uint64_t points = 0;
  do {
    const auto here = save();
    die(kVictim);
    const std::string wrong = carry_on();
    ASSERT_EQ(wrong, "") << GetParam().name << ", stopped after instruction " << child.steps();
    restore(here);
    ++points;
  } while (child.step());
  std::printf("%s: %llu kill points\n", GetParam().name, static_cast<unsigned long long>(points));
  EXPECT_GT(points, 40u);
}

// The recovery is killed as well, at every instruction of a sample.
TEST_P(RingKill, SurvivorsGoOnWhereverTheRecoveryStops) {
  SingleStep child([&] {
    World world = as(kVictim);
    GetParam().operation(ring(), world);
  });
  const std::uint64_t stride = prove_everything() ? 3 : 41;
  const std::uint64_t inner = prove_everything() ? 3 : 23;
  std::uint64_t points = 0;
  do {
    const auto first = save();
    die(kVictim);
    SingleStep recoverer([&] {
      World world = as(kRecoverer);
      heal(ring(), world);
    });
    do {
      const auto here = save();
      die(kRecoverer);
      const std::string wrong = carry_on();
      ASSERT_EQ(wrong, "") << GetParam().name << ", stopped after instruction " << child.steps()
                           << ", recovery after " << recoverer.steps();
      restore(here);
      ++points;
    } while (recoverer.step(inner));
    restore(first);
  } while (child.step(stride));
  std::printf("%s: %llu nested kill points\n", GetParam().name,
              static_cast<unsigned long long>(points));
  EXPECT_GT(points, 20u);
}

INSTANTIATE_TEST_SUITE_P(Cases, RingKill, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace brood::detail::ring_kill_test
