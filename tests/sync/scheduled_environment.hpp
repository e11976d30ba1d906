// The words of `sync` under a scheduler that we control, with a kernel of our own: futexes, life
// words that it marks at a death, and a watchdog that announces deaths some time later.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <brood/memory/tag.hpp>
#include <brood/platform/deadline.hpp>

#include "support/proof.hpp"
#include "support/schedule.hpp"

namespace brood::detail {

struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};
inline void require(bool good, const std::string& what) {
  if (!good) throw Violation(what);
}

/// A world of fibers that stand for threads of different processes.
class ScheduledWorld {
 public:
  explicit ScheduledWorld(testing::Choices& choices) : choices_(choices), schedule_(choices) {
    current() = this;
  }
  ~ScheduledWorld() { current() = nullptr; }
  ScheduledWorld(const ScheduledWorld&) = delete;
  ScheduledWorld& operator=(const ScheduledWorld&) = delete;

  static ScheduledWorld*& current() {
    static thread_local ScheduledWorld* world = nullptr;
    return world;
  }

  /// `on_death` notes what the test knows of it.
  void start(std::function<void()> body, bool mortal = true,
             std::function<void()> on_death = nullptr) {
    const auto id = static_cast<int>(dead_.size());
    dead_.push_back(false);
    over_.push_back(false);
    schedule_.spawn(
        [this, id, body = std::move(body)] {
          body();
          over_[static_cast<std::size_t>(id)] = true;
        },
        mortal ? std::function<void()>([this, id, on_death = std::move(on_death)] {
          die(id);
          if (on_death) on_death();
        })
               : nullptr);
  }
  /// Runs until nobody can go on. True: all who live have come to their end.
  bool run() {
    const std::size_t mortals = dead_.size();
    if (watched_) schedule_.spawn([this] { watch_over(); });
    schedule_.run(200'000);
    for (std::size_t i = 0; i != mortals; ++i) {
      if (!dead_[i] && !over_[i]) return false;
    }
    return true;
  }
  /// From some step on, deadlines have passed.
  void let_time_pass() {
    schedule_.spawn([this] {
      testing::Schedule::point();
      time_passed_ = true;
      for (Sleeper* sleeper : sleepers_) sleeper->awake = sleeper->awake || sleeper->timed;
    });
  }
  /// Nobody announces deaths but those who see them.
  void without_watchdog() { watched_ = false; }
  /// Code that is tested without being stepped: looking at a word for the oracle.
  int deaths() const { return deaths_; }
  std::uint64_t steps() const { return schedule_.steps(); }
  bool dead(int id) const { return dead_[static_cast<std::size_t>(id)]; }
  testing::Choices& choices() { return choices_; }
  static Tag tag_of(int id) { return {static_cast<std::uint32_t>(id), 1}; }
  /// A new thread in the place of a dead one has another tag: `id` counts on.

 private:
  friend struct ScheduledEnvironment;
  using Word = testing::ScheduledAtom<std::uint32_t>;

  static constexpr std::size_t kMostThreads = 1024;

  struct Sleeper {
    const Word* word;
    std::bitset<kMostThreads> lives;  // no memory of its own: a stack that is dropped frees none
    int id;
    bool timed;
    bool awake = false;
    bool by_life = false;
  };

  void die(int id) {
    dead_[static_cast<std::size_t>(id)] = true;
    ++deaths_;
    std::erase_if(sleepers_, [&](Sleeper* sleeper) { return sleeper->id == id; });
    // The kernel wakes one of those who watch the life word.
    std::vector<Sleeper*> watching;
    for (Sleeper* sleeper : sleepers_) {
      if (sleeper->lives.test(static_cast<std::size_t>(id))) watching.push_back(sleeper);
    }
    if (watching.empty()) return;
    Sleeper* chosen = watching[choices_.pick(watching.size())];
    chosen->awake = chosen->by_life = true;
  }
  void watch_over() {
    for (int announced = 0;;) {
      testing::Schedule::wait_until([&] { return deaths_ != announced; });
      announced = deaths_;
      announce();
    }
  }
  void announce() {
    ++epoch_;
    for (Sleeper* sleeper : sleepers_) sleeper->awake = true;
  }
  int wake(const Word& word, int count) {
    testing::Schedule::point();
    int woken = 0;
    std::vector<Sleeper*> here;
    for (Sleeper* sleeper : sleepers_) {
      if (sleeper->word == &word && !sleeper->awake) here.push_back(sleeper);
    }
    for (; woken != count && !here.empty(); ++woken) {
      const std::size_t next = choices_.pick(here.size());
      here[next]->awake = true;
      here.erase(here.begin() + static_cast<std::ptrdiff_t>(next));
    }
    return woken;
  }
  void sleep(std::uint32_t epoch, const Word& word, std::uint32_t expected,
             std::span<const Tag> holders, bool timed) {
    const std::uint32_t now = word.load();  // and no step until it sleeps: the kernel's promise
    if (now != expected || epoch_ != epoch || (timed && time_passed_)) return;
    Sleeper me{.word = &word, .lives = {}, .id = testing::Schedule::current(), .timed = timed};
    for (const Tag holder : holders) {
      const auto id = static_cast<int>(holder.slot());
      if (dead(id)) return;
      me.lives.set(static_cast<std::size_t>(id));
    }
    // The fiber's stack is dropped when it dies, so what others see of it is taken away by die().
    sleepers_.push_back(&me);
    testing::Schedule::wait_until([&me] { return me.awake; });
    std::erase(sleepers_, &me);
    testing::Schedule::point();  // woken, and killed before it does anything
    if (me.by_life) announce();
  }

  testing::Choices& choices_;
  testing::Schedule schedule_;
  std::vector<bool> dead_;
  std::vector<bool> over_;
  std::vector<Sleeper*> sleepers_;
  std::uint32_t epoch_ = 0;
  int deaths_ = 0;
  bool time_passed_ = false;
  bool watched_ = true;
};

struct ScheduledEnvironment {
  template <class T>
  using Atom = testing::ScheduledAtom<T>;
  using Word = Atom<std::uint32_t>;
  using Glance = std::uint32_t;

  static ScheduledWorld& world() { return *ScheduledWorld::current(); }
  static Tag self() { return ScheduledWorld::tag_of(testing::Schedule::current()); }
  static bool dead(Tag tag) {
    testing::Schedule::point();
    return world().dead(static_cast<int>(tag.slot()));
  }
  static std::string describe(Tag tag) { return "fiber " + std::to_string(tag.slot()); }
  static Glance look() { return world().epoch_; }
  static bool may_have_died(Glance since) { return look() != since; }
  static void sleep(Glance glance, const Word& word, std::uint32_t expected,
                    std::span<const Tag> holders, Deadline deadline) {
    world().sleep(glance, word, expected, holders, !deadline.is_never());
  }
  static void sleep(Glance glance, const Word& word, std::uint32_t expected, Tag holder,
                    Deadline deadline) {
    sleep(glance, word, expected, std::span(&holder, holder.none() ? 0 : 1), deadline);
  }
  static bool passed(Deadline deadline) {
    return deadline.is_now() || (!deadline.is_never() && world().time_passed_);
  }
  static int wake(const Word& word, int count) { return world().wake(word, count); }
  static int wake_all(const Word& word) { return world().wake(word, 1 << 30); }
  static void announce() {
    testing::Schedule::point();
    world().announce();
  }
  static int spins() { return 0; }
  static void relax() {}
};

/// As the choices say, but nobody dies where `may_die` says no.
class DeathsWhere final : public testing::Choices {
 public:
  DeathsWhere(testing::Choices& choices, std::function<bool()> may_die)
      : choices_(choices), may_die_(std::move(may_die)) {}
  bool preempt() override { return choices_.preempt(); }
  bool crash() override { return may_die_() && choices_.crash(); }
  std::size_t pick(std::size_t count) override { return choices_.pick(count); }

 private:
  testing::Choices& choices_;
  std::function<bool()> may_die_;
};

/// A deadline that passes when ScheduledWorld::let_time_pass says so.
inline Deadline some_time() { return Deadline::at(Deadline::Clock::time_point{}); }

/// Runs `trial(choices)`, which throws when something is wrong, with many seeds.
template <class Trial>
void with_random_orders(const char* name, int crashes, Trial trial, std::uint64_t quick = 2'000,
                        std::uint64_t full = 100'000) {
  const auto [first, count, many] = testing::seeds_to_try(quick, full);
  std::uint64_t deaths = 0;
  for (std::uint64_t seed = first; seed != first + count; ++seed) {
    testing::RandomChoices choices(seed, crashes);
    try {
      deaths += static_cast<std::uint64_t>(trial(choices));
    } catch (const std::exception& e) {
      FAIL() << name << ": " << e.what() << "; again with BROOD_SEED=" << seed;
    }
  }
  std::printf("%s: %llu seeds, %llu deaths\n", name, static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(deaths));
  if (many && crashes != 0) {
    EXPECT_GT(deaths, 0u);
  }
}

/// The same with all orders within bounds.
template <class Trial>
void with_all_orders(const char* name, testing::ExhaustiveChoices::Bounds bounds, Trial trial) {
  testing::ExhaustiveChoices choices(bounds);
  const std::uint64_t most = testing::orders_to_try();
  std::uint64_t runs = 0;
  std::uint64_t deaths = 0;
  do {
    try {
      deaths += static_cast<std::uint64_t>(trial(choices));
    } catch (const std::exception& e) {
      FAIL() << name << ": " << e.what() << "; choices " << choices.str();
    }
    ++runs;
  } while (runs < most && choices.advance());
  std::printf("%s: %llu runs, %llu deaths\n", name, static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(deaths));
  EXPECT_GT(runs, 50u);
}

}  // namespace brood::detail
