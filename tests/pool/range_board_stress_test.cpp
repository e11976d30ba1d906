// Threads work on one RangeBoard and die at random steps: for ThreadSanitizer, which sees the
// memory orders only where all go through one mapping of one process.
#include <brood/pool/range_owner.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

namespace brood::detail::range_board_stress_test {
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
  T load(std::memory_order order = std::memory_order_seq_cst) const {
    step();
    return value_.load(order);
  }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) {
    step();
    value_.store(value, order);
  }
  bool compare_exchange_strong(T& expected, T value, std::memory_order good,
                               std::memory_order bad) {
    step();
    return value_.compare_exchange_strong(expected, value, good, bad);
  }
  bool compare_exchange_weak(T& expected, T value, std::memory_order good, std::memory_order bad) {
    step();
    return value_.compare_exchange_weak(expected, value, good, bad);
  }

 private:
  std::atomic<T> value_{};
};

struct Work {
  RangeBoardShape shape;
  int most_deaths;
};

// The inputs and outputs are plain memory: only the board orders what is done to them. What the
// test itself shares is relaxed for the same reason.
template <template <class> class Atom>
class Crew {
 public:
  Crew(const Work& work, std::uint64_t seed)
      : work_(work),
        random_(seed),
        memory_(::operator new(bytes(), std::align_val_t{128})),
        owner_(RangeBoard<Atom>::format(memory_, bytes(), work.shape)),
        input_(work.shape.items),
        output_(work.shape.items),
        runs_(work.shape.items),
        blamed_(work.shape.items),
        exited_(std::make_unique<std::atomic<bool>[]>(work.shape.slots)),
        threads_(work.shape.slots) {}

  void go() {
    const bool stream = work_.shape.order == TakeOrder::kFifo;
    if (!stream) {
      for (std::uint32_t i = 0; i != work_.shape.items; ++i) input_[i] = i + 1;
      owner_.hand_out();
    }
    for (std::uint32_t s = 0; s != work_.shape.slots; ++s) start(s);
    for (;;) {
      if (stream && owner_.existing() != work_.shape.items) {
        const std::uint32_t more = std::min<std::uint32_t>(
            static_cast<std::uint32_t>(1 + random_() % 50), work_.shape.items - owner_.existing());
        for (std::uint32_t i = 0; i != more; ++i)
          input_[owner_.existing() + i] = owner_.existing() + i + 1;
        owner_.append(more);
        wakes_.fetch_add(1, std::memory_order_relaxed);
      }
      for (std::uint32_t s = 0; s != work_.shape.slots; ++s) {
        if (exited_[s].load(std::memory_order_relaxed)) bury(s);
      }
      if (owner_.heal()) wakes_.fetch_add(1, std::memory_order_relaxed);
      if (owner_.existing() == work_.shape.items && owner_.finished()) break;
      std::this_thread::yield();
    }
    for (std::uint32_t i = 0; i != work_.shape.items; ++i) {  // before the threads are joined
      ASSERT_EQ(owner_.board().state(i), ItemState::kValue) << "item " << i;
      ASSERT_EQ(output_[i], 3 * (i + 1)) << "item " << i;
      ASSERT_GE(runs_[i], 1) << "item " << i;
      ASSERT_LE(runs_[i], 1 + blamed_[i]) << "item " << i << " ran too often";
    }
    over_.store(true, std::memory_order_relaxed);
    for (std::thread& t : threads_) t.join();
  }

  ~Crew() {
    over_.store(true, std::memory_order_relaxed);
    for (std::thread& t : threads_) {
      if (t.joinable()) t.join();
    }
    ::operator delete(memory_, std::align_val_t{128});
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  int deaths() const { return deaths_; }

 private:
  std::size_t bytes() const {
    return RangeBoard<Atom>::bytes_needed(work_.shape.items, work_.shape.slots);
  }

  void start(std::uint32_t slot) {
    const bool mortal = deaths_ < work_.most_deaths;
    const int life = mortal ? static_cast<int>(random_() % 3000) : -1;
    exited_[slot].store(false, std::memory_order_relaxed);
    threads_[slot] = std::thread([this, slot, life] {
      const auto board = RangeBoard<Atom>::attach(memory_, bytes());
      steps_to_live = life;
      try {
        work(board, slot);
      } catch (const Killed&) {
        exited_[slot].store(true, std::memory_order_relaxed);
      }
      steps_to_live = -1;
    });
  }

  void work(const RangeBoard<Atom>& board, std::uint32_t slot) {
    const auto marks = board.marks(slot);
    while (!over_.load(std::memory_order_relaxed)) {
      const auto seen = wakes_.load(std::memory_order_relaxed);
      for (Range chunk = board.take(slot); chunk; chunk = board.next(slot, chunk)) {
        for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) {
          marks.begin(i);
          ++runs_[i];
          output_[i] = 3 * input_[i];
          if (chunk.size() < 4) marks.finish(i, ItemState::kValue);  // or all at once
        }
        if (chunk.size() >= 4) marks.finish(chunk, ItemState::kValue);
      }
      board.leave(slot);  // the owner polls
      while (wakes_.load(std::memory_order_relaxed) == seen &&
             !over_.load(std::memory_order_relaxed)) {
        std::this_thread::yield();
      }
    }
  }

  void bury(std::uint32_t slot) {
    threads_[slot].join();  // as the kernel's word that a process is gone, this orders its stores
    ++deaths_;
    const RangeRecovery found = owner_.recover(slot);
    ASSERT_LE(found.culprits.size(), 1u);
    bool work = found.work;
    for (const std::uint32_t item : found.culprits) {
      ++blamed_[item];
      work = owner_.retry(item) || work;
    }
    if (work) wakes_.fetch_add(1, std::memory_order_relaxed);
    start(slot);
  }

  Work work_;
  std::mt19937_64 random_;
  void* memory_;
  RangeOwner<Atom> owner_;
  std::vector<std::uint32_t> input_;
  std::vector<std::uint32_t> output_;
  std::vector<std::uint8_t> runs_;
  std::vector<std::uint8_t> blamed_;
  std::unique_ptr<std::atomic<bool>[]> exited_;
  std::vector<std::thread> threads_;
  std::atomic<std::uint32_t> wakes_{0};
  std::atomic<bool> over_{false};
  int deaths_ = 0;
};

TEST(RangeBoardStress, ThreadsShareAJob) {
  for (const std::uint32_t chunk : {1u, 7u, 64u}) {
    Crew<std::atomic> crew(
        {.shape = {.items = 40'000, .slots = 4, .chunk = chunk}, .most_deaths = 0}, chunk);
    crew.go();
  }
}

TEST(RangeBoardStress, ThreadsDieAtAnyStep) {
  int deaths = 0;
  for (std::uint64_t seed = 1; seed != 25; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const std::uint32_t chunk = 1 + static_cast<std::uint32_t>(seed % 4);
    Crew<MortalAtom> crew(
        {.shape = {.items = 4'000, .slots = 4, .chunk = chunk}, .most_deaths = 30}, seed);
    crew.go();
    if (HasFatalFailure()) return;
    deaths += crew.deaths();
  }
  std::printf("%d deaths\n", deaths);
  EXPECT_GT(deaths, 50);
}

TEST(RangeBoardStress, ThreadsDieInAStream) {
  int deaths = 0;
  for (std::uint64_t seed = 1; seed != 13; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Crew<MortalAtom> crew(
        {.shape = {.items = 3'000, .slots = 3, .chunk = 1, .order = TakeOrder::kFifo},
         .most_deaths = 30},
        seed);
    crew.go();
    if (HasFatalFailure()) return;
    deaths += crew.deaths();
  }
  std::printf("%d deaths\n", deaths);
  EXPECT_GT(deaths, 20);
}

}  // namespace
}  // namespace brood::detail::range_board_stress_test
