// What one process sees of a ring: the cursors that all share may lag behind what it says.
#include <gtest/gtest.h>

#include <memory>

#include "channel/ring_world.hpp"

namespace brood::testing::ring_test {
namespace {

using detail::Ring;
using detail::RingArea;
using detail::RingMachine;
using detail::RingStep;
using detail::Tag;

constexpr Tag kMe(5, 1);

class Rings : public ::testing::Test {
 protected:
  Ring<> make(std::uint64_t limit, std::uint32_t bits) {
    return area_->format({.limit = limit, .first_bits = bits});
  }
  static bool put(const Ring<>& ring, Ring<>::Hint& hint) {
    Ring<>::Held held;
    if (!ring.claim_one(kMe, held, hint)) return false;
    held.slot->kind = 1;
    ring.commit(held);
    return true;
  }
  static bool get(const Ring<>& ring, Ring<>::Hint& hint) {
    Ring<>::Held held;
    if (!ring.take_one(kMe, held, false, hint)) return false;
    ring.release(held);
    return true;
  }

 private:
  std::unique_ptr<RingArea<RingMachine>> area_ = std::make_unique<RingArea<RingMachine>>();
};

TEST_F(Rings, RoomInASmallQueueIsSeenAtOnce) {
  const Ring<> ring = make(2, 6);
  Ring<>::Hint putting;
  Ring<>::Hint taking;
  ASSERT_TRUE(put(ring, putting));
  for (int i = 0; i != 100; ++i) {
    ASSERT_TRUE(put(ring, putting)) << i;
    EXPECT_FALSE(put(ring, putting)) << i;
    ASSERT_TRUE(get(ring, taking)) << i;
  }
}

TEST_F(Rings, SizeAndFullCountWhatTheCursorsDoNotSay) {
  const Ring<> ring = make(200, 8);
  Ring<>::Hint putting;
  Ring<>::Hint taking;
  for (std::uint64_t i = 0; i != 200; ++i) {
    EXPECT_EQ(ring.size(), i);
    EXPECT_FALSE(ring.full());
    ASSERT_TRUE(put(ring, putting));
  }
  EXPECT_TRUE(ring.full());
  for (std::uint64_t i = 200; i != 0; --i) {
    EXPECT_EQ(ring.size(), i);
    ASSERT_TRUE(get(ring, taking));
    EXPECT_FALSE(ring.full());
  }
  EXPECT_EQ(ring.size(), 0u);
  EXPECT_FALSE(get(ring, taking));
}

TEST_F(Rings, WhoSaysFullHasLookedAtTheSlots) {
  const Ring<> ring = make(200, 8);
  Ring<>::Hint putting;
  Ring<>::Hint taking;
  for (int i = 0; i != 200; ++i) ASSERT_TRUE(put(ring, putting));
  ASSERT_TRUE(get(ring, taking));
  Ring<>::Held held;
  std::size_t got = 0;
  EXPECT_EQ(ring.claim(kMe, {&held, 1}, got, putting), RingStep::done);
  EXPECT_EQ(ring.claim(kMe, {&held, 1}, got, putting), RingStep::wait);
}

TEST_F(Rings, WhoComesLaterBeginsBehindTheOthers) {
  const Ring<> ring = make(Ring<>::kUnlimited, 6);
  Ring<>::Hint first;
  for (int i = 0; i != 5; ++i) ASSERT_TRUE(put(ring, first));
  Ring<>::Held held;
  ASSERT_EQ(ring.claim(kMe, held), RingStep::done);
  EXPECT_EQ(held.position, 5u);
  ring.abandon(held);
  Ring<>::Hint taking;
  for (int i = 0; i != 3; ++i) ASSERT_TRUE(get(ring, taking));
  ASSERT_EQ(ring.take(kMe, held), RingStep::done);
  EXPECT_EQ(held.position, 3u);
}

}  // namespace
}  // namespace brood::testing::ring_test
