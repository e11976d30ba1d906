// Kills who writes a record on its way to the root: at sampled instructions of the call, and at
// random under load. What was written is there once, in order and whole; others go on.
// Not for ThreadSanitizer: processes that are killed.
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <brood/log.hpp>
#include <brood/memory/heap.hpp>
#include <brood/process.hpp>
#include <brood/process/family.hpp>
#include <brood/process/log_collector.hpp>
#include <brood/value.hpp>

#include "support/proof.hpp"
#include "support/single_step.hpp"
#include "support/start_methods.hpp"

namespace brood::log_kill_test {
namespace {

using namespace std::chrono_literals;
using detail::Family;
using detail::LogQueue;
using testing::prove_everything;
using testing::SingleStep;

log::Record record_of(const std::string& text) {
  return {.time = std::chrono::system_clock::now(),
          .level = log::Level::info,
          .pid = 1,
          .process = "writer",
          .task = std::nullopt,
          .text = text};
}

std::vector<std::string> taken(const LogQueue& queue) {
  std::vector<std::string> texts;
  while (queue.pass_on([&](const log::Record& record) { texts.emplace_back(record.text); })) {
  }
  return texts;
}

/// Kills one after `steps` instructions of a put, or does it to the end; true: it had returned.
bool kill_in_put(const LogQueue& queue, const std::string& text, std::uint64_t steps) {
  const std::shared_ptr<Family> family = Family::require();
  const detail::Tag tag =
      family->registry().reserve(family->self(), detail::Role::process, "stepped");
  bool ended = false;
  {
    SingleStep child(
        [&] {
          if (!family->become(tag)) throw StateError("not wanted");
          // The first is longer, by the work of the linker and the heap.
          const std::string before = "before" + std::string(text.size(), '.');
          static_cast<void>(queue.put(record_of(before), detail::Deadline::now()));
        },
        [&] { static_cast<void>(queue.put(record_of(text), detail::Deadline::now())); });
    ended = !child.step(steps);
    child.kill();
  }
  family->registry().note_ended(tag, -SIGKILL);
  detail::announce(family->segment().header());
  detail::Heap::recover(family->segment(), tag, family->self());
  family->objects().release_all(tag, family->self());
  family->registry().free(tag);
  return ended;
}

TEST(LogKill, AtAnyInstructionOfAPut) {
  if (const auto why = SingleStep::why_not()) GTEST_SKIP() << *why;
  for (const std::string& text : {std::string("x"), std::string(200, 'y')}) {
    const LogQueue queue;
    static_cast<void>(kill_in_put(queue, text, 100'000));
    taken(queue);
    const std::uint64_t every = prove_everything() ? 1 : 23;
    std::uint64_t points = 0;
    std::uint64_t there = 0;
    for (std::uint64_t steps = 0;; steps += every, ++points) {
      SCOPED_TRACE(steps);
      const bool ended = kill_in_put(queue, text, steps);
      // Others go on, and the order stays.
      ASSERT_TRUE(queue.put(record_of("after"), detail::Deadline::after(10s)));
      std::vector<std::string> texts = taken(queue);
      ASSERT_GE(texts.size(), 2u);
      EXPECT_EQ(texts.front().substr(0, 6), "before");
      EXPECT_EQ(texts.back(), "after");
      if (texts.size() == 3) {
        ++there;
        EXPECT_EQ(texts[1], text);
      }
      ASSERT_LE(texts.size(), 3u);
      EXPECT_TRUE(!ended || texts.size() == 3) << "a put that returned is lost";
      EXPECT_EQ(queue.core().ring().size(), 0u);
      if (ended || ::testing::Test::HasFailure()) break;
    }
    EXPECT_GT(points, 10u);
    EXPECT_GT(there, 0u);
    std::printf("    %llu kill points\n", static_cast<unsigned long long>(points));
  }
}

class LogChaos : public testing::EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(LogChaos);

void write_for_ever(Value<int> written) {
  for (int i = 0;; ++i) {
    log::info("{} {}", i, std::string(static_cast<std::size_t>(i % 150), '.'));
    written.set(i + 1);
  }
}

TEST_P(LogChaos, WhatWasWrittenBeforeADeathIsPassedOn) {
  std::mutex mutex;
  std::map<int, std::vector<std::string>> texts;  // by pid
  log::to_root([&](const log::Record& record) {
    const std::scoped_lock guard(mutex);
    texts[record.pid].emplace_back(record.text);
  });
  std::minstd_rand random(7);
  const int deaths = prove_everything() ? 500 : 12;
  const std::uint64_t lost_before = log::lost();
  std::uint64_t records = 0;
  for (int death = 0; death != deaths; ++death) {
    Value<int> one(0);
    Value<int> two(0);
    Process a({.daemon = true}, write_for_ever, one);
    Process b({.daemon = true}, write_for_ever, two);
    a.start();
    b.start();
    while (one.get() < 20 || two.get() < 20) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    a.kill();
    a.join();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
    b.kill();
    b.join();
    ASSERT_TRUE(log::flush(10s));
    const std::scoped_lock guard(mutex);
    // With a loss there are gaps, at the end of a full ring; this is about deaths.
    const bool all = log::lost() == lost_before;
    for (const auto& [process, written] : {std::pair(&a, one.get()), std::pair(&b, two.get())}) {
      const std::vector<std::string>& found = texts[*process->pid()];
      records += found.size();
      if (all) {
        EXPECT_GE(found.size(), static_cast<std::size_t>(written));
        EXPECT_LE(found.size(), static_cast<std::size_t>(written) + 1);
      }
      int last = -1;
      for (const std::string& text : found) {
        const std::size_t end = text.find(' ');
        const int number = std::stoi(text.substr(0, end));
        EXPECT_TRUE(all ? number == last + 1 : number > last) << text << " after " << last;
        last = number;
        EXPECT_EQ(text.substr(end + 1), std::string(static_cast<std::size_t>(number % 150), '.'));
      }
    }
    texts.clear();
    if (HasFailure()) break;
  }
  log::off();
  std::printf("    %d kills, %llu records\n", 2 * deaths, static_cast<unsigned long long>(records));
}

}  // namespace
}  // namespace brood::log_kill_test
