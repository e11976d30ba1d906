// Runs RangeBoard under a deterministic scheduler: every order of steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <brood/pool/range_owner.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/proof.hpp"
#include "support/schedule.hpp"

namespace brood::detail::range_board_schedule_test {
namespace {

using testing::Choices;
using testing::ExhaustiveChoices;
using testing::RandomChoices;
using testing::Schedule;
using testing::ScheduledAtom;

struct Plan {
  RangeBoardShape shape;
  bool retry = true;        // culprits are run again, otherwise they fail
  bool respawn = true;      // a dead worker's slot gets a new one
  bool cancel = false;      // the owner gives up at some point
  bool grow = false;        // chunks grow
  bool at_once = false;     // the states of a chunk are written when it is done
  bool reopen = false;      // every second item ends with an exception first, and is run again
  bool withdraw = false;    // the owner withdraws some items
  bool feed = false;        // the owner hands the items out piece by piece
  std::uint32_t crowd = 0;  // workers at the start; 0: one per slot
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require(bool good, const std::string& what) {
  if (!good) throw Failure(what);
}

// One run of a job by fibers: a worker per slot, and the owner, which never dies.
class Trial {
 public:
  Trial(const Plan& plan, Choices& choices)
      : plan_(plan),
        schedule_(choices),
        choices_(choices),
        bytes_(RangeBoard<ScheduledAtom>::bytes_needed(plan.shape.items, plan.shape.slots)),
        memory_(::operator new(bytes_, std::align_val_t{128})),
        board_(RangeBoard<ScheduledAtom>::format(memory_, bytes_, plan.shape)),
        owner_(board_),
        runs_(plan.shape.items),
        blamed_(plan.shape.items),
        failed_(plan.shape.items),
        withdrawn_(plan.shape.items),
        inside_(plan.shape.items, kNobody),
        item_of_(plan.shape.slots, kNobody),
        begun_(plan.shape.slots, kNobody) {}
  ~Trial() { ::operator delete(memory_, std::align_val_t{128}); }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  void go() {
    if (plan_.feed) {
      owner_.keep_back();
    } else if (plan_.shape.order == TakeOrder::kSlices) {
      owner_.hand_out();
    }
    const std::uint32_t crowd = plan_.crowd != 0 ? plan_.crowd : plan_.shape.slots;
    for (std::uint32_t s = 0; s != crowd; ++s) start_worker(s);
    schedule_.spawn([this] { own(); });
    schedule_.run(200'000);
    require(over_, "nobody can go on, and the job is not finished: item " +
                       std::to_string(owner_.first_unfinished(0)) + " is left");
    for (std::uint32_t i = 0; i != owner_.existing(); ++i) judge(i);
  }

  std::uint64_t steps() const { return schedule_.steps(); }
  int deaths() const { return deaths_; }
  std::uint32_t culprits() const {
    std::uint32_t sum = 0;
    for (const std::uint32_t n : blamed_) sum += n;
    return sum;
  }

 private:
  static constexpr std::uint32_t kNobody = ~0U;

  void judge(std::uint32_t i) {
    const std::string item = "item " + std::to_string(i);
    const ItemState state = board_.state(i);
    require(is_final(state), item + " is not final");
    if (state == ItemState::kValue) {
      require(runs_[i] >= 1 && runs_[i] <= 1 + blamed_[i] + failed_[i],
              item + " ran " + std::to_string(runs_[i]) + " times, blamed " +
                  std::to_string(blamed_[i]) + " times");
    } else if (state == ItemState::kCrashed) {
      require(!plan_.retry && blamed_[i] == 1, item + " failed without a culprit");
    } else {
      require((plan_.cancel || withdrawn_[i] != 0) && state == ItemState::kCancelled,
              item + " has a strange state");
    }
  }

  void start_worker(std::uint32_t slot) {
    schedule_.spawn([this, slot] { work(slot); },
                    [this, slot] {
                      dead_.push_back(slot);
                      ++deaths_;
                    });
  }

  void work(std::uint32_t slot) {
    const auto marks = board_.marks(slot);
    for (;;) {
      const std::uint32_t seen = wakes_;
      for (Range chunk = board_.take(slot); chunk;) {
        std::uint32_t unmarked = chunk.begin;
        Range done = chunk;
        for (std::uint32_t i = chunk.begin; i != done.end; ++i) {
          if (!is_pending(i) && withdrawn_[i] == 0) {
            throw Failure("item " + std::to_string(i) + " handed out twice");
          }
          if (cancelled_) {
            marks.finish(Range{unmarked, i}, ItemState::kValue);
            marks.finish(i, ItemState::kCancelled);
            unmarked = i + 1;
            continue;
          }
          marks.begin(i);
          begun_[slot] = i;
          if (plan_.withdraw && is_final(board_.state(i))) {
            marks.finish(Range{unmarked, i}, ItemState::kValue);
            unmarked = i + 1;
            continue;
          }
          if (withdrawn_[i] == 2) throw Failure("a withdrawn item is begun");
          if (inside_[i] != kNobody) throw Failure("two live workers in one item");
          inside_[i] = slot;
          item_of_[slot] = i;
          ++runs_[i];
          Schedule::point();  // the item's own work
          inside_[i] = kNobody;
          item_of_[slot] = kNobody;
          if (plan_.reopen && i % 2 == 0 && failed_[i] == 0) {
            ++failed_[i];
            marks.finish(Range{unmarked, i}, ItemState::kValue);
            marks.finish(i, ItemState::kException);
            unmarked = i + 1;
            done.end = i + 1;  // committed at once, or the owner could not have it
            continue;
          }
          if (plan_.at_once) continue;
          marks.finish(i, ItemState::kValue);
          unmarked = i + 1;
        }
        marks.finish(Range{unmarked, done.end}, ItemState::kValue);
        if (plan_.grow) board_.grow_chunk(slot, chunk.size() + 1);
        chunk = board_.next(slot, done);
        if (plan_.reopen) owner_woken_ = true;
      }
      if (board_.leave(slot)) owner_woken_ = true;
      Schedule::wait_until([this, seen] { return over_ || wakes_ != seen; });
      if (over_) return;
    }
  }
  bool is_pending(std::uint32_t i) const { return board_.state(i) == ItemState::kPending; }

  void own() {
    const bool stream = plan_.shape.order == TakeOrder::kFifo;
    const std::uint32_t all = plan_.shape.items;
    for (;;) {
      if (stream && owner_.existing() < all && !cancelled_) {
        owner_.append(1 + static_cast<std::uint32_t>(choices_.pick(2)));
        ++wakes_;
      }
      if (const std::uint32_t slice = first_kept_back(); slice != kNobody) {
        // Cancelled or not: who copies inputs does not know.
        const Range items =
            owner_.kept_back(slice, 1 + static_cast<std::uint32_t>(choices_.pick(2)));
        if (plan_.cancel && !cancelled_ && choices_.pick(4) == 1) {
          cancelled_ = true;
          owner_.cancel();
        }
        owner_.let_go(slice, items);
        ++wakes_;
      }
      if (plan_.cancel && !cancelled_ && choices_.pick(2) == 1) {
        cancelled_ = true;  // the flag that workers see
        owner_.cancel();
      }
      while (!dead_.empty()) {
        const std::uint32_t slot = dead_.back();
        dead_.pop_back();
        bury(slot);
      }
      if (plan_.withdraw && owner_.existing() != 0 && choices_.pick(2) == 1) {
        const auto item = static_cast<std::uint32_t>(choices_.pick(owner_.existing()));
        const std::uint32_t before = std::exchange(withdrawn_[item], 1);
        if (owner_.withdraw(item, ItemState::kCancelled)) {
          withdrawn_[item] = 2;
          for (std::uint32_t s = 0; s != plan_.shape.slots; ++s) {
            const bool seen = owner_.begun(s) == item;
            require(seen || item_of_[s] != item, "a withdrawn item is run, and nobody sees it");
          }
        } else {
          withdrawn_[item] = before;
        }
      }
      bool undecided = false;
      if (plan_.reopen && !cancelled_) {
        for (std::uint32_t i = 0; i != owner_.existing(); ++i) {
          if (board_.state(i) != ItemState::kException) continue;
          if (!owner_.reopen(i)) {
            undecided = true;
            continue;
          }
          // From here on it is begun only when it is begun again.
          std::replace(begun_.begin(), begun_.end(), i, kNobody);
        }
      }
      if (owner_.heal()) ++wakes_;
      const bool more =
          (stream && owner_.existing() < all && !cancelled_) || first_kept_back() != kNobody;
      if (!more && !undecided && owner_.finished() && !reopens_left()) break;
      if (more) {
        Schedule::point();
        continue;
      }
      Schedule::wait_until([this] { return owner_woken_ || !dead_.empty(); });
      owner_woken_ = false;
    }
    over_ = true;
  }

  // Of the slices in turn, as far as there is something.
  std::uint32_t first_kept_back() {
    for (std::uint32_t i = 0; i != owner_.slices(); ++i) {
      const std::uint32_t slice = ++fed_ % owner_.slices();
      if (owner_.kept_back(slice, 1)) return slice;
    }
    return kNobody;
  }

  bool reopens_left() const {
    if (!plan_.reopen || cancelled_) return false;
    for (std::uint32_t i = 0; i != owner_.existing(); ++i) {
      if (board_.state(i) == ItemState::kException) return true;
    }
    return false;
  }

  void bury(std::uint32_t slot) {
    const RangeRecovery found = owner_.recover(slot);
    if (found.work) ++wakes_;
    require(found.culprits.size() <= 1, "more than one culprit");
    const std::uint32_t was_in = std::exchange(item_of_[slot], kNobody);
    if (was_in != kNobody) {
      inside_[was_in] = kNobody;
      require(
          withdrawn_[was_in] != 0 || (found.culprits.size() == 1 && found.culprits[0] == was_in),
          "died in item " + std::to_string(was_in) + ", which nobody reports");
    }
    const std::uint32_t begun = std::exchange(begun_[slot], kNobody);
    for (const std::uint32_t item : found.culprits) {
      require(item == begun, "item " + std::to_string(item) + " is blamed, and was not begun");
      ++blamed_[item];
      if (!plan_.retry) {
        owner_.fail(item);
      } else if (owner_.retry(item)) {
        ++wakes_;
      }
    }
    if (plan_.respawn) start_worker(slot);
  }

  Plan plan_;
  Schedule schedule_;
  Choices& choices_;
  std::size_t bytes_;
  void* memory_;
  RangeBoard<ScheduledAtom> board_;
  RangeOwner<ScheduledAtom> owner_;
  // What follows belongs to the test; it changes between steps only.
  std::vector<std::uint32_t> runs_;
  std::vector<std::uint32_t> blamed_;
  std::vector<std::uint32_t> failed_;
  std::vector<std::uint32_t> withdrawn_;  // 1: perhaps, 2: for certain
  std::vector<std::uint32_t> inside_;     // by item: the worker inside
  std::vector<std::uint32_t> item_of_;    // by slot: the item it is in
  std::vector<std::uint32_t> begun_;      // by slot: the item that its present worker began last
  std::vector<std::uint32_t> dead_;
  std::uint32_t wakes_ = 0;
  std::uint32_t fed_ = 0;
  int deaths_ = 0;
  bool owner_woken_ = false;
  bool cancelled_ = false;
  bool over_ = false;
};

RangeBoardShape shape(std::uint32_t items, std::uint32_t slots, std::uint32_t chunk,
                      TakeOrder order = TakeOrder::kSlices) {
  return {.items = items, .slots = slots, .chunk = chunk, .order = order, .zeroed = false};
}

struct Case {
  const char* name;
  Plan plan;
  int crashes;
};

const Case kCases[] = {
    {"two_workers", {.shape = shape(7, 2, 1)}, 2},
    {"three_workers_chunks_of_two", {.shape = shape(14, 3, 2)}, 3},
    {"four_workers_few_items", {.shape = shape(5, 4, 1)}, 4},
    {"late_starters", {.shape = shape(9, 4, 1), .crowd = 2}, 2},
    {"culprits_fail", {.shape = shape(8, 3, 1), .retry = false}, 3},
    {"nobody_comes_back", {.shape = shape(8, 4, 1), .respawn = false}, 3},
    {"growing_chunks", {.shape = shape(20, 3, 1), .grow = true}, 3},
    {"states_at_once", {.shape = shape(14, 3, 3), .at_once = true}, 3},
    {"states_at_once_culprits_fail",
     {.shape = shape(12, 2, 4), .retry = false, .grow = true, .at_once = true},
     3},
    {"states_at_once_cancelled", {.shape = shape(12, 3, 3), .cancel = true, .at_once = true}, 2},
    {"stream", {.shape = shape(8, 2, 1, TakeOrder::kFifo)}, 2},
    {"stream_of_three", {.shape = shape(12, 3, 1, TakeOrder::kFifo), .retry = false}, 3},
    {"exceptions_are_run_again", {.shape = shape(8, 2, 1), .reopen = true}, 2},
    {"exceptions_of_three_in_chunks",
     {.shape = shape(14, 3, 4), .at_once = true, .reopen = true},
     3},
    {"exceptions_of_a_stream", {.shape = shape(8, 2, 1, TakeOrder::kFifo), .reopen = true}, 2},
    {"withdrawn", {.shape = shape(8, 2, 1, TakeOrder::kFifo), .withdraw = true}, 2},
    {"withdrawn_of_three", {.shape = shape(10, 3, 2), .withdraw = true}, 3},
    {"inputs_follow", {.shape = shape(9, 2, 1), .feed = true}, 2},
    {"inputs_of_three_in_chunks", {.shape = shape(16, 3, 2), .at_once = true, .feed = true}, 3},
    {"inputs_follow_and_nobody_comes_back",
     {.shape = shape(8, 4, 1), .respawn = false, .feed = true},
     3},
    {"inputs_follow_and_exceptions", {.shape = shape(8, 2, 1), .reopen = true, .feed = true}, 2},
    {"inputs_follow_withdrawn", {.shape = shape(10, 3, 2), .withdraw = true, .feed = true}, 3},
    {"inputs_follow_cancelled", {.shape = shape(10, 3, 2), .cancel = true, .feed = true}, 2},
    {"cancelled", {.shape = shape(10, 3, 2), .cancel = true}, 2},
    {"cancelled_stream", {.shape = shape(8, 2, 1, TakeOrder::kFifo), .cancel = true}, 2},
};

class RangeBoardSchedules : public ::testing::TestWithParam<Case> {};

TEST_P(RangeBoardSchedules, RandomOrdersLoseNothing) {
  const Case& c = GetParam();
  const auto [first, count, many] = brood::testing::seeds_to_try(1'000, 50'000);
  std::uint64_t steps = 0;
  std::uint64_t deaths = 0;
  std::uint64_t culprits = 0;
  for (std::uint64_t seed = first; seed != first + count; ++seed) {
    RandomChoices choices(seed, c.crashes);
    Trial run(c.plan, choices);
    try {
      run.go();
    } catch (const std::exception& e) {
      FAIL() << c.name << ": " << e.what() << "; again with BROOD_SEED=" << seed;
    }
    steps += run.steps();
    deaths += static_cast<std::uint64_t>(run.deaths());
    culprits += run.culprits();
  }
  std::printf("%s: %llu seeds, %llu steps, %llu deaths, %llu culprits\n", c.name,
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(steps),
              static_cast<unsigned long long>(deaths), static_cast<unsigned long long>(culprits));
  if (many) {
    EXPECT_GT(culprits, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, RangeBoardSchedules, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

struct Bounded {
  const char* name;
  Plan plan;
  ExhaustiveChoices::Bounds quick;
  ExhaustiveChoices::Bounds full;
};

const Bounded kBounded[] = {
    {"deaths_around_a_steal",
     {.shape = shape(2, 2, 1), .respawn = false},
     {.preemptions = 1, .crashes = 1},
     {.preemptions = 2, .crashes = 1}},
    {"deaths_of_three",
     {.shape = shape(3, 2, 1)},
     {.preemptions = 0, .crashes = 1},
     {.preemptions = 1, .crashes = 1}},
    {"orders_of_three",
     {.shape = shape(3, 2, 1)},
     {.preemptions = 1, .crashes = 0},
     {.preemptions = 3, .crashes = 0}},
    {"states_at_once",
     {.shape = shape(3, 2, 2), .respawn = false, .at_once = true},
     {.preemptions = 1, .crashes = 1},
     {.preemptions = 2, .crashes = 1}},
    {"two_deaths",
     {.shape = shape(2, 3, 1), .respawn = false, .crowd = 2},
     {.preemptions = 0, .crashes = 1},
     {.preemptions = 0, .crashes = 2}},
    {"exception_run_again",
     {.shape = shape(2, 2, 1), .respawn = false, .reopen = true},
     {.preemptions = 1, .crashes = 0},
     {.preemptions = 2, .crashes = 1}},
    {"withdrawn",
     {.shape = shape(1, 1, 1), .withdraw = true},
     {.preemptions = 1, .crashes = 1},
     {.preemptions = 2, .crashes = 1}},
    {"inputs_follow",
     {.shape = shape(2, 2, 1), .respawn = false, .feed = true},
     {.preemptions = 0, .crashes = 1},
     {.preemptions = 1, .crashes = 1}},
    {"stream",
     {.shape = shape(1, 2, 1, TakeOrder::kFifo)},
     {.preemptions = 0, .crashes = 1},
     {.preemptions = 1, .crashes = 1}},
};

class RangeBoardExhaustive : public ::testing::TestWithParam<Bounded> {};

TEST_P(RangeBoardExhaustive, AllOrdersWithinTheBoundsLoseNothing) {
  const Bounded& b = GetParam();
  ExhaustiveChoices choices(testing::prove_everything() ? b.full : b.quick);
  const std::uint64_t most = testing::orders_to_try();
  std::uint64_t runs = 0;
  std::uint64_t deaths = 0;
  do {
    Trial run(b.plan, choices);
    try {
      run.go();
    } catch (const std::exception& e) {
      FAIL() << b.name << ": " << e.what() << "; choices " << choices.str();
    }
    ++runs;
    deaths += static_cast<std::uint64_t>(run.deaths());
  } while (runs < most && choices.advance());
  std::printf("%s: %llu runs, %llu deaths\n", b.name, static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(deaths));
  EXPECT_GT(runs, 100u);
}

INSTANTIATE_TEST_SUITE_P(Cases, RangeBoardExhaustive, ::testing::ValuesIn(kBounded),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace brood::detail::range_board_schedule_test
