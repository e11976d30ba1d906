// Runs the ring under a deterministic scheduler: orders of steps, and deaths at any of them.
// Not for ThreadSanitizer: one thread plays all.
#include <gtest/gtest.h>

#include <list>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "channel/ring_world.hpp"
#include "support/proof.hpp"
#include "support/schedule.hpp"

namespace brood::detail::ring_schedule_test {
namespace {

using testing::Choices;
using testing::ExhaustiveChoices;
using testing::RandomChoices;
using testing::Schedule;
using testing::ScheduledAtom;

class Trial;
Trial* the_trial = nullptr;

struct ScheduledMachine {
  template <class T>
  using Atom = ScheduledAtom<T>;
  static constexpr std::uint64_t kStride = 3;
  static constexpr std::uint64_t kLagsFrom = 2;
  static int wake(const Atom<std::uint32_t>& word, int count);
};
using TestRing = Ring<ScheduledMachine>;

struct Plan {
  std::uint64_t limit = TestRing::kUnlimited;
  std::uint32_t producers = 2;
  std::uint32_t consumers = 2;
  std::uint32_t messages = 3;  // of each producer
  std::uint32_t batch = 1;
  bool lease = false;  // consumers lease, and sometimes give back
  bool close_early = false;
  std::uint32_t watchers = 0;  // who wait for messages, each a few times, and take none
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
void require(bool good, const std::string& what) {
  if (!good) throw Failure(what);
}

// One life of a queue. A process is a fiber with a tag of its own; when it dies another with a new
// tag goes on in its place.
class Trial {
 public:
  Trial(const Plan& plan, Choices& choices)
      : plan_(plan),
        schedule_(choices),
        choices_(choices),
        area_(new RingArea<ScheduledMachine>),
        ring_(area_->format({.limit = plan.limit, .first_bits = 2})) {
    the_trial = this;
  }
  ~Trial() { the_trial = nullptr; }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  void go() {
    producers_left_ = plan_.producers;
    consumers_left_ = plan_.consumers;
    watchers_left_ = plan_.watchers;
    next_.assign(plan_.producers, 0);
    for (std::uint32_t p = 0; p != plan_.producers; ++p) start_producer(p);
    for (std::uint32_t c = 0; c != plan_.consumers; ++c) start_consumer();
    for (std::uint32_t w = 0; w != plan_.watchers; ++w) start_watcher();
    schedule_.spawn([this] {
      Schedule::wait_until([this] { return producers_left_ == 0 || plan_.close_early; });
      World world{*this, Tag(1, 1)};
      brood::detail::close(ring_, world);
      closed_ = true;
    });
    schedule_.spawn([this] { bury(); });
    schedule_.run(400'000);
    require(producers_left_ == 0 && consumers_left_ == 0 && watchers_left_ == 0,
            "nobody can go on: " + std::to_string(producers_left_) + " producers, " +
                std::to_string(consumers_left_) + " consumers and " +
                std::to_string(watchers_left_) + " watchers wait; " + RingPeek::show(ring_));
    judge();
  }

  int deaths() const { return deaths_; }
  std::uint64_t redelivered() const { return redelivered_; }
  std::uint64_t steps() const { return schedule_.steps(); }

  int wake(const void* word, int count) {
    int woken = 0;
    for (Sleeper& one : sleepers_) {
      if (woken == count) break;
      if (one.word != word || one.woken) continue;
      one.woken = true;
      ++woken;
    }
    return woken;
  }

 private:
  struct Sleeper {
    const void* word;
    bool woken;
  };
  struct World {
    Trial& trial;
    Tag tag;
    Tag self() const { return tag; }
    std::uint32_t epoch() const { return trial.load_epoch(); }
    bool dead(Tag other) const { return trial.dead_.contains(other.bits()); }
    void clean(const TestRing::Held& held) const { held.slot->kind = kNoMessage; }
    bool grow(const TestRing& ring) const { return trial.area_->grow(ring); }
    std::uint32_t look() const { return trial.load_epoch(); }
    void sleep(std::uint32_t look, const ScheduledAtom<std::uint32_t>& word,
               std::uint32_t expected) const {
      if (word.load() != expected) return;  // from here to the wait nothing comes in between
      Trial* const t = &trial;
      const auto me = t->sleepers_.insert(t->sleepers_.end(), Sleeper{&word, false});
      Schedule::wait_until([t, me, look] { return me->woken || t->epoch_ != look; });
      t->sleepers_.erase(me);
    }
    void nap(unsigned) const { Schedule::yield(); }
    bool spin() {  // every other time
      looked = !looked;
      if (looked) Schedule::yield();
      return looked;
    }
    bool settled() const { return true; }
    bool passed() const { return false; }
    TestRing::Hint hint{};
    bool looked = false;
  };

  std::uint32_t load_epoch() const {
    Schedule::point();
    return epoch_;
  }

  struct Message {
    std::uint32_t producer;
    std::uint32_t number;
    friend auto operator<=>(const Message&, const Message&) = default;
  };
  struct Process {  // what the undertaker must know
    Tag tag;
    std::uint32_t producer = ~0U;  // or who else: see below
    std::vector<std::pair<TestRing::Held, Message>> holds;
  };

  Process& new_process(std::uint32_t producer) {
    processes_.push_back(
        Process{Tag(2 + static_cast<std::uint32_t>(processes_.size()), 1), producer, {}});
    return processes_.back();
  }

  void start_producer(std::uint32_t p) {
    Process* const me = &new_process(p);
    schedule_.spawn([this, me] { produce(*me); }, [this, me] { died_.push_back(me); });
  }
  void start_consumer() {
    Process* const me = &new_process(kConsumer);
    schedule_.spawn([this, me] { consume(*me); }, [this, me] { died_.push_back(me); });
  }

  static constexpr std::uint32_t kConsumer = ~0U;
  static constexpr std::uint32_t kWatcher = ~1U;
  void start_watcher() {
    Process* const me = &new_process(kWatcher);
    schedule_.spawn([this, me] { watch(*me); }, [this, me] { died_.push_back(me); });
  }

  void watch(const Process& me) {
    World world{*this, me.tag};
    for (int waits = 0; waits != 4; ++waits) {
      for (bool slept = false;; slept = true) {
        const std::uint32_t look = world.look();
        std::uint32_t expected = 0;
        const RingStep step = look_for_message(ring_, world, expected);
        if (slept) ring_.pass_on(step);
        if (step == RingStep::done || step == RingStep::closed) break;
        if (step == RingStep::wait) {
          world.sleep(look, ring_.items(), expected);
        } else {
          world.nap(0);
        }
      }
      Schedule::yield();
    }
    --watchers_left_;
  }

  void produce(Process& me) {
    World world{*this, me.tag};
    std::uint32_t& next = next_[me.producer];
    while (next < plan_.messages) {
      TestRing::Held slots[4];
      std::size_t got = 0;
      const std::size_t want = std::min<std::size_t>(plan_.batch, plan_.messages - next);
      const RingStep step = wait_to_claim(ring_, world, {slots, want}, got, world.hint);
      if (step == RingStep::closed) {
        require(plan_.close_early, "refused before the end");
        break;
      }
      const std::uint32_t first = next;
      next += static_cast<std::uint32_t>(got);  // whoever goes on after a death uses new numbers
      for (std::size_t i = 0; i != got; ++i) {
        const Message m{me.producer, first + static_cast<std::uint32_t>(i)};
        std::memcpy(slots[i].slot->payload, &m, sizeof m);
        slots[i].slot->kind = 1;
      }
      ring_.commit({slots, got});
      for (std::size_t i = 0; i != got; ++i) {
        put_.insert({me.producer, first + static_cast<std::uint32_t>(i)});
      }
    }
    --producers_left_;
  }

  void consume(Process& me) {
    World world{*this, me.tag};
    for (;;) {
      TestRing::Held slots[4];
      std::size_t got = 0;
      const RingStep step =
          wait_to_take(ring_, world, {slots, plan_.batch}, got, plan_.lease, world.hint);
      if (step == RingStep::closed) break;
      for (std::size_t i = 0; i != got; ++i) {
        Message m{};
        require(slots[i].slot->kind == 1, "a slot without a message was taken");
        std::memcpy(&m, slots[i].slot->payload, sizeof m);
        require(m.producer < plan_.producers && m.number < plan_.messages, "a torn message");
        me.holds.push_back({slots[i], m});
        if (slots[i].slot->deliveries > 1) ++redelivered_;
      }
      while (!me.holds.empty()) {
        const auto [held, message] = me.holds.front();
        Schedule::point();
        if (plan_.lease && held.slot->deliveries == 1 && choices_.pick(4) == 1) {
          ring_.give_back(held);
        } else {
          ring_.release(held);
          deliver(held.position, message);
        }
        me.holds.erase(me.holds.begin());
      }
    }
    --consumers_left_;
  }

  void deliver(std::uint64_t position, const Message& message) {
    require(delivered_.insert({message, position}).second,
            "message " + std::to_string(message.number) + " of producer " +
                std::to_string(message.producer) + " was delivered twice");
  }

  // Plays the kernel and the watchdog.
  void bury() {
    for (;;) {
      Schedule::wait_until([this] {
        return !died_.empty() || producers_left_ + consumers_left_ + watchers_left_ == 0;
      });
      if (died_.empty()) return;
      Process* const dead = died_.front();
      died_.erase(died_.begin());
      ++deaths_;
      // What it no longer held when it died it had taken for good, or given back.
      if (!dead->holds.empty()) {
        const auto& [held, message] = dead->holds.front();
        const bool still = RingPeek::owner<ScheduledMachine>(held) == dead->tag;
        if (!still) gone_.insert(message);
      }
      dead_.insert(dead->tag.bits());
      Schedule::point();
      ++epoch_;
      if (dead->producer == kWatcher) {
        start_watcher();
      } else if (dead->producer == kConsumer) {
        start_consumer();
      } else {
        start_producer(dead->producer);
      }
    }
  }

  void judge() {
    for (const Message& m : put_) {
      require(delivered_.contains(m) || gone_.contains(m),
              "message " + std::to_string(m.number) + " of producer " + std::to_string(m.producer) +
                  " was lost");
    }
    // In the order of positions each producer's numbers grow.
    std::map<std::uint64_t, Message> by_position;
    for (const auto& [message, position] : delivered_) {
      require(by_position.insert({position, message}).second, "two messages in one position");
    }
    std::map<std::uint32_t, std::uint32_t> last;
    for (const auto& [position, message] : by_position) {
      const auto [it, first] = last.insert({message.producer, message.number});
      require(first || it->second < message.number, "out of order");
      it->second = message.number;
    }
    require(ring_.size() == 0, "size() of an empty queue is " + std::to_string(ring_.size()));
    require(ring_.holds(Tag()).others == 0, "a slot is still held");
  }

  Plan plan_;
  Schedule schedule_;
  Choices& choices_;
  std::unique_ptr<RingArea<ScheduledMachine>> area_;
  TestRing ring_;
  std::uint32_t epoch_ = 0;
  std::list<Sleeper> sleepers_;
  std::list<Process> processes_;
  std::vector<Process*> died_;
  std::set<std::uint32_t> dead_;
  std::vector<std::uint32_t> next_;
  std::set<Message> put_;
  std::set<Message> gone_;
  std::map<Message, std::uint64_t> delivered_;
  std::uint32_t producers_left_ = 0;
  std::uint32_t consumers_left_ = 0;
  std::uint32_t watchers_left_ = 0;
  std::uint64_t redelivered_ = 0;
  int deaths_ = 0;
  bool closed_ = false;
};

int ScheduledMachine::wake(const Atom<std::uint32_t>& word, int count) {
  Schedule::point();
  return the_trial == nullptr ? 0 : the_trial->wake(&word, count);
}

struct Case {
  const char* name;
  Plan plan;
  int crashes;
};

const Case kCases[] = {
    {"one_to_one", {.limit = 2, .producers = 1, .consumers = 1, .messages = 8}, 2},
    {"two_to_two", {.limit = 3}, 3},
    {"one_place", {.limit = 1, .producers = 2, .consumers = 2, .messages = 4}, 3},
    {"growing", {.producers = 2, .consumers = 1, .messages = 8}, 3},
    {"growing_batches", {.producers = 2, .consumers = 2, .messages = 12, .batch = 3}, 4},
    {"batches", {.limit = 4, .producers = 2, .consumers = 2, .messages = 8, .batch = 3}, 3},
    {"leases", {.limit = 2, .producers = 1, .consumers = 3, .messages = 9, .lease = true}, 3},
    {"leases_grow", {.producers = 2, .consumers = 3, .messages = 7, .batch = 2, .lease = true}, 4},
    {"closed_early", {.limit = 2, .producers = 3, .messages = 5, .close_early = true}, 3},
    {"closed_while_growing",
     {.producers = 2, .consumers = 1, .messages = 8, .close_early = true},
     3},
    {"many", {.limit = 3, .producers = 4, .consumers = 4, .messages = 4}, 5},
    {"watched", {.limit = 2, .producers = 2, .consumers = 1, .messages = 4, .watchers = 2}, 3},
    {"watched_leases",
     {.producers = 2, .consumers = 2, .messages = 6, .batch = 2, .lease = true, .watchers = 2},
     3},
    {"watched_end",
     {.limit = 2, .producers = 2, .messages = 4, .close_early = true, .watchers = 3},
     3},
};

class RingSchedules : public ::testing::TestWithParam<Case> {};

TEST_P(RingSchedules, RandomOrdersLoseNothing) {
  const Case& c = GetParam();
  const auto [first, count, many] = testing::seeds_to_try(1'000, 50'000);
  std::uint64_t steps = 0;
  std::uint64_t deaths = 0;
  std::uint64_t redelivered = 0;
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
    redelivered += run.redelivered();
  }
  std::printf("%s: %llu seeds, %llu steps, %llu deaths, %llu redelivered\n", c.name,
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(steps),
              static_cast<unsigned long long>(deaths),
              static_cast<unsigned long long>(redelivered));
  if (many) {
    EXPECT_GT(deaths, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, RingSchedules, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

struct Bounded {
  const char* name;
  Plan plan;
  ExhaustiveChoices::Bounds quick;
  ExhaustiveChoices::Bounds full;
};

const Bounded kBounded[] = {
    {"a_death",
     {.limit = 1, .producers = 1, .consumers = 1, .messages = 2},
     {.preemptions = 1, .crashes = 1},
     {.preemptions = 2, .crashes = 1}},
    {"two_deaths",
     {.limit = 2, .producers = 1, .consumers = 1, .messages = 2},
     {.preemptions = 0, .crashes = 2},
     {.preemptions = 1, .crashes = 2}},
    {"orders",
     {.limit = 1, .producers = 2, .consumers = 1, .messages = 1},
     {.preemptions = 2, .crashes = 0},
     {.preemptions = 3, .crashes = 0}},
    {"watched",
     {.limit = 1, .producers = 1, .consumers = 1, .messages = 2, .watchers = 1},
     {.preemptions = 1, .crashes = 0},
     {.preemptions = 2, .crashes = 1}},
};

class RingExhaustive : public ::testing::TestWithParam<Bounded> {};

TEST_P(RingExhaustive, AllOrdersWithinTheBoundsLoseNothing) {
  const Bounded& b = GetParam();
  ExhaustiveChoices choices(testing::prove_everything() ? b.full : b.quick);
  const std::uint64_t most = testing::orders_to_try(60'000);
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

INSTANTIATE_TEST_SUITE_P(Cases, RingExhaustive, ::testing::ValuesIn(kBounded),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace brood::detail::ring_schedule_test
