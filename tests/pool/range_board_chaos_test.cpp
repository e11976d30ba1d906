// Worker processes on a RangeBoard are killed and stopped at random; no item may suffer.
// Not for ThreadSanitizer: processes.
#include <brood/pool/range_owner.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "support/proof.hpp"

namespace brood::detail::range_board_chaos_test {
namespace {

constexpr std::uint32_t kSlots = 3;
constexpr std::uint32_t kItems = 60'000;

struct Shared {
  std::atomic<std::uint32_t> wakes;
  std::atomic<std::uint32_t> owner_woken;
  std::atomic<std::uint8_t> runs[kItems];
  std::uint32_t output[kItems];
};

std::uint32_t answer(std::uint32_t i) {
  std::uint32_t x = i + 1;
  for (int round = 0; round != 400; ++round) x = x * 2654435761u ^ (x >> 13);
  return x;
}

// A job, its worker processes, and the owner, which also plays fate.
class Chaos {
 public:
  Chaos(const RangeBoardShape& shape, std::uint64_t seed)
      : shape_(shape),
        board_bytes_((RangeBoard<>::bytes_needed(shape.items, shape.slots) + 4095) / 4096 * 4096),
        bytes_(board_bytes_ + sizeof(Shared)),
        memory_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        shared_(new(static_cast<std::byte*>(memory_) + board_bytes_) Shared{}),
        owner_(RangeBoard<>::format(memory_, board_bytes_, shape)),
        random_(seed),
        blamed_(shape.items),
        pids_(shape.slots, -1) {}

  ~Chaos() {
    for (std::uint32_t s = 0; s != shape_.slots; ++s) end(s);
    munmap(memory_, bytes_);
  }
  Chaos(const Chaos&) = delete;
  Chaos& operator=(const Chaos&) = delete;

  void go() {
    const bool stream = shape_.order == TakeOrder::kFifo;
    if (!stream) owner_.hand_out();
    for (std::uint32_t s = 0; s != shape_.slots; ++s) start(s);
    const auto end_of_patience = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    std::uint32_t stopped = kSlots;
    while (!(owner_.existing() == shape_.items && owner_.finished())) {
      ASSERT_LT(std::chrono::steady_clock::now(), end_of_patience)
          << "item " << owner_.first_unfinished(0) << " never comes to an end";
      if (stream && owner_.append(static_cast<std::uint32_t>(random_() % 2000)) != 0) wake();
      const auto victim = static_cast<std::uint32_t>(random_() % shape_.slots);
      switch (random_() % 5) {
        case 0:
        case 1:
        case 2:
          ::kill(pids_[victim], SIGKILL);
          if (victim == stopped) stopped = kSlots;
          break;
        case 3:
          if (stopped != kSlots) ::kill(pids_[stopped], SIGCONT);
          stopped = victim;
          ::kill(pids_[victim], SIGSTOP);
          break;
        default:
          if (stopped != kSlots) ::kill(pids_[stopped], SIGCONT);
          stopped = kSlots;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 600));
      for (std::uint32_t s = 0; s != shape_.slots; ++s) {
        int status = 0;
        if (waitpid(pids_[s], &status, WNOHANG) != pids_[s]) continue;
        pids_[s] = -1;
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            << "a worker ended by itself, wait status " << status;
        bury(s);
      }
      // A single task waits until the owner polls; that the owner is told is part of other tests.
      if (shared_->owner_woken.exchange(0) != 0 || stream) {
        if (owner_.heal()) wake();
      }
    }
    for (std::uint32_t i = 0; i != shape_.items; ++i) {
      ASSERT_EQ(owner_.board().state(i), ItemState::kValue) << "item " << i;
      ASSERT_EQ(shared_->output[i], answer(i)) << "item " << i;
      ASSERT_GE(shared_->runs[i], 1) << "item " << i;
      ASSERT_LE(shared_->runs[i], 1 + blamed_[i]) << "item " << i << " ran too often";
    }
  }

  int deaths() const { return deaths_; }
  std::size_t culprits() const {
    return static_cast<std::size_t>(
        std::count_if(blamed_.begin(), blamed_.end(), [](int n) { return n != 0; }));
  }

 private:
  void wake() { shared_->wakes.fetch_add(1); }

  void start(std::uint32_t slot) {
    const pid_t parent = getpid();
    pids_[slot] = fork();
    ASSERT_GE(pids_[slot], 0);
    if (pids_[slot] != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    work(slot);
  }

  [[noreturn]] void work(std::uint32_t slot) {
    const auto board = RangeBoard<>::attach(memory_, board_bytes_);
    const auto marks = board.marks(slot);
    for (;;) {
      const std::uint32_t seen = shared_->wakes.load();
      for (Range chunk = board.take(slot); chunk; chunk = board.next(slot, chunk)) {
        for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) {
          marks.begin(i);
          shared_->runs[i].fetch_add(1);
          shared_->output[i] = answer(i);
          if (chunk.size() < 4) marks.finish(i, ItemState::kValue);  // or all at once
        }
        if (chunk.size() >= 4) marks.finish(chunk, ItemState::kValue);
      }
      if (board.leave(slot)) shared_->owner_woken.store(1);
      while (shared_->wakes.load() == seen) std::this_thread::yield();
    }
  }

  void bury(std::uint32_t slot) {
    ++deaths_;
    const RangeRecovery found = owner_.recover(slot);
    ASSERT_LE(found.culprits.size(), 1u);
    bool work = found.work;
    for (const std::uint32_t item : found.culprits) {
      ++blamed_[item];
      work = owner_.retry(item) || work;
    }
    if (work) wake();
    start(slot);
  }

  void end(std::uint32_t slot) {
    if (pids_[slot] <= 0) return;
    ::kill(pids_[slot], SIGKILL);
    waitpid(pids_[slot], nullptr, 0);
  }

  RangeBoardShape shape_;
  std::size_t board_bytes_;
  std::size_t bytes_;
  void* memory_;
  Shared* shared_;
  RangeOwner<> owner_;
  std::mt19937_64 random_;
  std::vector<int> blamed_;
  std::vector<pid_t> pids_;
  int deaths_ = 0;
};

class RangeBoardChaos : public ::testing::TestWithParam<RangeBoardShape> {};

TEST_P(RangeBoardChaos, RandomKillsAndStopsLoseNothing) {
  const auto start = std::chrono::steady_clock::now();
  const auto end = start + std::chrono::milliseconds(testing::prove_everything() ? 20'000 : 700);
  // Where this process gets little time, jobs may be done before anybody is killed.
  const auto end_of_patience = start + std::chrono::seconds(30);
  int deaths = 0;
  std::size_t culprits = 0;
  std::uint64_t jobs = 0;
  do {
    SCOPED_TRACE(::testing::Message() << "seed " << jobs + 1);
    Chaos chaos(GetParam(), ++jobs);
    chaos.go();
    if (HasFatalFailure()) return;
    deaths += chaos.deaths();
    culprits += chaos.culprits();
  } while (std::chrono::steady_clock::now() < (deaths == 0 ? end_of_patience : end));
  std::printf("%llu jobs of %u items, %d workers killed, %zu items begun anew\n",
              static_cast<unsigned long long>(jobs), GetParam().items, deaths, culprits);
  EXPECT_GT(deaths, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RangeBoardChaos,
    ::testing::Values(RangeBoardShape{.items = kItems, .slots = kSlots, .chunk = 1},
                      RangeBoardShape{.items = kItems, .slots = kSlots, .chunk = 50},
                      RangeBoardShape{
                          .items = kItems, .slots = 2, .chunk = 1, .order = TakeOrder::kFifo}),
    [](const auto& one) {
      return std::string(one.param.order == TakeOrder::kFifo ? "stream" : "map") + "_chunk_" +
             std::to_string(one.param.chunk);
    });

}  // namespace
}  // namespace brood::detail::range_board_chaos_test
