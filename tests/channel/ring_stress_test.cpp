// Threads put and take through one ring and die at random steps: for ThreadSanitizer, which sees
// the memory orders only where all go through one mapping of one process.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "channel/ring_world.hpp"

namespace brood::detail::ring_stress_test {
namespace {

// The thread it is thrown in plays a process that was killed.
struct Killed {};

thread_local int steps_to_live = -1;  // below zero: immortal

void step() {
  if (steps_to_live >= 0 && steps_to_live-- == 0) throw Killed{};
}

// std::atomic with its orders, and a death in front of any operation.
template <class T>
class MortalAtom {
 public:
  static constexpr bool is_always_lock_free = std::atomic<T>::is_always_lock_free;
  constexpr MortalAtom() = default;
  constexpr explicit MortalAtom(T value) : value_(value) {}
  T load(std::memory_order order = std::memory_order_seq_cst) const {
    step();
    return value_.load(order);
  }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) {
    step();
    value_.store(value, order);
  }
  T exchange(T value) {
    step();
    return value_.exchange(value);
  }
  T fetch_add(T value) {
    step();
    return value_.fetch_add(value);
  }
  bool compare_exchange_strong(T& expected, T value) {
    step();
    return value_.compare_exchange_strong(expected, value);
  }

 private:
  std::atomic<T> value_{};
};

struct MortalMachine {
  template <class T>
  using Atom = MortalAtom<T>;
  static constexpr std::uint64_t kStride = 4;
  static constexpr std::uint64_t kLagsFrom = 4;
  static int wake(const MortalAtom<std::uint32_t>&, int) { return 0; }  // all poll
};
using StressRing = Ring<MortalMachine>;
using Held = StressRing::Held;

constexpr std::uint32_t kThreads = 4;  // two producers, two consumers
constexpr std::uint32_t kMost = 200'000;

class Crew {
 public:
  Crew(StressRing::Shape shape, std::size_t batch, std::uint32_t messages, std::uint64_t seed)
      : batch_(batch),
        messages_(messages),
        random_(seed),
        area_(new RingArea<MortalMachine>),
        ring_(area_->format(shape)),
        put_(kMost),
        got_(kMost) {
    for (auto& one : alive_) one.store(0);
  }

  void go() {
    for (std::uint32_t s = 0; s != kThreads; ++s) start(s);
    std::uint32_t left = kThreads;
    bool closed = false;
    while (left != 0) {
      for (std::uint32_t s = 0; s != kThreads; ++s) {
        const int state = state_[s].load();
        if (state == kRunning) continue;
        if (!threads_[s].joinable()) continue;
        threads_[s].join();  // as the kernel's word that it is gone, this orders its stores
        if (state == kDead) {
          ++deaths_;
          if (s >= 2) ++consumer_deaths_;
          alive_[s].store(0);
          epoch_.fetch_add(1);
          start(s);
        } else {
          --left;
        }
      }
      if (!closed && !threads_[0].joinable() && !threads_[1].joinable()) {
        World world{*this, Tag(1, 1)};
        close(ring_, world);
        closed = true;
      }
      std::this_thread::yield();
    }
    std::uint32_t missing = 0;
    for (std::uint32_t id = 0; id != next_.load(); ++id) {
      ASSERT_LE(got_[id].load(), 1) << "message " << id << " was delivered twice";
      if (put_[id].load() != 0 && got_[id].load() == 0) ++missing;
    }
    EXPECT_LE(missing, consumer_deaths_ * batch_);
  }
  unsigned deaths() const { return deaths_; }

 private:
  enum { kRunning, kDead, kFinished };

  struct World {
    Crew& crew;
    Tag tag;
    Tag self() const { return tag; }
    std::uint32_t epoch() const { return crew.epoch_.load(); }
    bool dead(Tag other) const {
      for (const auto& one : crew.alive_) {
        if (one.load() == other.bits()) return false;
      }
      return other != Tag(1, 1);
    }
    void clean(const Held& held) const { held.slot->kind = kNoMessage; }
    bool grow(const StressRing& ring) const { return crew.area_->grow(ring); }
    int look() const { return 0; }
    void sleep(int, const MortalAtom<std::uint32_t>&, std::uint32_t) const {
      std::this_thread::yield();
    }
    void nap(unsigned) const { std::this_thread::yield(); }
    bool spin() const { return false; }
    bool settled() const { return true; }
    bool passed() const { return false; }
  };

  void start(std::uint32_t s) {
    const Tag tag(10 + s, ++generation_);
    alive_[s].store(tag.bits());
    epoch_.fetch_add(1);
    state_[s].store(kRunning);
    const int life = deaths_ < 60 ? static_cast<int>(random_() % 4000) : -1;
    threads_[s] = std::thread([this, s, tag, life] {
      World world{*this, tag};
      steps_to_live = life;
      int end = kFinished;
      try {
        s < 2 ? produce(world) : consume(world);
      } catch (const Killed&) {
        end = kDead;
      }
      steps_to_live = -1;
      state_[s].store(end);
    });
  }

  void produce(World& world) {
    StressRing::Hint hint;
    for (;;) {
      Held slots[4];
      std::size_t got = 0;
      wait_to_claim(ring_, world, {slots, batch_}, got, hint);
      const std::uint32_t first = next_.fetch_add(static_cast<std::uint32_t>(got));
      if (first + got > messages_) {
        for (std::size_t i = 0; i != got; ++i) ring_.abandon(slots[i]);
        return;
      }
      for (std::size_t i = 0; i != got; ++i) {
        const std::uint32_t id = first + static_cast<std::uint32_t>(i);
        for (std::size_t at = 0; at != 12; ++at) {
          std::memcpy(slots[i].slot->payload + 4 * at, &id, sizeof id);
        }
        slots[i].slot->kind = 1;
      }
      ring_.commit({slots, got});
      for (std::size_t i = 0; i != got; ++i) put_[first + i].store(1, std::memory_order_relaxed);
    }
  }
  void consume(World& world) {
    StressRing::Hint hint;
    for (;;) {
      Held slots[4];
      std::size_t got = 0;
      if (wait_to_take(ring_, world, {slots, batch_}, got, false, hint) == RingStep::closed) return;
      for (std::size_t i = 0; i != got; ++i) {
        std::uint32_t ids[12];
        std::memcpy(ids, slots[i].slot->payload, sizeof ids);
        for (const std::uint32_t id : ids) {
          if (id != ids[0]) throw std::runtime_error("a torn message");
        }
        ring_.release(slots[i]);
        got_[ids[0]].fetch_add(1, std::memory_order_relaxed);
      }
    }
  }

  std::size_t batch_;
  std::uint32_t messages_;
  std::mt19937_64 random_;
  std::unique_ptr<RingArea<MortalMachine>> area_;
  StressRing ring_;
  std::atomic<std::uint32_t> epoch_{0};
  std::atomic<std::uint32_t> next_{0};
  std::array<std::atomic<std::uint32_t>, kThreads> alive_;
  std::array<std::atomic<int>, kThreads> state_{};
  std::array<std::thread, kThreads> threads_;
  std::vector<std::atomic<std::uint8_t>> put_;
  std::vector<std::atomic<std::uint8_t>> got_;
  std::uint32_t generation_ = 0;
  unsigned deaths_ = 0;
  unsigned consumer_deaths_ = 0;
};

TEST(RingStress, ThreadsDieAtAnyStep) {
  unsigned deaths = 0;
  for (std::uint64_t seed = 1; seed != 7; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const bool bounded = seed % 2 != 0;
    Crew crew({.limit = bounded ? 5 : StressRing::kUnlimited, .first_bits = 3}, 1 + seed % 3,
              20'000, seed);
    crew.go();
    if (HasFatalFailure()) return;
    deaths += crew.deaths();
  }
  std::printf("%u deaths\n", deaths);
  EXPECT_GT(deaths, 50U);
}

}  // namespace
}  // namespace brood::detail::ring_stress_test
