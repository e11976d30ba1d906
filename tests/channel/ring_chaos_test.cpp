// Producers and consumers are killed and stopped at random; every message is accounted for.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <vector>

#include "channel/ring_world.hpp"
#include "support/forked.hpp"
#include "support/proof.hpp"

namespace brood::detail::ring_chaos_test {
namespace {

using testing::Forked;
using Held = Ring<>::Held;

constexpr std::uint32_t kIds = 1 << 22;
constexpr std::uint32_t kSlots = 4;  // two producers, two consumers

struct Memory {
  RingArea<RingMachine> area;
  std::atomic<std::uint32_t> epoch;
  std::atomic<std::uint32_t> alive[kSlots];  // tags
  std::atomic<std::uint32_t> next;
  std::atomic<std::uint32_t> stopping;
  std::atomic<std::uint32_t> done[kSlots];
  std::array<std::atomic<std::uint8_t>, kIds> put;
  std::array<std::atomic<std::uint8_t>, kIds> got;
};

struct Message {
  std::uint32_t id;
  std::uint32_t words[12];
};

struct World {
  Memory& memory;
  Tag tag;
  Tag self() const { return tag; }
  std::uint32_t epoch() const { return memory.epoch.load(); }
  bool dead(Tag other) const {
    for (const auto& one : memory.alive) {
      if (one.load() == other.bits()) return false;
    }
    return true;
  }
  void clean(const Held& held) const { held.slot->kind = kNoMessage; }
  bool grow(const Ring<>& ring) const { return memory.area.grow(ring); }
  std::uint32_t look() const { return epoch(); }
  void sleep(std::uint32_t look, const std::atomic<std::uint32_t>& word,
             std::uint32_t expected) const {
    const std::array<FutexWord, 2> words{FutexWord{&word, expected},
                                         FutexWord{&memory.epoch, look}};
    futex_wait_any(words, Deadline::never());
  }
  void nap(unsigned) const { ::usleep(100); }
  bool spin() const { return false; }
  bool settled() const { return true; }
  bool passed() const { return false; }
};

struct Plan {
  const char* name;
  Ring<>::Shape shape;
  std::size_t batch;
  bool lease;
};

class Chaos {
 public:
  Chaos(const Plan& plan, std::uint64_t seed) : plan_(plan), random_(seed) {
    memory_->area.format(plan.shape);
  }

  void go(std::chrono::milliseconds time) {
    for (std::uint32_t s = 0; s != kSlots; ++s) start(s);
    const auto end = Deadline::after(time);
    while (!end.passed() && memory_->next.load() < kIds - 10'000) {
      const std::uint32_t victim = static_cast<std::uint32_t>(random_() % kSlots);
      if (random_() % 4 == 0) {
        processes_[victim]->signal(SIGSTOP);
        ::usleep(static_cast<unsigned>(random_() % 2000));
        processes_[victim]->signal(SIGCONT);
      } else {
        bury(victim);
        start(victim);
      }
      ::usleep(static_cast<unsigned>(random_() % 1500));
    }
    memory_->stopping.store(1);
    for (const std::uint32_t s : {0U, 1U}) ASSERT_TRUE(finish(s)) << "a producer never ends";
    World world{*memory_, Tag(1, 1)};
    close(memory_->area.attach(), world);
    for (const std::uint32_t s : {2U, 3U}) ASSERT_TRUE(finish(s)) << "a consumer never ends";
    std::uint32_t missing = 0;
    std::uint32_t count = 0;
    for (std::uint32_t id = 0; id != memory_->next.load(); ++id) {
      ASSERT_LE(memory_->got[id].load(), 1) << "message " << id << " was delivered twice";
      count += memory_->got[id].load();
      if (memory_->put[id].load() != 0 && memory_->got[id].load() == 0) ++missing;
    }
    // What a consumer took for good and died before it noted it.
    EXPECT_LE(missing, consumer_deaths_ * plan_.batch);
    std::printf("%s: %u messages, %u processes killed, %u not noted\n", plan_.name, count, deaths_,
                missing);
    EXPECT_GT(count, 0u);
    EXPECT_GT(deaths_, 10u);
  }

 private:
  void start(std::uint32_t s) {
    const Tag tag(10 + s, ++generation_);
    memory_->alive[s].store(tag.bits());
    announce();
    processes_[s] = std::make_unique<Forked>([this, s, tag] {
      World world{*memory_, tag};
      const Ring<> ring = memory_->area.attach();
      if (s < 2) {
        produce(ring, world);
      } else {
        consume(ring, world);
      }
      memory_->done[s].store(1);
    });
  }
  void announce() {
    memory_->epoch.fetch_add(1);
    futex_wake_all(memory_->epoch);
  }
  void bury(std::uint32_t s) {
    processes_[s]->kill();
    memory_->alive[s].store(0);
    announce();
    ++deaths_;
    if (s >= 2) ++consumer_deaths_;
  }
  bool finish(std::uint32_t s) {
    const Deadline deadline = testing::patience();
    while (memory_->done[s].load() == 0) {
      if (deadline.passed()) return false;
      ::usleep(500);
    }
    return processes_[s]->wait() == 0;
  }

  void produce(const Ring<>& ring, World& world) {
    Ring<>::Hint hint;
    while (memory_->stopping.load() == 0) {
      Held slots[4];
      std::size_t got = 0;
      if (wait_to_claim(ring, world, {slots, plan_.batch}, got, hint) != RingStep::done) return;
      const std::uint32_t first = memory_->next.fetch_add(static_cast<std::uint32_t>(got));
      if (first + got > kIds) {
        for (std::size_t i = 0; i != got; ++i) ring.abandon(slots[i]);
        return;
      }
      for (std::size_t i = 0; i != got; ++i) {
        Message m{first + static_cast<std::uint32_t>(i), {}};
        for (std::uint32_t& word : m.words) word = m.id * 2654435761U;
        std::memcpy(slots[i].slot->payload, &m, sizeof m);
        slots[i].slot->kind = 1;
      }
      ring.commit({slots, got});
      for (std::size_t i = 0; i != got; ++i) memory_->put[first + i].store(1);
    }
  }
  void consume(const Ring<>& ring, World& world) {
    Ring<>::Hint hint;
    for (;;) {
      Held slots[4];
      std::size_t got = 0;
      if (wait_to_take(ring, world, {slots, plan_.batch}, got, plan_.lease, hint) !=
          RingStep::done) {
        return;
      }
      for (std::size_t i = 0; i != got; ++i) {
        Message m{};
        std::memcpy(&m, slots[i].slot->payload, sizeof m);
        for (const std::uint32_t word : m.words) {
          if (word != m.id * 2654435761U) throw std::runtime_error("a torn message");
        }
        ring.release(slots[i]);
        memory_->got[m.id].fetch_add(1);
      }
    }
  }

  Plan plan_;
  std::mt19937_64 random_;
  testing::Shared<Memory> memory_;
  std::array<std::unique_ptr<Forked>, kSlots> processes_;
  std::uint32_t generation_ = 0;
  unsigned deaths_ = 0;
  unsigned consumer_deaths_ = 0;
};

const Plan kPlans[] = {
    {"bounded", {.limit = 8, .first_bits = 4}, 1, false},
    {"one_place", {.limit = 1, .first_bits = 2}, 1, false},
    {"unbounded", {.first_bits = 3}, 1, false},
    {"batches", {.limit = 100, .first_bits = 7}, 4, false},
    {"leases", {.limit = 20, .first_bits = 5}, 2, true},
};

class RingChaos : public ::testing::TestWithParam<Plan> {};

TEST_P(RingChaos, RandomKillsLoseNothing) {
  Chaos chaos(GetParam(), 1);
  chaos.go(std::chrono::milliseconds(testing::prove_everything() ? 20'000 : 700));
}

INSTANTIATE_TEST_SUITE_P(Plans, RingChaos, ::testing::ValuesIn(kPlans),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace brood::detail::ring_chaos_test
