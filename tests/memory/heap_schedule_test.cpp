// Runs HeapBoard under a deterministic scheduler: every order of steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/memory/heap_board.hpp>

#include "support/proof.hpp"
#include "support/schedule.hpp"

namespace brood::detail::heap_schedule_test {
namespace {

using testing::Choices;
using testing::ExhaustiveChoices;
using testing::RandomChoices;
using testing::Schedule;
using testing::ScheduledAtom;

constexpr std::size_t kGranules = 4;
constexpr std::size_t kUnits = 4;  // so a page is four small blocks
constexpr std::size_t kRun = 2;    // granules of a large block
constexpr std::uint32_t kClass = 0;

enum class Op { allocate, free, give, free_shared, allocate_large, free_large, give_large };

struct Plan {
  std::vector<std::vector<Op>> scripts;  // of the processes; empty: `random` operations at random
  int random = 0;
  std::uint32_t recoverers = 2;
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
void require(bool good, const std::string& what) {
  if (!good) throw Failure(what);
}

// One run by fibers: processes that use the heap, and others that recover from their deaths; all
// may die. What is private to a process is here, as a dead fiber's stack is never unwound.
class Trial {
 public:
  Trial(const Plan& plan, Choices& choices)
      : plan_(plan), schedule_(choices), choices_(choices), board_(tables()) {
    for (const auto& script : plan.scripts) {
      auto& process = *processes_.emplace_back(std::make_unique<Process>());
      process.tag = Tag(static_cast<std::uint32_t>(processes_.size()), 1);
      process.script = script;
    }
  }

  void go() {
    for (auto& process : processes_) {
      schedule_.spawn([this, &p = *process] { run(p); }, [this, &p = *process] { die(p); });
    }
    for (std::uint32_t r = 0; r != plan_.recoverers; ++r) {
      const Tag tag(100 + r, 1);
      schedule_.spawn([this, tag] { recover(tag); },
                      [this, tag] {
                        dead_.push_back(tag);
                        ++deaths_;
                      });
    }
    schedule_.run(100'000);
    require(over_ == processes_.size(), "a process never came to its end");
    judge();
  }

  [[nodiscard]] std::uint64_t steps() const { return schedule_.steps(); }
  [[nodiscard]] int deaths() const { return deaths_; }

 private:
  struct Page {
    std::size_t granule;
    std::uint32_t cut;
  };
  struct Process {
    Tag tag;
    std::vector<Op> script;
    std::vector<Page> pages;
    std::vector<std::size_t> list;   // free blocks, by unit
    std::vector<std::size_t> owned;  // in use
    std::vector<std::size_t> large;
    bool dead = false;
  };
  struct Given {
    std::size_t unit;
    std::size_t units;
    SharedOwner owner;
    bool freeing = false;
  };
  enum class Use { nobody, held, shared, freeing };
  struct Truth {
    Use use = Use::nobody;
    const Process* by = nullptr;
  };

  HeapBoard<ScheduledAtom>::Tables tables() {
    return {.directory = directory_.data(),
            .high_water = &high_water_,
            .states = states_.data(),
            .notes = notes_.data(),
            .granules = kGranules,
            .units = kUnits,
            .data = nullptr};
  }

  void die(Process& process) {
    process.dead = true;
    dead_.push_back(process.tag);
    ++deaths_;
    ++over_;
  }

  void recover(Tag me) {
    for (std::size_t next = 0;;) {
      Schedule::wait_until(
          [this, next] { return next < dead_.size() || over_ == processes_.size(); });
      if (next == dead_.size()) return;
      const Tag dead = dead_[next++];
      if (dead != me) board_.recover(dead, me);
    }
  }

  void run(Process& me) {
    if (me.script.empty()) {
      for (int i = 0; i != plan_.random; ++i) perform(me, static_cast<Op>(choices_.pick(7)));
    }
    for (const Op op : me.script) perform(me, op);
    ++over_;
  }

  void perform(Process& me, Op op) {
    switch (op) {
      case Op::allocate:
        return allocate(me);
      case Op::free: {
        if (me.owned.empty()) return;
        const std::size_t unit = take_last(me.owned);
        mark(unit, 1, {});
        board_.disown(unit);
        me.list.push_back(unit);
        return;
      }
      case Op::give:
        if (!me.owned.empty()) give(take_last(me.owned), 1);
        return;
      case Op::free_shared:
        return free_shared(me);
      case Op::allocate_large: {
        const std::size_t first = board_.take_large(kRun, me.tag);
        if (first == kNoRun) return;
        claim(me, first * kUnits, kRun * kUnits);
        board_.own(first * kUnits, me.tag);
        me.large.push_back(first * kUnits);
        return;
      }
      case Op::free_large: {
        if (me.large.empty()) return;
        const std::size_t unit = take_last(me.large);
        mark(unit, kRun * kUnits, {});
        board_.disown(unit);
        board_.release_large(unit / kUnits);
        return;
      }
      case Op::give_large:
        if (!me.large.empty()) give(take_last(me.large), kRun * kUnits);
        return;
    }
  }

  void allocate(Process& me) {
    if (me.list.empty()) refill(me);
    if (me.list.empty()) return;
    const std::size_t unit = take_last(me.list);
    claim(me, unit, 1);
    board_.own(unit, me.tag);
    me.owned.push_back(unit);
  }
  void refill(Process& me) {
    for (const Page& page : me.pages) collect(me, page);
    if (!me.list.empty()) return;
    for (Page& page : me.pages) {
      if (cut(me, page)) return;
    }
    std::size_t granule = board_.adopt_page(kClass, me.tag);
    if (granule != kNoRun) {
      me.pages.push_back({granule, board_.cut(granule, kClass)});
      board_.sweep(granule, kClass, true, [&me, granule](std::uint32_t block) {
        me.list.push_back(granule * kUnits + block);
      });
      if (me.list.empty()) cut(me, me.pages.back());
      return;
    }
    granule = board_.take_page(kClass, me.tag);
    if (granule == kNoRun) {
      board_.reclaim_orphans(me.tag);
      return;
    }
    me.pages.push_back({granule, 0});
    cut(me, me.pages.back());
  }
  void collect(Process& me, const Page& page) {
    if (!board_.take_note(page.granule)) return;
    board_.sweep(page.granule, kClass, false, [&me, granule = page.granule](std::uint32_t block) {
      me.list.push_back(granule * kUnits + block);
    });
  }
  bool cut(Process& me, Page& page) {
    if (page.cut == kUnits) return false;
    board_.publish_cut(page.granule, page.cut + 2);
    for (std::uint32_t i = 0; i != 2; ++i) me.list.push_back(page.granule * kUnits + page.cut + i);
    page.cut += 2;
    return true;
  }

  // From here to the store nobody else may have it, and a death leaves it the dead's: the store is
  // the last step of give().
  void give(std::size_t unit, std::size_t units) {
    const SharedOwner owner{++owners_};
    board_.give(unit, owner);
    mark(unit, units, {Use::shared, nullptr});
    given_.push_back({unit, units, owner});
  }
  // Two may be at the same block at once.
  void free_shared(Process& me) {
    if (given_.empty()) return;
    const std::size_t which = choices_.pick(given_.size());
    const Given given = given_[which];
    if (!given.freeing) {
      given_[which].freeing = true;
      mark(given.unit, given.units, {Use::freeing, nullptr});
    }
    const auto done = board_.give_back(given.unit, given.owner, me.tag);
    if (done != HeapBoard<ScheduledAtom>::GivenBack::large) return;
    board_.disown(given.unit);
    board_.release_large(given.unit / kUnits);
  }

  static std::size_t take_last(std::vector<std::size_t>& from) {
    const std::size_t last = from.back();
    from.pop_back();
    return last;
  }
  void mark(std::size_t unit, std::size_t units, Truth truth) {
    for (std::size_t u = unit; u != unit + units; ++u) truth_[u] = truth;
  }
  void claim(Process& me, std::size_t unit, std::size_t units) {
    for (std::size_t u = unit; u != unit + units; ++u) {
      const Truth& was = truth_[u];
      require(was.use != Use::shared, "unit " + std::to_string(u) + " is a shared object's");
      require(was.use != Use::held || was.by->dead,
              "unit " + std::to_string(u) + " is a live process's");
    }
    mark(unit, units, {Use::held, &me});
  }

  // All is over; outside of the schedule, where steps are not counted and nobody dies.
  void judge() {
    const Tag last(200, 1);
    for (const Tag dead : dead_) board_.recover(dead, last);
    for (const auto& process : processes_) {
      if (process->dead) continue;
      std::size_t cut = 0;
      std::size_t there = process->list.size() + process->owned.size();
      for (const Page& page : process->pages) {
        const std::size_t before = process->list.size();
        collect(*process, page);
        there += process->list.size() - before;
        cut += page.cut;
        for (std::uint32_t b = 0; b != page.cut; ++b) {
          const auto state = states_[page.granule * kUnits + b].load();
          if (BlockWord::is_shared(state)) ++there;
        }
      }
      require(there == cut, "of a live process's " + std::to_string(cut) + " blocks there are " +
                                std::to_string(there));
    }
    for (const auto& process : processes_) board_.recover(process->tag, process->tag);
    for (const Given& given : given_) {
      const auto state = states_[given.unit].load();
      require(given.freeing || state == BlockWord::shared(given.owner), "a shared block is gone");
      if (board_.give_back(given.unit, given.owner, last) ==
          HeapBoard<ScheduledAtom>::GivenBack::large) {
        board_.disown(given.unit);
        board_.release_large(given.unit / kUnits);
      }
    }
    board_.reclaim_orphans(last);
    for (std::size_t g = 0; g != kGranules; ++g) {
      require(directory_[g].load() == 0, "granule " + std::to_string(g) + " is never free again");
      // That something came back may be noted late, and is only a hint.
      require(notes_[g].cut.load() == 0, "a free granule is cut");
    }
    for (std::size_t u = 0; u != states_.size(); ++u) {
      require(states_[u].load() == 0, "unit " + std::to_string(u) + " is not free at last");
    }
  }

  Plan plan_;
  Schedule schedule_;
  Choices& choices_;
  std::array<ScheduledAtom<std::uint64_t>, kGranules> directory_;
  ScheduledAtom<std::uint64_t> high_water_;
  std::array<ScheduledAtom<std::uint32_t>, kGranules * kUnits> states_;
  std::array<PageNote<ScheduledAtom>, kGranules> notes_;
  std::array<Truth, kGranules * kUnits> truth_;
  HeapBoard<ScheduledAtom> board_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<Given> given_;
  std::vector<Tag> dead_;
  std::size_t over_ = 0;
  std::uint32_t owners_ = 0;
  int deaths_ = 0;
};

struct Case {
  const char* name;
  Plan plan;
  int crashes;
};

const Case kCases[] = {
    {"two", {.scripts = {{}, {}}, .random = 12}, 2},
    {"three", {.scripts = {{}, {}, {}}, .random = 10}, 4},
    {"four_and_three_recoverers", {.scripts = {{}, {}, {}, {}}, .random = 8, .recoverers = 3}, 6},
    {"without_deaths", {.scripts = {{}, {}, {}}, .random = 20}, 0},
};

class HeapSchedules : public ::testing::TestWithParam<Case> {};

TEST_P(HeapSchedules, RandomOrdersLoseNothing) {
  const Case& c = GetParam();
  const auto [first, count, many] = testing::seeds_to_try(5'000, 200'000);
  std::uint64_t steps = 0;
  std::uint64_t deaths = 0;
  for (std::uint64_t seed = first; seed != first + count; ++seed) {
    RandomChoices choices(seed, c.crashes);
    Trial trial(c.plan, choices);
    try {
      trial.go();
    } catch (const std::exception& e) {
      FAIL() << c.name << ": " << e.what() << "; again with BROOD_SEED=" << seed;
    }
    steps += trial.steps();
    deaths += static_cast<std::uint64_t>(trial.deaths());
  }
  std::printf("%s: %llu seeds, %llu steps, %llu deaths\n", c.name,
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(steps),
              static_cast<unsigned long long>(deaths));
  if (many) {
    EXPECT_EQ(deaths != 0, c.crashes != 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, HeapSchedules, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

struct Bounded {
  const char* name;
  Plan plan;
  ExhaustiveChoices::Bounds quick;
  ExhaustiveChoices::Bounds full;
};

const Bounded kBounded[] = {
    {"two_free_one_block",
     {.scripts = {{Op::allocate, Op::give, Op::free_shared, Op::allocate, Op::allocate,
                   Op::allocate},
                  {Op::free_shared}},
      .recoverers = 1},
     {.preemptions = 2, .crashes = 1},
     {.preemptions = 3, .crashes = 1}},
    {"two_free_one_large_block",
     {.scripts = {{Op::allocate_large, Op::give_large, Op::free_shared},
                  {Op::free_shared, Op::allocate_large}},
      .recoverers = 1},
     {.preemptions = 1, .crashes = 1},
     {.preemptions = 2, .crashes = 1}},
    {"two_recover_and_a_third_goes_on",
     {.scripts = {{Op::allocate, Op::give, Op::allocate, Op::allocate_large},
                  {Op::allocate, Op::give, Op::free}}},
     {.preemptions = 1, .crashes = 1},
     {.preemptions = 1, .crashes = 2}},
    {"one_adopts_what_another_frees",
     {.scripts = {{Op::allocate, Op::give, Op::allocate, Op::give, Op::allocate},
                  {Op::free_shared},
                  {Op::allocate, Op::allocate, Op::allocate}},
      .recoverers = 1},
     {.preemptions = 1, .crashes = 1},
     {.preemptions = 1, .crashes = 2}},
};

class HeapExhaustive : public ::testing::TestWithParam<Bounded> {};

TEST_P(HeapExhaustive, AllOrdersWithinTheBoundsLoseNothing) {
  const Bounded& b = GetParam();
  ExhaustiveChoices choices(testing::prove_everything() ? b.full : b.quick);
  const std::uint64_t most = testing::orders_to_try(200'000);
  std::uint64_t runs = 0;
  std::uint64_t deaths = 0;
  do {
    Trial trial(b.plan, choices);
    try {
      trial.go();
    } catch (const std::exception& e) {
      FAIL() << b.name << ": " << e.what() << "; choices " << choices.str();
    }
    ++runs;
    deaths += static_cast<std::uint64_t>(trial.deaths());
  } while (runs < most && choices.advance());
  std::printf("%s: %llu runs, %llu deaths\n", b.name, static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(deaths));
  EXPECT_GT(runs, 100U);
}

INSTANTIATE_TEST_SUITE_P(Cases, HeapExhaustive, ::testing::ValuesIn(kBounded),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace brood::detail::heap_schedule_test
