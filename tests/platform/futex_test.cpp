#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include <brood/platform/futex.hpp>

#include "support/forked.hpp"
#include "support/sandbox.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::futex_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using Word = std::atomic<std::uint32_t>;
using Clock = Deadline::Clock;

#define SKIP_UNDER_THREAD_SANITIZER() \
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer"

/// Wakes `word` until somebody slept on it. False when nobody ever does.
bool wake_a_sleeper(const Word& word) {
  const Deadline deadline = patience();
  while (futex_wake(word, 1) == 0) {
    if (deadline.passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(Futex, ReturnsAtOnceWhenTheValueIsAnother) {
  const Word word{7};
  EXPECT_EQ(futex_wait({&word, 8}, Deadline::never()), FutexWake::changed);
}

TEST(Futex, OnlyLooksWhenTheDeadlineIsNow) {
  const Word word{7};
  EXPECT_EQ(futex_wait({&word, 7}, Deadline::now()), FutexWake::timed_out);
  EXPECT_EQ(futex_wait({&word, 7}, Deadline::at(Clock::time_point())), FutexWake::timed_out);
}

TEST(Futex, NeverTimesOutTooEarly) {
  const Word word{7};
  const std::array<FutexWord, 2> both{FutexWord{&word, 7}, FutexWord{&word, 7}};
  for (const auto wait : {1us, 700us, 3000us}) {
    auto start = Clock::now();
    EXPECT_EQ(futex_wait({&word, 7}, Deadline::after(wait)), FutexWake::timed_out);
    EXPECT_GE(Clock::now() - start, wait);
    start = Clock::now();
    EXPECT_EQ(futex_wait_any(both, Deadline::after(wait)), FutexWake::timed_out);
    EXPECT_GE(Clock::now() - start, wait);
  }
}

TEST(Futex, WakesAThread) {
  Word word{0};
  std::thread sleeper([&] {
    while (word.load() == 0) futex_wait({&word, 0}, Deadline::never());
  });
  EXPECT_TRUE(wake_a_sleeper(word));
  word.store(1);
  futex_wake_all(word);
  sleeper.join();
}

TEST(Futex, WakesAnotherProcess) {
  SKIP_UNDER_THREAD_SANITIZER();
  const Shared<Word> word;
  Forked sleeper([&] { EXPECT_EQ(futex_wait({&*word, 0}, patience()), FutexWake::woken); });
  EXPECT_TRUE(wake_a_sleeper(*word));
  EXPECT_EQ(sleeper.wait(), 0);
}

TEST(Futex, WakesNoMoreThanAsked) {
  SKIP_UNDER_THREAD_SANITIZER();
  const Shared<Word> word;
  const Gate woken;
  std::vector<Forked> sleepers;
  for (int i = 0; i < 3; ++i) {
    sleepers.emplace_back([&] {
      EXPECT_EQ(futex_wait({&*word, 0}, patience()), FutexWake::woken);
      woken.open();
    });
  }
  for (const Forked& sleeper : sleepers) ASSERT_TRUE(await_state(sleeper.pid(), 'S'));
  EXPECT_EQ(futex_wake(*word, 1), 1);
  EXPECT_TRUE(woken.pass());
  EXPECT_FALSE(woken.pass(Deadline::now()));
  EXPECT_EQ(futex_wake_all(*word), 2);
  for (Forked& sleeper : sleepers) EXPECT_EQ(sleeper.wait(), 0);
}

TEST(FutexAny, ReturnsAtOnceWhenAnyValueIsAnother) {
  const std::array<Word, 3> words{1, 2, 3};
  for (std::size_t other = 0; other < words.size(); ++other) {
    std::array<FutexWord, 3> wait{FutexWord{&words[0], 1}, {&words[1], 2}, {&words[2], 3}};
    EXPECT_EQ(futex_wait_any(wait, Deadline::now()), FutexWake::timed_out);
    wait[other].expected = 99;
    EXPECT_EQ(futex_wait_any(wait, Deadline::never()), FutexWake::changed);
    EXPECT_EQ(futex_wait_any(wait, Deadline::now()), FutexWake::changed);
  }
}

/// A child sleeps on all words; each of them must wake it. `setup` runs in the child first.
template <class Setup>
void any_word_wakes(std::size_t count, std::vector<std::size_t> which, Setup setup) {
  struct Words {
    std::array<Word, kMaxFutexWords> words;
  };
  const Shared<Words> shared;
  const Gate turn;
  Forked sleeper([&] {
    setup();
    std::vector<FutexWord> wait;
    for (std::size_t i = 0; i < count; ++i) wait.push_back({&shared->words[i], 0});
    for (const std::size_t i : which) {
      turn.open();
      while (shared->words[i].load() == 0) {
        const FutexWake wake = futex_wait_any(wait, patience());
        ASSERT_NE(wake, FutexWake::timed_out) << "word " << i;
      }
      shared->words[i].store(0);
    }
  });
  for (const std::size_t i : which) {
    ASSERT_TRUE(turn.pass());
    ASSERT_TRUE(await_state(sleeper.pid(), 'S'));
    shared->words[i].store(1);
    futex_wake_all(shared->words[i]);
  }
  EXPECT_EQ(sleeper.wait(), 0);
}

TEST(FutexAny, WakesForAnyWordInAnotherProcess) {
  SKIP_UNDER_THREAD_SANITIZER();
  any_word_wakes(4, {0, 1, 2, 3, 3, 0}, [] {});
}

TEST(FutexAny, SleepsOnAsManyWordsAsItSays) {
  SKIP_UNDER_THREAD_SANITIZER();
  any_word_wakes(kMaxFutexWords, {0, kMaxFutexWords - 1}, [] {});
}

TEST(FutexAny, OneWordWillDo) {
  SKIP_UNDER_THREAD_SANITIZER();
  any_word_wakes(1, {0, 0}, [] {});
}

/// As in a sandbox or an old kernel.
void forbid_futex_waitv(int error) {
  constexpr long kFutexWaitv = 449;
  forbid_system_call(kFutexWaitv, error);
  ASSERT_EQ(::syscall(kFutexWaitv, nullptr, 0U, 0U, nullptr, 0), -1);
  ASSERT_EQ(errno, error);
}

class FutexAnyWithoutTheCall : public ::testing::TestWithParam<int> {
  void SetUp() override { SKIP_UNDER_THREAD_SANITIZER(); }
};

TEST_P(FutexAnyWithoutTheCall, WakesForAnyWord) {
  any_word_wakes(3, {0, 1, 2, 2}, [] { forbid_futex_waitv(GetParam()); });
}

TEST_P(FutexAnyWithoutTheCall, ReturnsAtOnceOrAtTheDeadline) {
  in_child([] {
    forbid_futex_waitv(GetParam());
    const std::array<Word, 2> words{1, 2};
    const std::array<FutexWord, 2> other{FutexWord{&words[0], 1}, {&words[1], 7}};
    EXPECT_EQ(futex_wait_any(other, Deadline::never()), FutexWake::changed);
    const std::array<FutexWord, 2> same{FutexWord{&words[0], 1}, {&words[1], 2}};
    EXPECT_EQ(futex_wait_any(same, Deadline::now()), FutexWake::timed_out);
    for (const auto wait : {1ms, 12ms}) {  // shorter and longer than between two looks
      const auto start = Clock::now();
      EXPECT_EQ(futex_wait_any(same, Deadline::after(wait)), FutexWake::timed_out);
      EXPECT_GE(Clock::now() - start, wait);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(, FutexAnyWithoutTheCall, ::testing::Values(ENOSYS, EPERM),
                         [](const auto& instance) {
                           return instance.param == ENOSYS ? "old_kernel" : "sandbox";
                         });

TEST(SpinWhile, SaysWhetherTheWordChanged) {
  Word word{1};
  EXPECT_TRUE(spin_while(word, 2, 0ns));
  const auto start = Clock::now();
  EXPECT_FALSE(spin_while(word, 1, 100us));
  EXPECT_GE(Clock::now() - start, 100us);
  std::thread other([&] { word.store(5); });
  EXPECT_TRUE(spin_while(word, 1, 20s));
  other.join();
}

}  // namespace
}  // namespace brood::detail::futex_test
