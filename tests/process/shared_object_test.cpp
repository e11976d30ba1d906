// Handles to shared objects as arguments of processes, and what becomes of the objects.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <pthread.h>
#include <unistd.h>
#include <csignal>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <brood/process.hpp>
#include <brood/runtime.hpp>

#include "support/eventually.hpp"
#include "support/forked.hpp"
#include "support/shared_objects.hpp"
#include "support/shared_thing.hpp"
#include "support/start_methods.hpp"

namespace brood::shared_object_test {
namespace {

using namespace brood::testing;

std::size_t held() { return detail::Member::require()->handles().size(); }

void add(Thing thing, int n) { thing.number() += n; }
struct Bag {
  std::map<std::string, Thing> by_name;
  std::optional<Thing> perhaps;
  std::vector<Thing> many;
};
void add_all(Bag bag) {
  for (auto& [name, thing] : bag.by_name) thing.number() += 1;
  if (bag.perhaps) bag.perhaps->number() += 10;
  for (Thing& thing : bag.many) thing.number() += 100;
}
void die_holding(Thing thing) {
  const Thing own(7, 100'000);
  thing.number() += 1;
  std::raise(SIGKILL);
}
void wait_for(Thing gate, Thing thing) {
  while (gate.number() == 0) usleep(100);
  thing.number() += 1;
}
void pass_on(Thing gate, Thing thing, int depth) {
  if (depth == 0) return wait_for(gate, thing);
  Process child(pass_on, gate, thing, depth - 1);
  child.start();
  child.join();
}
Thing* inherited = nullptr;
void use_inherited() { inherited->number() += 1; }

class SharedObjects : public EveryStartMethod {
 protected:
  void SetUp() override {
    EveryStartMethod::SetUp();
    if (IsSkipped()) return;
    before_ = shared_objects();
    held_before_ = held();
  }
  void TearDown() override {
    if (!IsSkipped()) {
      EXPECT_TRUE(eventually([&] { return shared_objects() == before_; }))
          << shared_objects() << " objects, " << before_ << " before";
      EXPECT_EQ(held(), held_before_);
    }
    EveryStartMethod::TearDown();
  }
  std::size_t before_ = 0;
  std::size_t held_before_ = 0;
};

TEST_P(SharedObjects, AreTheSameInTheChild) {
  const Thing small(1);
  const Thing large(2, 5'000'000);
  for (const Thing& thing : {small, large}) {
    Process p(add, thing, 40);
    p.start();
    p.join();
    EXPECT_EQ(p.exitcode(), 0);
  }
  EXPECT_EQ(small.number(), 41);
  EXPECT_EQ(large.number(), 42);
}

TEST_P(SharedObjects, CrossInAggregatesAndContainers) {
  const Thing thing(0);
  const Thing other(0);
  Process p(add_all,
            Bag{.by_name = {{"a", thing}, {"b", other}}, .perhaps = thing, .many = {thing, thing}});
  p.start();
  p.join();
  EXPECT_EQ(thing.number(), 211);
  EXPECT_EQ(other.number(), 1);
}

TEST_P(SharedObjects, OutliveTheirSenderUntilTheyAreDecoded) {
  const Thing result(0);
  std::optional<Thing> gone(std::in_place, 5);
  const detail::ObjectRef ref = gone->ref();
  Process p(wait_for, *gone, result);
  gone.reset();  // the process has it in its arguments
  auto& objects = detail::Member::require()->objects();
  EXPECT_TRUE(objects.held(ref, detail::Member::require()->self()));
  p.start();
  p.join();
  EXPECT_EQ(result.number(), 1);
}

TEST_P(SharedObjects, AreNotKeptByAProcessThatNeverStarts) {
  const Thing thing(0);
  { const Process p(add, Thing(1), 1); }
  EXPECT_EQ(shared_objects(), before_ + 1);
}

TEST_P(SharedObjects, OfTheKilledAreGone) {
  const Thing thing(0);
  for (int i = 0; i != 5; ++i) {
    Process p(die_holding, thing);
    p.start();
    p.join();
    EXPECT_EQ(p.exitcode(), -SIGKILL);
  }
  EXPECT_EQ(thing.number(), 5);
  EXPECT_TRUE(eventually([&] { return shared_objects() == before_ + 1; }));
}

// Killed when there is a child already, and nobody has been told of it.
void die_in_fork(Thing thing) {
  thing.number() += 1;
  if (::pthread_atfork(
          nullptr, [] { std::raise(SIGKILL); }, nullptr) != 0)
    return;
  Process daemon({.daemon = true, .start_method = StartMethod::fork}, [] {
    for (;;) ::pause();
  });
  daemon.start();
}

TEST_P(SharedObjects, OfAChildThatNobodyWasToldOfAreGoneWithItsParent) {
  const Thing thing(0);
  for (int i = 0; i != 3; ++i) {
    Process p(die_in_fork, thing);
    p.start();
    p.join();
    EXPECT_EQ(p.exitcode(), -SIGKILL);
  }
  EXPECT_EQ(thing.number(), 3);
}

TEST_P(SharedObjects, ArePassedOnByTheThird) {
  const Thing gate(0);
  const Thing thing(0);
  Process p(pass_on, gate, thing, 2);
  p.start();
  gate.number() = 1;
  p.join();
  EXPECT_EQ(thing.number(), 1);
}

// The one that passed them on is killed while its child still uses them.
TEST_P(SharedObjects, OutliveWhoPassedThemOn) {
  const Thing gate(0);
  std::optional<Thing> thing(std::in_place, 0, 200'000);
  const detail::ObjectRef ref = thing->ref();
  Process p(pass_on, gate, *thing, 1);
  p.start();
  detail::Member& member = *detail::Member::require();
  // Those that live: who forks holds on behalf of its child before there is one.
  const auto holders = [&] {
    std::vector<detail::Tag> tags;
    member.registry().for_each([&](detail::Tag tag, const detail::RecordWord&) {
      const bool alive = member.registry().alive(tag);
      if (alive && member.objects().held(ref, tag)) tags.push_back(tag);
    });
    return tags;
  };
  ASSERT_TRUE(eventually([&] { return holders().size() == 3; }));
  p.kill();
  p.join();
  ASSERT_TRUE(eventually([&] { return holders().size() == 2; }));
  gate.number() = 1;
  ASSERT_TRUE(eventually([&] { return thing->number() == 1; }));
}

TEST_P(SharedObjects, ThatAForkCopiedAreItsOwn) {
  if (GetParam() != StartMethod::fork) GTEST_SKIP() << "nothing is copied";
  std::optional<Thing> thing(std::in_place, 0);
  inherited = &*thing;
  Process p(use_inherited);
  p.start();
  p.join();
  EXPECT_EQ(p.exitcode(), 0);
  EXPECT_EQ(thing->number(), 1);
  inherited = nullptr;
}

TEST_P(SharedObjects, AreInertInACopyThatIsNoMember) {
  std::optional<Thing> thing(std::in_place, 3);
  in_child([&] {
    EXPECT_THROW(Thing(1), StateError);
    EXPECT_EQ(thing->number(), 3);
    thing.reset();
  });
  EXPECT_TRUE(
      detail::Member::require()->objects().held(thing->ref(), detail::Member::require()->self()));
}

BROOD_UNDER_EVERY_START_METHOD(SharedObjects);

TEST(Handles, AreOneBlockAndCompare) {
  const Thing a(1);
  Thing b = a;
  const Thing c(1);
  EXPECT_EQ(a, b);
  EXPECT_FALSE(a == c);
  detail::VectorSink sink;
  detail::encode(sink, a);
  detail::ByteSource source(sink.bytes());
  EXPECT_EQ(detail::decode<Thing>(source), a);
  const Thing moved = std::move(b);
  EXPECT_EQ(moved, a);
  EXPECT_THROW(static_cast<void>(b.number()), StateError);
  detail::VectorSink other;
  EXPECT_THROW(detail::encode(other, b), StateError);
}

TEST(Handles, DamagedBytesAreErrors) {
  const Thing thing(1);
  const auto decode_ref = [](detail::ObjectRef ref) {
    detail::VectorSink sink;
    detail::encode(sink, ref);
    detail::ByteSource source(sink.bytes());
    return detail::decode<Thing>(source);
  };
  const detail::ObjectRef ref = thing.ref();
  EXPECT_EQ(decode_ref(ref), thing);
  EXPECT_THROW(decode_ref({ref.index, ref.generation + 1}), ObjectGone);
  EXPECT_THROW(decode_ref({~0U, 1}), ObjectGone);
  EXPECT_THROW(decode_ref({0, 0}), ObjectGone);
  const detail::Handle other = detail::Handle::create({.kind = 1000, .contents = 2}, 4);
  EXPECT_THROW(decode_ref(other.ref()), DecodeError);
  const detail::Handle small = detail::Handle::create({.kind = 1000, .contents = 1}, 2);
  EXPECT_THROW(decode_ref(small.ref()), DecodeError);
  const std::byte half[4]{};
  detail::ByteSource truncated(half);
  EXPECT_THROW(detail::decode<Thing>(truncated), DecodeError);
  const std::size_t before = shared_objects();
  detail::VectorSink sink;
  {
    const Thing gone(2);
    detail::encode(sink, gone);
  }
  EXPECT_EQ(shared_objects(), before + 1) << "the sink keeps it";
  static_cast<void>(sink.take_kept());
  EXPECT_EQ(shared_objects(), before);
  detail::ByteSource source(sink.bytes());
  EXPECT_THROW(detail::decode<Thing>(source), ObjectGone);
}

}  // namespace
}  // namespace brood::shared_object_test
