// Kills a process in the heap at every instruction, and its recovery too; then all must be there.
// Not for ThreadSanitizer: processes that are killed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <brood/memory/heap.hpp>

#include "support/proof.hpp"
#include "support/single_step.hpp"

namespace brood::detail::heap_kill_test {
namespace {

using testing::prove_everything;
using testing::SingleStep;

constexpr Tag kMortal(1, 1);     // the process that is killed
constexpr Tag kLive(2, 1);       // one that goes on
constexpr Tag kGone(3, 1);       // one that ended before, in order
constexpr Tag kRecoverer(4, 1);  // recovers, and is killed too
constexpr Tag kNext(5, 1);       // recovers after that, and works with what is there
constexpr std::size_t kSmall = 4096;
constexpr std::size_t kGranules = 10;  // more than any case uses

struct Given {
  std::uint64_t offset;
  std::size_t bytes;
  SharedOwner owner;
};

// A segment, the heaps of those who take part, and what must be true of it.
class World {
 public:
  World() : mortal(std::make_unique<Heap>(segment, kMortal)), tables_(segment.heap_tables()) {}
  ~World() {
    mortal->abandon();
    if (live) live->abandon();
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Given give(Heap& heap, std::size_t bytes) {
    const Block block = heap.allocate(bytes);
    const Given given{segment.offset_of(block.data), bytes, SharedOwner{++owners_}};
    heap.give(block, given.owner);
    return given;
  }
  void keep(const Given& given) {
    shared.push_back(given);
    mark(given);
  }
  // A page of 4 KiB blocks of a dead process: with shared blocks, one that came back, and free
  // ones.
  void leave_orphan() {
    Heap gone(segment, kGone);
    gone.allocate(kSmall);
    keep(give(gone, kSmall));
    const Given back = give(gone, kSmall);
    keep(give(gone, kSmall));
    gone.allocate(kSmall);
    gone.free_shared(back.offset, back.owner);
  }
  void start_live() {
    live = std::make_unique<Heap>(segment, kLive);
    live->allocate(kSmall);
  }

  struct State {
    std::vector<std::uint64_t> directory;
    std::uint64_t high_water;
    std::vector<std::uint32_t> states;
    std::vector<std::uint32_t> notes;
  };
  [[nodiscard]] State save() const {
    State state{std::vector<std::uint64_t>(kGranules), tables_.high_water->load(),
                std::vector<std::uint32_t>(kGranules * tables_.units),
                std::vector<std::uint32_t>(2 * kGranules)};
    std::memcpy(state.directory.data(), tables_.directory, state.directory.size() * 8);
    std::memcpy(state.states.data(), tables_.states, state.states.size() * 4);
    std::memcpy(state.notes.data(), tables_.notes, state.notes.size() * 4);
    return state;
  }
  void restore(const State& state) const {
    std::memcpy(static_cast<void*>(tables_.directory), state.directory.data(),
                state.directory.size() * 8);
    tables_.high_water->store(state.high_water);
    std::memcpy(static_cast<void*>(tables_.states), state.states.data(), state.states.size() * 4);
    std::memcpy(static_cast<void*>(tables_.notes), state.notes.data(), state.notes.size() * 4);
    for (const Given& given : shared) mark(given);
    if (doubtful) mark(*doubtful);
  }

  // What is wrong after all deaths were recovered from, if anything. Uses everything up.
  std::string verdict() {
    if (std::string wrong = look(); !wrong.empty()) return wrong;
    if (std::string wrong = work(); !wrong.empty()) return wrong;
    {
      Heap next(segment, kNext);
      if (doubtful) next.free_shared(doubtful->offset, doubtful->owner);
      for (const Given& given : shared) next.free_shared(given.offset, given.owner);
      for (const Given& given : shared) next.free_shared(given.offset, given.owner);
    }
    Heap::recover(segment, kLive, kNext);
    segment.heap().reclaim_orphans(kNext);
    for (std::size_t g = 0; g < kGranules; ++g) {
      if (tables_.directory[g] != 0) return "granule " + std::to_string(g) + " is never free again";
      if (tables_.notes[g].cut != 0) return "granule " + std::to_string(g) + " is free and cut";
    }
    for (std::size_t unit = 0; unit < kGranules * tables_.units; ++unit) {
      if (tables_.states[unit] != 0) return "unit " + std::to_string(unit) + " is not free at last";
    }
    return {};
  }

  Segment segment = Segment::create();
  std::unique_ptr<Heap> mortal;  // made here; used by forked copies of this process only
  std::unique_ptr<Heap> live;
  std::vector<Given> shared;      // what no death may take
  std::optional<Given> doubtful;  // what the operation gives or frees: either is right
  std::vector<Block> owned;       // by the mortal

 private:
  void mark(const Given& given) const {
    std::memcpy(segment.at(given.offset), &given.offset, sizeof given.offset);
  }
  [[nodiscard]] bool marked(const Given& given) const {
    return std::memcmp(segment.at(given.offset), &given.offset, sizeof given.offset) == 0;
  }
  [[nodiscard]] std::size_t unit_of(std::uint64_t offset) const {
    return (offset - segment.offset_of(tables_.data)) / HeapBoard<>::kUnit;
  }
  [[nodiscard]] bool is(const Given& given) const {
    return tables_.states[unit_of(given.offset)] == BlockWord::shared(given.owner);
  }

  // The words: nothing is the dead's, nothing is in the middle of anything.
  std::string look() {
    std::size_t found = 0;
    for (std::size_t g = 0; g < kGranules; ++g) {
      const std::string here = "granule " + std::to_string(g);
      const std::uint64_t word = tables_.directory[g];
      const std::uint32_t group = group_of(word);
      const Tag holder = Tag::from_bits(word);
      if (word == 0) continue;
      if ((group & HeapBoard<>::kLarge) != 0) {
        if (group != HeapBoard<>::kLarge) continue;
        const std::uint32_t state = tables_.states[g * tables_.units];
        if (BlockWord::is_shared(state)) {
          ++found;
        } else if (state != BlockWord::owned(kLive) &&
                   !(state == BlockWord::kFree && holder == kLive)) {
          return here + " is a large block of nobody";
        }
        continue;
      }
      if ((group & HeapBoard<>::kPage) == 0) return here + " is not the heap's";
      if ((group & HeapBoard<>::kSettling) != 0) return here + " is still being settled";
      if (!holder.none() && holder != kLive) return here + " is the dead's";
      const std::uint32_t size_class = group & 0xffU;
      for (std::uint32_t b = 0; b < segment.heap().cut(g, size_class); ++b) {
        const std::uint32_t state = tables_.states[g * tables_.units + (b << size_class)];
        const std::string block = here + ", block " + std::to_string(b);
        if (BlockWord::is_shared(state)) ++found;
        if (state == BlockWord::kReturned && holder == kLive && tables_.notes[g].returned == 0) {
          return block + " came back and nobody will look for it";
        }
        if (state >> 28U == 1 && (state != BlockWord::owned(kLive) || holder != kLive)) {
          return block + " is the dead's";
        }
      }
    }
    for (const Given& given : shared) {
      if (!is(given)) return "a shared block is not the object's any more";
      if (!marked(given)) return "the bytes of a shared block have changed";
    }
    const std::size_t expected = shared.size() + (doubtful && is(*doubtful) ? 1 : 0);
    if (found != expected) {
      return std::to_string(found) + " blocks are shared, not " + std::to_string(expected);
    }
    return {};
  }

  // Somebody goes on: gets memory that is nobody else's.
  std::string work() {
    Heap next(segment, kNext);
    std::set<std::byte*> mine;
    for (int i = 0; i < 24; ++i) {
      const Block block = next.allocate(kSmall);
      std::memset(block.data, 0x55, kSmall);
      if (!mine.insert(block.data).second) return "a block was handed out twice";
    }
    const Block large = next.allocate(segment.extents().granule_bytes() + 1);
    std::memset(large.data, 0x55, large.bytes);
    for (const Given& given : shared) {
      if (!marked(given)) return "a shared block was handed out";
    }
    if (doubtful && is(*doubtful) && !marked(*doubtful)) return "the given block was handed out";
    for (std::byte* data : mine) next.free({data, kSmall});
    next.free(large);
    return {};
  }

  HeapBoard<>::Tables tables_;
  std::uint32_t owners_ = 0;
};

struct Case {
  const char* name;
  std::function<void(World&)> prepare;
  std::function<void(World&)> operation;  // of the mortal
};

const Case kCases[] = {
    {"allocates_first", [](World&) {}, [](World& w) { w.mortal->allocate(kSmall); }},
    {"allocates_and_frees", [](World& w) { w.keep(w.give(*w.mortal, kSmall)); },
     [](World& w) { w.mortal->free(w.mortal->allocate(kSmall)); }},
    {"frees_more_than_it_keeps",
     [](World& w) {
       for (int i = 0; i < 12; ++i) w.owned.push_back(w.mortal->allocate(kSmall));
     },
     [](World& w) {
       for (const Block& block : w.owned) w.mortal->free(block);
     }},
    {"gives",
     [](World& w) {
       w.keep(w.give(*w.mortal, kSmall));
       w.owned.push_back(w.mortal->allocate(kSmall));
       w.doubtful = {w.segment.offset_of(w.owned[0].data), kSmall, SharedOwner{99}};
       w.restore(w.save());  // marks it
     },
     [](World& w) { w.mortal->give(w.owned[0], SharedOwner{99}); }},
    {"frees_what_a_live_process_made",
     [](World& w) {
       w.start_live();
       w.keep(w.give(*w.live, kSmall));
       w.doubtful = w.give(*w.live, kSmall);
       w.mortal->allocate(kSmall);
       w.restore(w.save());
     },
     [](World& w) { w.mortal->free_shared(w.doubtful->offset, w.doubtful->owner); }},
    {"frees_what_a_dead_process_made",
     [](World& w) {
       w.leave_orphan();
       w.doubtful = w.shared.back();
       w.shared.pop_back();
     },
     [](World& w) { w.mortal->free_shared(w.doubtful->offset, w.doubtful->owner); }},
    {"adopts_what_a_dead_process_left", [](World& w) { w.leave_orphan(); },
     [](World& w) { w.mortal->allocate(kSmall); }},
    {"sweeps_what_came_back",
     [](World& w) {
       for (int i = 0; i < 3; ++i) w.owned.push_back(w.mortal->allocate(kSmall));
       std::vector<Given> given;
       for (int i = 0; i < 12; ++i) given.push_back(w.give(*w.mortal, kSmall));
       for (std::size_t i = 0; i < given.size(); ++i) {
         if (i % 3 == 0) w.keep(given[i]);
       }
       w.start_live();
       for (std::size_t i = 0; i < given.size(); ++i) {
         if (i % 3 != 0) w.live->free_shared(given[i].offset, given[i].owner);
       }
     },
     [](World& w) {
       for (int i = 0; i < 12; ++i) w.mortal->allocate(kSmall);
     }},
    {"allocates_large", [](World& w) { w.mortal->allocate(kSmall); },
     [](World& w) { w.mortal->allocate(3 * w.segment.extents().granule_bytes()); }},
    {"frees_and_allocates_large",
     [](World& w) {
       w.owned.push_back(w.mortal->allocate(2 * w.segment.extents().granule_bytes()));
     },
     [](World& w) {
       w.mortal->free(w.owned[0]);
       w.mortal->allocate(2 * w.segment.extents().granule_bytes());
     }},
    {"gives_large",
     [](World& w) {
       w.owned.push_back(w.mortal->allocate(2 * w.segment.extents().granule_bytes()));
       w.doubtful = {w.segment.offset_of(w.owned[0].data), w.owned[0].bytes, SharedOwner{99}};
       w.restore(w.save());
     },
     [](World& w) { w.mortal->give(w.owned[0], SharedOwner{99}); }},
    {"frees_a_large_one_that_a_live_process_made",
     [](World& w) {
       w.start_live();
       w.keep(w.give(*w.live, 2 * w.segment.extents().granule_bytes()));
       w.doubtful = w.give(*w.live, 3 * w.segment.extents().granule_bytes());
       w.restore(w.save());
     },
     [](World& w) { w.mortal->free_shared(w.doubtful->offset, w.doubtful->owner); }},
    {"ends_in_order_with_everything",
     [](World& w) {
       w.leave_orphan();
       w.start_live();
       const std::size_t granule = w.segment.extents().granule_bytes();
       w.mortal->allocate(kSmall);
       w.mortal->allocate(60);
       w.keep(w.give(*w.mortal, kSmall));
       w.keep(w.give(*w.mortal, granule));
       w.mortal->allocate(2 * granule);
       const Given large = w.give(*w.live, granule);
       w.mortal->free_shared(large.offset, large.owner);  // is kept
       const Given back = w.give(*w.mortal, kSmall);
       w.live->free_shared(back.offset, back.owner);
     },
     [](World& w) { w.mortal.reset(); }},
};

class HeapKill : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
    GetParam().prepare(world_);
    start_ = world_.save();
  }
  [[nodiscard]] std::function<void()> operation() {
    return [this] { GetParam().operation(world_); };
  }
  std::uint64_t length() {
    SingleStep child(operation());
    while (child.step(1000)) continue;
    world_.restore(start_);
    return child.steps();
  }

  World world_;
  World::State start_;
};

// The child is stopped after each instruction, and the family goes on with the memory as it then
// is, as if the child had been killed; then the memory is put back and the child goes on. The
// kernel writes nothing here at a death, so this is the same as killing (see the next test).
TEST_P(HeapKill, NothingIsLostWhereverAProcessStops) {
  const std::uint64_t stride = prove_everything() ? 1 : 1 + length() / 80;
  SingleStep child(operation());
  std::uint64_t points = 0;
  do {
    const World::State here = world_.save();
    // Of one whom nobody watched only its tag tells, where it is to be found; a watchdog that comes
    // after another recovers from the death of that one at least.
    bool named = false;
    world_.segment.heap().for_each_holder([&](Tag tag) { named = named || tag == kMortal; });
    Heap::recover(world_.segment, named ? kMortal : kRecoverer, kNext);
    ASSERT_EQ(world_.verdict(), "") << "stopped after instruction " << child.steps();
    world_.restore(here);
    ++points;
  } while (child.step(stride));
  std::printf("%s: %llu kill points\n", GetParam().name, static_cast<unsigned long long>(points));
  EXPECT_GT(points, 5U);
}

TEST_P(HeapKill, NothingIsLostAfterARealKill) {
  const std::uint64_t stride = 1 + length() / (prove_everything() ? 200 : 9);
  for (std::uint64_t steps = 0;; steps += stride) {
    SingleStep child(operation());
    child.step(steps);
    const bool ended = child.ended();
    child.kill();
    Heap::recover(world_.segment, kMortal, kNext);
    ASSERT_EQ(world_.verdict(), "") << "killed after instruction " << steps;
    world_.restore(start_);
    if (ended) break;
  }
}

// The recovery is killed too, or stopped while another does it all.
TEST_P(HeapKill, RecoveriesMayBeKilledAndOvertaken) {
  const std::uint64_t deaths = prove_everything() ? 24 : 4;
  const std::uint64_t length = HeapKill::length();
  std::uint64_t points = 0;
  for (std::uint64_t death = 0; death <= deaths; ++death) {
    SingleStep child(operation());
    child.step(length * death / deaths);
    child.kill();
    const World::State dead = world_.save();
    const auto recovery = [&] { Heap::recover(world_.segment, kMortal, kRecoverer); };
    std::uint64_t steps = 0;
    {
      SingleStep whole(recovery);
      while (whole.step(1000)) continue;
      steps = whole.steps();
    }
    world_.restore(dead);
    const std::uint64_t stride = 1 + steps / (prove_everything() ? 400 : 12);
    {
      SingleStep recoverer(recovery);
      do {
        const World::State here = world_.save();
        // Whoever is next does the rest of it, in either order.
        Heap::recover(world_.segment, points % 2 == 0 ? kMortal : kRecoverer, kNext);
        Heap::recover(world_.segment, points % 2 == 0 ? kRecoverer : kMortal, kNext);
        ASSERT_EQ(world_.verdict(), "")
            << "the recovery after death " << death << " killed after " << recoverer.steps();
        world_.restore(here);
        ++points;
      } while (recoverer.step(stride));
    }
    for (std::uint64_t stop = 0; stop < steps; stop += 1 + steps / (prove_everything() ? 60 : 4)) {
      world_.restore(dead);
      SingleStep recoverer(recovery);
      recoverer.step(stop);
      Heap::recover(world_.segment, kMortal, kNext);
      {
        // Memory that is free is taken at once, by somebody who must not suffer from the late one.
        Heap next(world_.segment, kNext);
        const Block small = next.allocate(kSmall);
        const Block large = next.allocate(2 * world_.segment.extents().granule_bytes());
        const Given given = world_.give(next, kSmall);
        std::memset(small.data, 0x77, small.bytes);
        std::memset(large.data, 0x77, large.bytes);
        recoverer.finish();
        ASSERT_TRUE(small.data[0] == std::byte{0x77} && large.data[0] == std::byte{0x77})
            << "stopped after " << stop << ": discarded what is another's";
        next.free(small);  // asserts that they are still its own
        next.free(large);
        next.free_shared(given.offset, given.owner);
      }
      Heap::recover(world_.segment, kRecoverer, kNext);
      ASSERT_EQ(world_.verdict(), "")
          << "overtaken after death " << death << ", stopped after " << stop;
    }
    world_.restore(start_);
  }
  std::printf("%s: recovery killed at %llu points\n", GetParam().name,
              static_cast<unsigned long long>(points));
}

INSTANTIATE_TEST_SUITE_P(Cases, HeapKill, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace brood::detail::heap_kill_test
