// wait() and ReadyDescriptor between processes, under every start method. Names in brackets are the
// tests of CPython's TestWait that ask for the same.
// Not for ThreadSanitizer: processes.
#include <brood/wait.hpp>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <brood/connection.hpp>
#include <brood/descriptor.hpp>
#include <brood/joinable_queue.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/process.hpp>
#include <brood/queue.hpp>
#include <brood/ready_descriptor.hpp>
#include <brood/simple_queue.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"

namespace brood::wait_family_test {
namespace {

using namespace std::chrono_literals;
using testing::eventually;
using Clock = std::chrono::steady_clock;
using Positions = std::vector<std::size_t>;

class WaitFamily : public testing::EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(WaitFamily);

double processor_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

void send_numbers(Connection to, int who, bool slow) {
  for (int i = 0; i != 10; ++i) {
    if (slow) ::usleep(static_cast<useconds_t>((who * 7 + i * 13) % 10 * 1000));
    to.send(std::pair(i, who));
  }
}

TEST_P(WaitFamily, CollectsTheMessagesAndEndsOfFourChildren) {  // [test_wait, test_wait_slow]
  for (const bool slow : {false, true}) {
    std::vector<Connection> readers;
    std::vector<Process> children;
    for (int who = 0; who != 4; ++who) {
      Pipe pipe({.duplex = false});
      readers.push_back(std::move(pipe.first));
      children.emplace_back(send_numbers, std::move(pipe.second), who, slow);
      children.back().start();
    }
    std::vector<std::pair<int, int>> messages;
    while (!readers.empty()) {
      const std::vector<Waitable> all(readers.begin(), readers.end());
      const Positions ready = wait(all, 20s);
      ASSERT_FALSE(ready.empty());
      for (auto at = ready.rbegin(); at != ready.rend(); ++at) {
        try {
          messages.push_back(readers[*at].recv<std::pair<int, int>>());
        } catch (const EndOfStream&) {
          readers.erase(readers.begin() + static_cast<std::ptrdiff_t>(*at));
        }
      }
    }
    std::sort(messages.begin(), messages.end());
    ASSERT_EQ(messages.size(), 40U);
    for (int n = 0; n != 40; ++n)
      EXPECT_EQ(messages[static_cast<std::size_t>(n)], std::pair(n / 4, n % 4));
  }
}

void write_lines(const Descriptor& to, bool slow) {
  for (int i = 0; i != 10; ++i) {
    if (slow) ::usleep(static_cast<useconds_t>(i * 13 % 10 * 1000));
    const std::string line = std::to_string(i) + "\n";
    if (::write(to.get(), line.data(), line.size()) < 0) ::_exit(3);
  }
}

// [test_wait_socket, test_wait_socket_slow]
TEST_P(WaitFamily, CollectsWhatFourChildrenWriteToSockets) {
  for (const bool slow : {false, true}) {
    std::vector<Descriptor> readers;
    std::vector<Process> children;
    std::map<int, std::string> texts;
    for (int who = 0; who != 4; ++who) {
      std::array<int, 2> ends{};
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
      readers.emplace_back(ends[0]);
      children.emplace_back(write_lines, Descriptor(ends[1]), slow);
      children.back().start();
    }
    while (!readers.empty()) {
      const std::vector<Waitable> all(readers.begin(), readers.end());
      const Positions ready = wait(all, 20s);
      ASSERT_FALSE(ready.empty());
      for (auto at = ready.rbegin(); at != ready.rend(); ++at) {
        std::array<char, 64> part{};
        const ssize_t got = ::read(readers[*at].get(), part.data(), part.size());
        ASSERT_GE(got, 0);
        texts[readers[*at].get()].append(part.data(), static_cast<std::size_t>(got));
        if (got == 0) readers.erase(readers.begin() + static_cast<std::ptrdiff_t>(*at));
      }
    }
    ASSERT_EQ(texts.size(), 4U);
    for (const auto& [fd, text] : texts) EXPECT_EQ(text, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
  }
}

TEST_P(WaitFamily, ATimeoutReturnsNothingAndAReadyEndItself) {  // [test_wait_timeout]
  Pipe pipe;
  const auto begin = Clock::now();
  EXPECT_EQ(wait({pipe.first, pipe.second}, 30ms), Positions());
  EXPECT_GE(Clock::now() - begin, 30ms);
  pipe.second.send(std::string());
  EXPECT_EQ(wait({pipe.first, pipe.second}, 20s), Positions({0}));
}

TEST_P(WaitFamily, ProcessesAndConnectionsMix) {  // [test_wait_integer]
  Pipe pipe;
  Pipe go({.duplex = false});
  Process child([](Connection from) { (void)from.recv<int>(); }, std::move(go.first));
  child.start();
  EXPECT_EQ(wait({pipe.first, child, pipe.second}, 20ms), Positions());
  pipe.first.send(1);
  EXPECT_EQ(wait({pipe.first, child.sentinel(), pipe.second}, 20s), Positions({2}));
  go.second.send(1);
  EXPECT_EQ(wait({pipe.first, child}, 20s), Positions({1}));
  EXPECT_EQ(wait({pipe.first, child, pipe.second}, 20s), Positions({1, 2}));
  child.join();
}

TEST_P(WaitFamily, ANegativeTimeoutOnlyLooks) {  // [test_neg_timeout]
  Pipe pipe;
  const Queue<int> queue;
  EXPECT_EQ(wait({pipe.first}, -1s), Positions());
  EXPECT_EQ(wait({queue}, -1s), Positions());
  EXPECT_EQ(wait({queue, pipe.first}, -1s), Positions());
  queue.put(1);
  EXPECT_EQ(wait({pipe.first, queue}, -1s), Positions({1}));
}

void put_after_all_wait(Queue<int> queue, Queue<std::string> other, SimpleQueue<int> go) {
  static_cast<void>(go.get());
  queue.put(1);
  static_cast<void>(go.get());
  other.close();
}

TEST_P(WaitFamily, QueuesAreReadyWithAMessageAndAtTheEnd) {
  const Queue<int> queue;
  const Queue<std::string> other;
  const SimpleQueue<int> go;
  const JoinableQueue<int> tasks;
  Process child(put_after_all_wait, queue, other, go);
  child.start();
  const auto begin = Clock::now();
  EXPECT_EQ(wait({queue, other, tasks, go}, 30ms), Positions());
  EXPECT_GE(Clock::now() - begin, 30ms);
  go.put(1);
  EXPECT_EQ(wait({queue, other}, 20s), Positions({0}));
  EXPECT_EQ(wait({queue, other}), Positions({0})) << "nothing was taken";
  EXPECT_EQ(queue.get(), 1);
  go.put(2);
  EXPECT_EQ(wait({queue, tasks, other}, 20s), Positions({2}));
  EXPECT_EQ(other.next(), std::nullopt);
  tasks.put(1);
  EXPECT_EQ(wait({queue, tasks, other}), Positions({1, 2}));
  child.join();
}

void watch_for_ever(Queue<int> queue, Queue<int> begun) {
  begun.put(1);
  for (;;) static_cast<void>(wait({queue}));
}
void watch_beside_a_descriptor(Queue<int> queue, Queue<int> begun, Connection end) {
  begun.put(1);
  for (;;) static_cast<void>(wait({end, queue}));
}
void answer_each(Queue<int> queue, Queue<int> answers) {
  for (const int number : queue) answers.put(number);
}

// Who waits and does not take has wake-ups that were for who does.
TEST_P(WaitFamily, WhoWaitsDoesNotStealTheWakeUpOfWhoTakes) {
  const Queue<int> queue;
  const Queue<int> answers;
  const Queue<int> begun;
  Pipe pipe;
  std::vector<Process> watchers;
  for (int i = 0; i != 2; ++i) {
    watchers.emplace_back(ProcessOptions{.daemon = true}, watch_for_ever, queue, begun);
  }
  watchers.emplace_back(ProcessOptions{.daemon = true}, watch_beside_a_descriptor, queue, begun,
                        std::move(pipe.second));
  for (Process& watcher : watchers) watcher.start();
  for (int i = 0; i != 3; ++i) static_cast<void>(begun.get());
  Process consumer(answer_each, queue, answers);
  consumer.start();
  int late = 0;
  for (int i = 0; i != 300 && late < 10; ++i) {
    const auto begin = Clock::now();
    queue.put(i);
    ASSERT_EQ(answers.try_get_for(20s), i);
    // A sleeper whose wake-up was lost looks again after a second.
    if (Clock::now() - begin > 800ms) ++late;
    if (i % 10 == 0) ::usleep(2000);  // until all sleep
  }
  EXPECT_LT(late, 10) << "its consumer sleeps";
  for (Process& watcher : watchers) {
    watcher.kill();
    watcher.join();
  }
  queue.close();
  consumer.join();
}

void lease_and_wait(Queue<int> queue, Queue<int> taken) {
  auto lease = queue.lease();
  taken.put(lease->value());
  for (;;) ::pause();
}

TEST_P(WaitFamily, WhatAKilledConsumerHadMakesItsQueueReady) {
  Pipe pipe;
  for (const bool beside_descriptors : {false, true}) {
    const Queue<int> queue;
    const Queue<int> taken;
    queue.put(7);
    Process child({.daemon = true}, lease_and_wait, queue, taken);
    child.start();
    EXPECT_EQ(taken.get(), 7);
    std::vector<Waitable> all{queue};
    if (beside_descriptors) all.emplace_back(pipe.first);
    EXPECT_EQ(wait(all, 10ms), Positions());
    queue.close();
    EXPECT_EQ(wait(all, 10ms), Positions()) << "it may come back";
    Process killer([](int pid) { ::kill(pid, SIGKILL); }, child.pid().value());
    killer.start();
    EXPECT_EQ(wait(all, 20s), Positions({0}));
    EXPECT_EQ(queue.get(), 7);
    EXPECT_EQ(wait(all, 20s), Positions({0})) << "the end";
    killer.join();
  }
}

void do_in_turn(Queue<int> queue, Connection end, Descriptor file, Queue<int> go) {
  static_cast<void>(go.get());
  queue.put(1);
  static_cast<void>(go.get());
  end.send(2);
  static_cast<void>(go.get());
  file.close();
  static_cast<void>(go.get());
}

TEST_P(WaitFamily, EverythingMixesAndNothingIsLeft) {
  const Queue<int> queue;
  const Queue<int> go;
  const Queue<int> never;
  Pipe pipe;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Descriptor reader(ends[0]);
  Process child(do_in_turn, queue, std::move(pipe.second), Descriptor(ends[1]), go);
  child.start();
  const std::vector<Waitable> all{never, pipe.first, queue, child, reader, reader.get()};
  EXPECT_EQ(wait(all, 5ms), Positions());
  const std::vector<Positions> expected{{2}, {1}, {4, 5}, {3}};
  for (std::size_t turn = 0; turn != expected.size(); ++turn) {
    std::vector<Waitable> left = all;
    go.put(0);
    if (turn == 3) {
      EXPECT_EQ(wait({never, child, queue}, 20s), Positions({1}));
      break;
    }
    EXPECT_EQ(wait(all, 20s), expected[turn]);
    if (turn == 0) {
      EXPECT_EQ(queue.get(), 1);
    }
    if (turn == 1) {
      EXPECT_EQ(pipe.first.recv<int>(), 2);
    }
  }
  child.join();
  EXPECT_EQ(detail::thread_count(), 1);
  Process after({.start_method = StartMethod::fork}, [] {});
  after.start().join();
  EXPECT_EQ(after.exitcode(), 0);
}

TEST_P(WaitFamily, WaitingCostsNoTime) {
  const Queue<int> queue;
  Pipe pipe;
  const double before = processor_seconds();
  EXPECT_EQ(wait({queue}, 150ms), Positions());
  EXPECT_EQ(wait({queue, pipe.first}, 150ms), Positions());
  {
    const ReadyDescriptor ready(queue);
    EXPECT_EQ(wait({ready}, 150ms), Positions());
  }
  EXPECT_LT(processor_seconds() - before, 0.03);
}

TEST_P(WaitFamily, ThereMayBeMoreQueuesThanTheKernelSleepsOn) {
  std::vector<Queue<int>> queues(200);
  Pipe pipe;
  Process child(
      [](const Queue<int>& last, Connection end) {
        static_cast<void>(end.recv<int>());
        last.put(1);
      },
      queues.back(), std::move(pipe.second));
  child.start();
  const std::vector<Waitable> all(queues.begin(), queues.end());
  EXPECT_EQ(wait(all, 20ms), Positions());
  pipe.first.send(1);
  EXPECT_EQ(wait(all, 20s), Positions({199}));
  child.join();
}

void put_when_told(Queue<int> queue, Queue<int> go) {
  for (const int number : go) queue.put(number);
  queue.close();
}

TEST_P(WaitFamily, AQueueHasADescriptorForEveryLoop) {
  const Queue<int> queue;
  const Queue<int> go;
  Process child(put_when_told, queue, go);
  child.start();
  const Descriptor loop(::epoll_create1(EPOLL_CLOEXEC));
  ReadyDescriptor ready(queue);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 1}};
  ASSERT_EQ(::epoll_ctl(loop.get(), EPOLL_CTL_ADD, ready.descriptor(), &event), 0);
  const auto comes = [&](int milliseconds) {
    epoll_event got{};
    return ::epoll_wait(loop.get(), &got, 1, milliseconds) == 1;
  };
  EXPECT_FALSE(comes(10));
  for (int round = 0; round != 50; ++round) {
    go.put(round);
    if (round % 2 == 0) go.put(1000 + round);
    std::vector<int> got;
    while (got.size() != (round % 2 == 0 ? 2U : 1U)) {
      ASSERT_TRUE(comes(20'000)) << "after " << got.size() << " in round " << round;
      while (const auto number = queue.try_get()) got.push_back(*number);
      ready.rearm();
    }
    EXPECT_EQ(got[0], round);
  }
  go.put(7);
  ASSERT_TRUE(comes(20'000));
  EXPECT_TRUE(comes(0)) << "until it is rearmed";
  ready.rearm();
  ASSERT_TRUE(comes(20'000)) << "the message is still there";
  EXPECT_EQ(queue.get(), 7);
  go.close();
  child.join();
  ready.rearm();
  EXPECT_TRUE(comes(20'000)) << "the end";
  EXPECT_EQ(wait({ready, queue}, 20s), Positions({0, 1}));
}

TEST_P(WaitFamily, AReadyDescriptorHasAThreadThatEndsWithIt) {
  const Queue<int> queue;
  {
    ReadyDescriptor ready(queue);
    EXPECT_EQ(detail::thread_count(), 2);
    ReadyDescriptor moved = std::move(ready);
    EXPECT_EQ(detail::thread_count(), 2);
    EXPECT_THROW(static_cast<void>(ready.descriptor()), StateError);  // NOLINT
    EXPECT_THROW(ready.rearm(), StateError);
    Process child({.start_method = StartMethod::fork}, [] {});
    EXPECT_THROW(child.start(), StartError);
    queue.put(1);
    EXPECT_EQ(wait({moved}, 20s), Positions({0}));
    Pipe pipe;
    moved = ReadyDescriptor(pipe.first);
    EXPECT_EQ(moved.descriptor(), pipe.first.descriptor());
    moved.rearm();
  }
  EXPECT_EQ(detail::thread_count(), 1);
  Process child({.start_method = StartMethod::fork}, [] {});
  child.start().join();
  EXPECT_EQ(child.exitcode(), 0);
}

}  // namespace
}  // namespace brood::wait_family_test
