// Kills a worker of a RangeBoard at every instruction, and lets the others carry on.
// Not for ThreadSanitizer: processes that are killed.
#include <brood/pool/range_owner.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "support/proof.hpp"
#include "support/single_step.hpp"

namespace brood::detail::range_board_kill_test {
namespace {

using testing::prove_everything;
using testing::SingleStep;

// How a worker says what became of its items: one by one, or all of a chunk at once.
enum class Style { kItems, kChunks, kGrowingChunks };

struct Job {
  RangeBoardShape shape;
  std::uint32_t existing;  // appended where the order is kFifo
  Style style = Style::kItems;
};

// A board in shared memory, with a count per item of how often it was run.
class World {
 public:
  explicit World(const Job& job)
      : job_(job),
        board_bytes_(RangeBoard<>::bytes_needed(job.shape.items, job.shape.slots)),
        bytes_(board_bytes_ + job.shape.items * sizeof(std::uint32_t)),
        memory_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        board_(RangeBoard<>::format(memory_, bytes_, job.shape)),
        owner_(board_) {
    fill();
  }
  ~World() { munmap(memory_, bytes_); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Back to the state after construction.
  void reset() {
    std::memset(memory_, 0, bytes_);
    board_ = RangeBoard<>::format(memory_, bytes_, job_.shape);
    owner_ = RangeOwner<>(board_);
    holds_.clear();
    fill();
  }

  const RangeBoard<>& board() const { return board_; }
  RangeOwner<>& owner() { return owner_; }
  std::uint32_t* runs() const {
    return reinterpret_cast<std::uint32_t*>(static_cast<std::byte*>(memory_) + board_bytes_);
  }

  void run(std::uint32_t slot, Range chunk) const {
    const auto marks = board_.marks(slot);
    for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) {
      marks.begin(i);
      ++runs()[i];
      if (job_.style == Style::kItems) marks.finish(i, ItemState::kValue);
    }
    if (job_.style != Style::kItems) marks.finish(chunk, ItemState::kValue);
  }
  // What a worker process does until it leaves.
  void work(std::uint32_t slot) const {
    for (Range chunk = board_.take(slot); chunk; chunk = board_.next(slot, chunk)) {
      run(slot, chunk);
      if (job_.style == Style::kGrowingChunks) board_.grow_chunk(slot, chunk.size() * 2);
    }
    board_.leave(slot);
  }

  // This process plays the live workers of the slots in `holds_`, one chunk each in turn.
  void enter(std::uint32_t slot) { holds_.push_back({slot, board_.take(slot)}); }
  void turn() {
    for (auto& [slot, chunk] : holds_) {
      if (chunk) {
        run(slot, chunk);
        chunk = board_.next(slot, chunk);
      }
      if (!chunk && board_.leave(slot)) woken_ = true;
    }
  }
  // Lets the live work until they find nothing more. False: they never come to an end.
  bool run_dry() {
    for (int turns = 0; turns != 10000; ++turns) {
      if (std::exchange(woken_, false) && owner_.heal()) {
        for (auto& [slot, chunk] : holds_) {
          if (!chunk) chunk = board_.take(slot);
        }
      }
      bool busy = false;
      for (const auto& held : holds_) busy = busy || held.chunk;
      if (!busy && !woken_) return true;
      turn();
      // One round of leaving and healing without work is the end.
      if (!busy && woken_ && !owner_.heal()) return true;
    }
    return false;
  }
  void wake() {
    for (auto& [slot, chunk] : holds_) {
      if (!chunk) chunk = board_.take(slot);
    }
  }

  struct State {
    std::vector<std::byte> memory;
    RangeOwner<> owner;
    std::vector<std::pair<std::uint32_t, Range>> holds;
  };
  State save() const {
    State state{std::vector<std::byte>(bytes_), owner_, {}};
    std::memcpy(state.memory.data(), memory_, bytes_);
    for (const auto& h : holds_) state.holds.push_back({h.slot, h.chunk});
    return state;
  }
  void restore(const State& state) {
    std::memcpy(memory_, state.memory.data(), bytes_);
    owner_ = state.owner;
    holds_.clear();
    for (const auto& [slot, chunk] : state.holds) holds_.push_back({slot, chunk});
  }

  // The worker of `slot` is dead. Returns what is wrong, if anything. `retry` a culprit or fail it.
  std::string bury(std::uint32_t slot, bool retry, std::vector<std::uint32_t>& culprits) {
    RangeRecovery found = owner_.recover(slot);
    if (found.culprits.size() > 1) {
      return std::to_string(found.culprits.size()) + " culprits of one death";
    }
    for (const std::uint32_t item : found.culprits) {
      if (runs()[item] > 1) return "culprit " + std::to_string(item) + " ran before";
      culprits.push_back(item);
      if (retry) {
        owner_.retry(item);
      } else {
        owner_.fail(item);
      }
    }
    return {};
  }

  // What is wrong when all is over, if anything.
  std::string verdict(const std::vector<std::uint32_t>& culprits, bool retried) {
    if (!owner_.finished()) {
      return "never finished: item " + std::to_string(owner_.first_unfinished(0)) + " is left";
    }
    for (std::uint32_t i = 0; i != job_.existing; ++i) {
      const auto blamed = std::count(culprits.begin(), culprits.end(), i);
      const std::uint32_t ran = runs()[i];
      const ItemState state = board_.state(i);
      const bool failed = blamed != 0 && !retried;
      if (state != (failed ? ItemState::kCrashed : ItemState::kValue)) {
        return "item " + std::to_string(i) + " ended in state " +
               std::to_string(static_cast<int>(state));
      }
      const bool fine =
          failed ? ran <= 1
                 : (ran == 1 || (blamed != 0 && ran >= 1 && ran <= 1u + unsigned(blamed)));
      if (!fine) {
        return "item " + std::to_string(i) + " ran " + std::to_string(ran) + " times, blamed " +
               std::to_string(blamed) + " times";
      }
    }
    for (std::uint32_t i = job_.existing; i != job_.shape.items; ++i) {
      if (runs()[i] != 0) return "item " + std::to_string(i) + " ran and does not exist";
    }
    return {};
  }

  // The worker of `dead` was killed: the others, and a new one in its slot, go on to the end.
  std::string carry_on(std::uint32_t dead, bool retry, bool respawn) {
    std::vector<std::uint32_t> culprits;
    std::string wrong = bury(dead, retry, culprits);
    if (!wrong.empty()) return wrong;
    if (respawn) enter(dead);
    wake();
    woken_ = true;  // the death woke the owner
    if (!run_dry()) return "the survivors never come to an end";
    return verdict(culprits, retry);
  }

 private:
  void fill() {
    if (job_.shape.order == TakeOrder::kSlices) {
      owner_.hand_out();
    } else {
      owner_.append(job_.existing);
    }
  }

  struct Hold {
    std::uint32_t slot;
    Range chunk;
  };

  Job job_;
  std::size_t board_bytes_;
  std::size_t bytes_;
  void* memory_;
  RangeBoard<> board_;
  RangeOwner<> owner_;
  std::vector<Hold> holds_;
  bool woken_ = false;
};

struct Case {
  const char* name;
  Job job;
  std::vector<std::uint32_t> others;  // slots that already hold a chunk, played by this process
};

const Case kCases[] = {
    {"alone", {.shape = {.items = 11, .slots = 2, .chunk = 2}, .existing = 11}, {1}},
    {"steals_from_a_holder", {.shape = {.items = 9, .slots = 2, .chunk = 1}, .existing = 9}, {1}},
    {"three", {.shape = {.items = 13, .slots = 3, .chunk = 2}, .existing = 13}, {1, 2}},
    {"takes_from_shares", {.shape = {.items = 16, .slots = 4, .chunk = 2}, .existing = 16}, {3}},
    {"stream",
     {.shape = {.items = 12, .slots = 2, .chunk = 1, .order = TakeOrder::kFifo}, .existing = 9},
     {1}},
    {"states_at_once",
     {.shape = {.items = 26, .slots = 2, .chunk = 11}, .existing = 26, .style = Style::kChunks},
     {1}},
    {"growing",
     {.shape = {.items = 24, .slots = 2, .chunk = 1},
      .existing = 24,
      .style = Style::kGrowingChunks},
     {1}},
};

class RangeBoardKill : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
  }
};

// The child is stopped after each instruction, and the job brought to its end on the memory as it
// then is, as if the child had been killed; then the memory is put back and the child goes on. The
// kernel writes nothing here at a death, so this is the same as killing (see the next test).
TEST_P(RangeBoardKill, SurvivorsFinishWhereverAWorkerStops) {
  const Case& c = GetParam();
  World world(c.job);
  for (const std::uint32_t slot : c.others) world.enter(slot);
  SingleStep child([&] { world.work(0); });
  std::uint64_t points = 0;
  std::uint64_t blamed = 0;
  do {
    const World::State here = world.save();
    for (int variant = 0; variant != 4; ++variant) {
      if (!prove_everything() && variant != static_cast<int>(points % 4)) continue;
      const std::string wrong = world.carry_on(0, variant % 2 != 0, variant / 2 != 0);
      ASSERT_EQ(wrong, "") << c.name << ", stopped after instruction " << child.steps()
                           << ", variant " << variant;
      if (!world.owner().all_values()) ++blamed;
      world.restore(here);
    }
    ++points;
  } while (child.step());
  std::printf("%s: %llu kill points, %llu with a failed item\n", c.name,
              static_cast<unsigned long long>(points), static_cast<unsigned long long>(blamed));
  EXPECT_GT(points, 100u);
  EXPECT_GT(blamed, 0u);
}

TEST_P(RangeBoardKill, SurvivorsFinishAfterARealKill) {
  const Case& c = GetParam();
  World world(c.job);
  const std::uint64_t stride = prove_everything() ? 5 : 401;
  std::uint64_t kills = 0;
  for (std::uint64_t steps = 0;; steps += stride) {
    world.reset();
    for (const std::uint32_t slot : c.others) world.enter(slot);
    SingleStep child([&] { world.work(0); });
    child.step(steps);
    const bool ended = child.ended();
    child.kill();
    ++kills;
    const std::string wrong = world.carry_on(0, steps % 2 != 0, steps % 3 == 0);
    ASSERT_EQ(wrong, "") << c.name << ", killed after instruction " << steps;
    if (ended) break;
  }
  std::printf("%s: %llu processes killed\n", c.name, static_cast<unsigned long long>(kills));
}

INSTANTIATE_TEST_SUITE_P(Cases, RangeBoardKill, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

// Two thieves at once: one is stopped in the middle of its move, but lives; the other is killed in
// the middle of its own. What the stopped one holds must not be given to others; once it goes
// on all must end well.
TEST(RangeBoardKillPairs, AStoppedThiefKeepsWhatItHolds) {
  if (const auto reason = SingleStep::why_not()) GTEST_SKIP() << *reason;
  const Job job{.shape = {.items = 12, .slots = 3, .chunk = 1}, .existing = 12};
  World world(job);
  const auto prepare = [&] {
    world.reset();
    // Slot 2 holds everything, so that both thieves go for the same word.
    while (world.board().take(2).size() == 0) {
    }
    world.enter(2);
  };
  // One move takes fewer instructions than that.
  const auto length = [&] {
    prepare();
    SingleStep child([&] { world.board().take(0); });
    while (child.step()) {
    }
    return child.steps();
  }();
  const std::uint64_t stride = prove_everything() ? 2 : 17;
  std::uint64_t pairs = 0;
  for (std::uint64_t stop = 0; stop < length; stop += stride) {
    for (std::uint64_t death = stop % 3; death < length + stride; death += stride) {
      prepare();
      SingleStep stopped([&] { world.work(0); });
      stopped.step(stop);
      SingleStep dying([&] { world.work(1); });
      dying.step(death);
      dying.kill();
      std::vector<std::uint32_t> culprits;
      ASSERT_EQ(world.bury(1, true, culprits), "");
      world.wake();
      ASSERT_TRUE(world.run_dry()) << "survivors wait for the stopped one";
      stopped.finish();
      world.wake();
      world.owner().heal();
      world.wake();
      ASSERT_TRUE(world.run_dry());
      ASSERT_EQ(world.verdict(culprits, true), "")
          << "one stopped after instruction " << stop << ", the other killed after " << death;
      ++pairs;
    }
  }
  std::printf("%llu pairs of stop and kill\n", static_cast<unsigned long long>(pairs));
  EXPECT_GT(pairs, 50u);
}

}  // namespace
}  // namespace brood::detail::range_board_kill_test
