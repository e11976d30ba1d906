// Names in brackets are the tests of CPython's TestWait, _TestConnection and TestInvalidHandle that
// ask for the same.
#include <brood/wait.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include <brood/connection.hpp>
#include <brood/descriptor.hpp>
#include <brood/errors.hpp>
#include <brood/queue.hpp>
#include <brood/ready_descriptor.hpp>

namespace brood::wait_test {
namespace {

using namespace std::chrono_literals;
using Positions = std::vector<std::size_t>;

TEST(Wait, TellsWhichAreReady) {  // [test_wait_timeout, test_wait_integer]
  Pipe a;
  Pipe b;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  EXPECT_EQ(wait({a.first, b.first, reader}, 1ms), Positions());
  b.second.send(1);
  EXPECT_EQ(wait({a.first, b.first, reader}), Positions({1}));
  writer.close();
  EXPECT_EQ(wait({a.first, b.first, reader.get()}, 10s), Positions({1, 2})) << "an end is ready";
  a.second.close();
  EXPECT_EQ(wait({a.first, b.first, reader}), Positions({0, 1, 2}));
}

TEST(Wait, CollectsAllMessagesAndEndsOfSeveralPipes) {  // [test_wait, test_wait_slow]
  std::vector<Connection> readers;
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    Pipe pipe({.duplex = false});
    readers.push_back(std::move(pipe.first));
    writers.emplace_back([w, end = std::move(pipe.second)]() mutable {
      for (int i = 0; i < 50; ++i) end.send(w * 100 + i);
    });
  }
  int messages = 0;
  while (!readers.empty()) {
    const std::vector<Waitable> all(readers.begin(), readers.end());
    const Positions ready = wait(all, 20s);
    ASSERT_FALSE(ready.empty());
    for (auto at = ready.rbegin(); at != ready.rend(); ++at) {
      try {
        static_cast<void>(readers[*at].recv<int>());
        ++messages;
      } catch (const EndOfStream&) {
        readers.erase(readers.begin() + static_cast<std::ptrdiff_t>(*at));
      }
    }
  }
  EXPECT_EQ(messages, 200);
  for (std::thread& writer : writers) writer.join();
}

TEST(Wait, NothingIsWaitedForAsLongAsIsAsked) {  // [test_wait_empty, test_neg_timeout]
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(wait({}, 20ms), Positions());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
  EXPECT_EQ(wait({}, -1h), Positions());
  EXPECT_THROW(wait({}), StateError);
}

// Threads, so that ThreadSanitizer sees it.
TEST(Wait, ThreadsWaitForQueuesAndDescriptorsAtOnce) {
  const Queue<int> queue;
  const Queue<int> taken;
  Pipe pipe;
  std::vector<std::thread> threads;
  for (const bool beside_descriptors : {false, true}) {
    threads.emplace_back([&, beside_descriptors] {
      std::vector<Waitable> all{queue};
      if (beside_descriptors) all.emplace_back(pipe.first);
      while (!queue.closed()) {
        static_cast<void>(wait(all));
        if (const auto number = queue.try_get()) taken.put(*number);
      }
    });
  }
  threads.emplace_back([&] {
    ReadyDescriptor ready(queue);
    while (!queue.closed()) {
      static_cast<void>(wait({ready}));
      while (const auto number = queue.try_get()) taken.put(*number);
      ready.rearm();
    }
  });
  for (int i = 0; i != 200; ++i) {
    queue.put(i);
    if (i % 20 == 0) {
      while (!queue.empty()) std::this_thread::yield();
    }
  }
  while (taken.size() != 200) std::this_thread::yield();
  queue.close();
  for (std::thread& thread : threads) thread.join();
}

TEST(Wait, WhatIsNoDescriptorIsAnError) {  // [test_invalid_handles]
  EXPECT_THROW(wait({-1}, 0ms), SystemError);
  EXPECT_THROW(wait({1'000'000}, 0ms), SystemError);
  EXPECT_THROW(wait({Connection()}, 0ms), StateError);
}

}  // namespace
}  // namespace brood::wait_test
