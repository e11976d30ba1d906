// Queues between real processes, under every start method. Names in comments are those of Python's
// tests from which a behaviour comes.
// Not for ThreadSanitizer: processes.
#include <brood/brood.hpp>

#include <gtest/gtest.h>

#include <unistd.h>
#include <chrono>
#include <csignal>
#include <ctime>
#include <future>
#include <map>
#include <numeric>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/channel/handle_codec.hpp>
#include <brood/channel/queue_core.hpp>
#include <brood/memory/member.hpp>

#include "support/eventually.hpp"
#include "support/no_memory.hpp"
#include "support/shared_objects.hpp"
#include "support/start_methods.hpp"

namespace brood::queue_test {
namespace {

using namespace std::chrono_literals;
using testing::eventually;
using testing::shared_objects;

class Queues : public testing::EveryStartMethod {};

struct Point {
  int x = 0;
  double y = 0;
  friend bool operator==(const Point&, const Point&) = default;
};

void put_numbers(Queue<int> queue, int from, int to) {
  for (int i = from; i != to; ++i) queue.put(i);
}
void sum_up(Queue<int> queue, Queue<long> sums) {
  long sum = 0;
  for (const int n : queue) sum += n;
  sums.put(sum);
}

// _TestQueue.test_put, test_get, test_fork, test_qsize
TEST_P(Queues, ManyPutManyGet) {
  Queue<int> queue(16);
  Queue<long> sums;
  std::vector<Process> all;
  for (int p = 0; p != 2; ++p) all.emplace_back(put_numbers, queue, p * 1000, (p + 1) * 1000);
  for (int c = 0; c != 2; ++c) all.emplace_back(sum_up, queue, sums);
  for (Process& p : all) p.start();
  all[0].join();
  all[1].join();
  queue.close();
  all[2].join();
  all[3].join();
  EXPECT_EQ(sums.size(), 2u);
  EXPECT_EQ(sums.get() + sums.get(), 2000L * 1999 / 2);
  EXPECT_TRUE(sums.empty());
}

// _TestQueue.test_put, test_get: sizes, fullness, time-outs
TEST_P(Queues, SizesAreExactAndWaitsHaveDeadlines) {
  Queue<int> queue(3);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.maxsize(), 3u);
  EXPECT_FALSE(queue.try_get());
  EXPECT_FALSE(queue.try_get_for(5ms));
  for (int i = 0; i != 3; ++i) {
    EXPECT_FALSE(queue.full());
    EXPECT_TRUE(queue.try_put(i));
    EXPECT_EQ(queue.size(), static_cast<std::size_t>(i + 1));
  }
  EXPECT_TRUE(queue.full());
  EXPECT_FALSE(queue.try_put(3));
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(queue.try_put_for(3, 20ms));
  EXPECT_GE(std::chrono::steady_clock::now() - before, 20ms);
  EXPECT_FALSE(queue.try_put_until(3, std::chrono::system_clock::now() + 1ms));
  for (int i = 0; i != 3; ++i) EXPECT_EQ(queue.get(), i);
  EXPECT_TRUE(queue.empty());
}

TEST_P(Queues, TheEndIsAnEnd) {
  Queue<std::string> queue;
  queue.put("last");
  queue.close();
  queue.close();
  EXPECT_TRUE(queue.closed());
  EXPECT_THROW(queue.put("more"), QueueClosed);
  EXPECT_EQ(queue.get(), "last");
  EXPECT_FALSE(queue.next());
  EXPECT_FALSE(queue.try_get());
  EXPECT_THROW((void)queue.get(), QueueClosed);
}

std::string text_of(int i) {
  const std::size_t sizes[] = {0, 10, 51, 52, 53, 100, 1000, 70'000, 2'000'000};
  return std::string(sizes[i % 9], static_cast<char>('a' + i % 26));
}
void put_texts(Queue<std::string> queue, int count) {
  for (int i = 0; i != count; ++i) queue.put(text_of(i));
  queue.close();
}

// _TestQueue.test_no_import_lock_contention has no counterpart; large messages, TestSimpleQueue
TEST_P(Queues, MessagesOfAnySize) {
  Queue<std::string> queue(4);
  Process child(put_texts, queue, 40);
  child.start();
  int i = 0;
  for (const std::string& text : queue) {
    ASSERT_EQ(text, text_of(i)) << i;
    ++i;
  }
  EXPECT_EQ(i, 40);
  child.join();
}

TEST_P(Queues, ValuesOfManyTypes) {
  Queue<Point> points;
  points.put({1, 2.5});
  EXPECT_EQ(points.get(), (Point{1, 2.5}));
  Queue<std::map<std::string, std::vector<int>>> maps;
  maps.put({{"a", {1, 2}}, {"b", std::vector<int>(1000, 7)}});
  EXPECT_EQ(maps.get().at("b").size(), 1000u);
}

TEST_P(Queues, BatchesAndGrowth) {
  Queue<int> queue;
  std::vector<int> numbers(100'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  queue.put_many(numbers);
  EXPECT_EQ(queue.size(), numbers.size());
  std::vector<int> got;
  while (got.size() != numbers.size()) {
    const std::vector<int> some = queue.get_many(100);
    ASSERT_FALSE(some.empty());
    got.insert(got.end(), some.begin(), some.end());
  }
  EXPECT_EQ(got, numbers);
  queue.close();
  EXPECT_TRUE(queue.get_many(10).empty());
}

void put_batches(Queue<int> queue) {
  std::vector<int> numbers(20'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  queue.put_many(numbers);
  queue.put_many(std::views::iota(20'000, 40'000));
  queue.put_many(std::vector<int>{});
  queue.close();
}

// In order, though the queue has room for fewer than a batch.
TEST_P(Queues, BatchesWaitForRoom) {
  for (const std::size_t maxsize : {std::size_t{1}, std::size_t{50}, std::size_t{0}}) {
    Queue<int> queue(maxsize);
    Process child(put_batches, queue);
    child.start();
    int next = 0;
    for (const int n : queue) ASSERT_EQ(n, next++) << "of at most " << maxsize;
    EXPECT_EQ(next, 40'000);
    child.join();
    EXPECT_EQ(child.exitcode(), 0);
    EXPECT_THROW(queue.put_many(std::vector<int>{1}), QueueClosed);
  }
}

void answer(Queue<Value<int>> values) {
  while (auto value = values.next()) *value->lock() += 1;
}

// A handle in a message keeps its object alive.
TEST_P(Queues, HandlesTravelInMessages) {
  Queue<Value<int>> values;
  Value<int> kept(1);
  values.put(kept);
  { values.put(Value<int>(7)); }  // nobody but the message has it
  Process child(answer, values);
  child.start();
  ASSERT_TRUE(eventually([&] { return kept.get() == 2 && values.empty(); }));
  values.put(Value<int>(5));
  values.close();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
}

void put_new_and_end(Queue<SharedArray<int>> queue, bool killed) {
  SharedArray<int> array(100'000);
  array[99'999] = 42;
  queue.put(array);
  if (killed) ::raise(SIGKILL);
}

// What the dead held is let go of a little after their end.
::testing::AssertionResult objects_become(std::size_t expected) {
  if (eventually([&] { return shared_objects() == expected; }))
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << shared_objects() << " objects, not " << expected;
}

// What a message names lives as long as the message, not as whoever put it.
TEST_P(Queues, WhatAMessageNamesOutlivesItsProducer) {
  const std::size_t before = shared_objects();
  {
    Queue<SharedArray<int>> queue;
    for (const bool killed : {false, true}) {
      Process child(put_new_and_end, queue, killed);
      child.start();
      child.join();
      ASSERT_EQ(child.exitcode(), killed ? -SIGKILL : 0);
    }
    for (int i = 0; i != 2; ++i) {
      const SharedArray<int> array = queue.get();
      EXPECT_EQ(array.size(), 100'000u);
      EXPECT_EQ(array[99'999], 42);
    }
    EXPECT_TRUE(objects_become(before + 1)) << "those that were taken are gone";
    {
      const SharedArray<int> one(10);
      queue.put(one);
      queue.put(one);
    }
    EXPECT_TRUE(objects_become(before + 2)) << "one array, named twice";
    static_cast<void>(queue.get());
    EXPECT_TRUE(objects_become(before + 2));
    {
      auto lease = queue.lease();
      ASSERT_TRUE(lease);
    }
    EXPECT_TRUE(objects_become(before + 2)) << "given back";
  }
  EXPECT_TRUE(objects_become(before)) << "the queue took with it what was left in it";
}

void nested(Queue<Queue<std::string>> outer) {
  Queue<std::string> inner;
  inner.put(std::string(1000, 'x'));
  outer.put(inner);
}

TEST_P(Queues, QueuesTravelInQueues) {
  const std::size_t before = shared_objects();
  {
    Queue<Queue<std::string>> outer;
    Process child(nested, outer);
    child.start();
    child.join();
    EXPECT_EQ(outer.get().get(), std::string(1000, 'x'));
    Process again(nested, outer);
    again.start();
    again.join();
    EXPECT_TRUE(objects_become(before + 2));
  }
  EXPECT_TRUE(objects_become(before)) << "with the outer one goes the inner one";
}

void take_and_die(Queue<int> queue) {
  auto lease = queue.lease();
  ::raise(SIGKILL);
  lease->ack();
}

TEST_P(Queues, WhatAKilledConsumerHadGoesBack) {
  Queue<int> queue(2);
  queue.put(42);
  for (unsigned deaths = 1; deaths <= 2; ++deaths) {
    Process child(take_and_die, queue);
    child.start();
    child.join();
    ASSERT_EQ(child.exitcode(), -SIGKILL);
  }
  auto lease = queue.lease();
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->value(), 42);
  EXPECT_EQ(lease->deliveries(), 3u);
  EXPECT_EQ(queue.size(), 0u);
  lease.reset();  // not acknowledged
  EXPECT_EQ(queue.size(), 1u);
  Queue<int> dead_letters;
  queue.put(1);
  auto good = queue.lease(dead_letters, 3);
  ASSERT_TRUE(good);
  EXPECT_EQ(good->value(), 1);
  good->ack();
  EXPECT_THROW(good->ack(), StateError);
  EXPECT_EQ(dead_letters.get(), 42);
}

void do_tasks(JoinableQueue<int> tasks, Value<int> done) {
  while (auto task = tasks.next()) {
    if (*task == 13 && done.fetch_add(1000) < 1000) ::raise(SIGKILL);
    done.fetch_add(1);
    tasks.task_done();
  }
}

// _TestQueue.test_task_done, test_closed_queue_put_get_exceptions
TEST_P(Queues, JoinWaitsForTasksWhoeverIsKilled) {
  JoinableQueue<int> tasks(4);
  Value<int> done(0);
  EXPECT_THROW(tasks.task_done(), StateError);
  Process a(do_tasks, tasks, done);
  Process b(do_tasks, tasks, done);
  a.start();
  b.start();
  for (int i = 0; i != 20; ++i) tasks.put(i);
  tasks.join();
  EXPECT_EQ(done.get() % 1000, 20);
  tasks.put(1);
  tasks.close();
  EXPECT_TRUE(tasks.join_for(20s));
  a.join();
  b.join();
}

void drain(Queue<int> queue, SimpleQueue<int> start, SimpleQueue<std::vector<int>> answers) {
  static_cast<void>(start.get());
  std::vector<int> all;
  while (const auto number = queue.try_get()) all.push_back(*number);
  answers.put(all);
}

// _TestQueue.test_put: every form, full for each, and the child drains it
TEST_P(Queues, EveryFormOfPutFillsItAndAChildDrainsIt) {
  const Queue<int> queue(6);
  const SimpleQueue<int> start;
  const SimpleQueue<std::vector<int>> answers;
  Process child(drain, queue, start, answers);
  child.start();
  queue.put(1);
  EXPECT_TRUE(queue.try_put(2));
  EXPECT_TRUE(queue.try_put_for(3, 0ms));
  EXPECT_TRUE(queue.try_put_for(4, 10s));
  EXPECT_TRUE(queue.try_put_until(5, std::chrono::steady_clock::now() + 1s));
  queue.put_many(std::vector{6});
  EXPECT_TRUE(queue.full());
  EXPECT_FALSE(queue.try_put(7));
  EXPECT_FALSE(queue.try_put_for(7, -1s));
  EXPECT_FALSE(queue.try_put_for(7, 10ms));
  EXPECT_FALSE(queue.try_put_until(7, std::chrono::steady_clock::now() + 10ms));
  EXPECT_FALSE(queue.try_put_until(7, std::chrono::steady_clock::now() - 1s));
  start.put(0);
  EXPECT_EQ(answers.get(), (std::vector{1, 2, 3, 4, 5, 6}));
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(queue.full());
  child.join();
}

void put_four(Queue<int> queue) {
  for (int i = 2; i != 6; ++i) queue.put(i);
}

// _TestQueue.test_get: every form, in order, empty for each
TEST_P(Queues, EveryFormOfGetTakesInOrderWhatAChildPut) {
  const Queue<int> queue;
  Process child(put_four, queue);
  child.start();
  EXPECT_EQ(queue.get(), 2);
  EXPECT_EQ(queue.try_get_for(20s), 3);
  EXPECT_EQ(queue.try_get_until(std::chrono::steady_clock::now() + 20s), 4);
  EXPECT_EQ(queue.next(), 5);
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(queue.try_get());
  EXPECT_FALSE(queue.try_get_for(-1s));
  EXPECT_FALSE(queue.try_get_for(10ms));
  EXPECT_FALSE(queue.try_get_until(std::chrono::steady_clock::now() + 10ms));
  child.join();
}

// _TestQueue.test_fork, test_qsize: used before the child is there, and by it
TEST_P(Queues, AQueueThatWasUsedBeforeWorksInAChild) {
  const Queue<int> queue;
  for (int i = 0; i != 10; ++i) queue.put(i);
  EXPECT_EQ(queue.size(), 10U);
  Process child(put_numbers, queue, 10, 20);
  child.start();
  for (int i = 0; i != 20; ++i) EXPECT_EQ(queue.get(), i);
  EXPECT_EQ(queue.size(), 0U);
  child.join();
}

// _TestQueue.test_timeout
TEST_P(Queues, ATimedGetWaitsAsLongAsItSays) {
  const Queue<int> queue;
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(queue.try_get_for(200ms));
  EXPECT_GE(std::chrono::steady_clock::now() - before, 200ms);
}

struct Stubborn {
  int number = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    if (number < 0) throw std::domain_error("not this one");
    archive(number);
  }
};

// _TestQueue.test_queue_feeder_donot_stop_onexc, test_queue_feeder_on_queue_feeder_error: there is
// no feeder, so whoever puts gets the error
TEST_P(Queues, WhatCannotBeEncodedIsAnErrorOfPutAndNothingElse) {
  const Queue<Stubborn> queue(1);
  for (int i = 1; i != 4; ++i) {
    EXPECT_THROW(queue.put({-i}), std::domain_error);
    EXPECT_THROW(static_cast<void>(queue.try_put({-i})), std::domain_error);
    EXPECT_EQ(queue.size(), 0U);
    queue.put({i});
    EXPECT_TRUE(queue.full());
    EXPECT_EQ(queue.get().number, i);
  }
}

// _TestQueue.test_closed_queue_empty_exceptions: what is asked of a closed one is answered
TEST_P(Queues, AClosedQueueStillAnswers) {
  const Queue<int> unused;
  unused.close();
  EXPECT_TRUE(unused.empty());
  const Queue<int> used(1);
  used.put(1);
  used.close();
  EXPECT_FALSE(used.empty());
  EXPECT_TRUE(used.full());
  EXPECT_EQ(used.get(), 1);
  EXPECT_TRUE(used.empty());
}

void put_two(SimpleQueue<bool> queue, SimpleQueue<int> go, SimpleQueue<int> done) {
  static_cast<void>(go.get());
  queue.put(true);
  queue.put(false);
  done.put(1);
}

// TestSimpleQueue.test_empty: exact around the puts of a child; test_empty_exceptions and
// test_closed: closing does not make it forget; test_close: twice is fine
TEST_P(Queues, ASimpleQueueIsEmptyExactlyWhenItIs) {
  const SimpleQueue<bool> queue;
  const SimpleQueue<int> go;
  const SimpleQueue<int> done;
  Process child(put_two, queue, go, done);
  child.start();
  EXPECT_TRUE(queue.empty());
  go.put(1);
  EXPECT_EQ(done.get(), 1);
  EXPECT_FALSE(queue.empty());
  EXPECT_EQ(queue.get(), true);
  EXPECT_FALSE(queue.empty());
  queue.close();
  queue.close();
  EXPECT_FALSE(queue.empty());
  EXPECT_EQ(queue.get(), false);
  EXPECT_TRUE(queue.empty());
  EXPECT_THROW(queue.put(true), QueueClosed);
  EXPECT_THROW(static_cast<void>(queue.get()), QueueClosed);
  child.join();
}

// TestSimpleQueue.test_empty, test_close
TEST_P(Queues, SimpleQueue) {
  SimpleQueue<std::string> queue;
  EXPECT_TRUE(queue.empty());
  queue.put("one");
  EXPECT_FALSE(queue.empty());
  EXPECT_EQ(queue.get(), "one");
}

void storm_put(Queue<std::string> queue, int producer) {
  for (int i = 0;; ++i) {
    queue.put(std::to_string(producer) + ":" + std::to_string(i) + ":" +
              std::string(static_cast<std::size_t>(i % 7 * 40), 'x'));
  }
}
void storm_get(Queue<std::string> queue, Queue<int> counts) {
  int bad = 0;
  for (const std::string& text : queue) {
    const std::size_t second = text.find(':', text.find(':') + 1);
    const int i = std::stoi(text.substr(text.find(':') + 1));
    if (text.size() - second - 1 != static_cast<std::size_t>(i % 7 * 40)) ++bad;
  }
  counts.put(bad);
}

TEST_P(Queues, RandomKillsLeaveItWhole) {
  Queue<std::string> queue(10);
  Queue<int> counts;
  for (int round = 0; round != 6; ++round) {
    Process put_a(storm_put, queue, 2 * round);
    Process put_b(storm_put, queue, 2 * round + 1);
    Process get_a(storm_get, queue, counts);
    put_a.start();
    put_b.start();
    get_a.start();
    for (int i = 0; i != 200; ++i) ASSERT_TRUE(queue.try_get_for(20s));
    ::kill(put_a.pid().value(), SIGKILL);
    ::kill(get_a.pid().value(), SIGKILL);
    put_a.join();
    get_a.join();
    for (int i = 0; i != 200; ++i) ASSERT_TRUE(queue.try_get_for(20s));
    ::kill(put_b.pid().value(), SIGKILL);
    put_b.join();
    while (queue.try_get()) continue;
    ASSERT_EQ(queue.size(), 0u);
  }
  Process last(storm_get, queue, counts);
  last.start();
  queue.put("0:1:" + std::string(40, 'x'));
  queue.close();
  last.join();
  EXPECT_EQ(counts.get(), 0);
}

detail::QueueCore core_of(const Queue<int>& queue) {
  return detail::QueueCore(detail::HandleAccess::handle(queue));
}
void claim_and_die(Queue<int> queue) {
  const detail::QueueCore core = core_of(queue);
  if (core.claim(detail::Deadline::now())) ::raise(SIGKILL);
}
void hold_and_die(Queue<int> queue) {
  const detail::QueueCore core = core_of(queue);
  detail::QueueCore::Held held;
  const auto taken = core.take(held, false, detail::Deadline::now());
  if (taken == detail::QueueCore::Taken::message) ::raise(SIGKILL);
}

// Whoever has joined the dead may ask at once, nobody need have put or taken since.
TEST_P(Queues, WhatTheDeadHadInHandIsNotCounted) {
  Queue<int> queue(1);
  Process producer(claim_and_die, queue);
  producer.start().join();
  ASSERT_EQ(producer.exitcode(), -SIGKILL);
  EXPECT_FALSE(queue.full());
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_TRUE(queue.empty());

  queue.put(1);
  Process consumer(hold_and_die, queue);
  consumer.start().join();
  ASSERT_EQ(consumer.exitcode(), -SIGKILL);
  EXPECT_EQ(queue.size(), 1u) << "it is given to another";
  EXPECT_FALSE(queue.empty());
  EXPECT_EQ(queue.try_get(), 1);
  EXPECT_TRUE(queue.empty());
}

void wait_for_one(Queue<int> queue, Queue<double> answers) {
  queue.put(1);
  (void)queue.get();
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  const double before = static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
  answers.put(0);
  (void)queue.get();
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  answers.put(static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec) - before);
}

TEST_P(Queues, WaitingCostsNoTime) {
  Queue<int> queue;
  Queue<double> answers;
  Process child(wait_for_one, queue, answers);
  child.start();
  (void)answers.get();
  ::usleep(300'000);
  queue.put(2);
  EXPECT_LT(answers.get(), 0.03);
  child.join();
}

std::size_t shared_bytes() {
  const auto member = detail::Member::require();
  return detail::Heap::measure(member->segment()).shared;
}

void make_and_die() {
  Queue<std::string> queue;
  for (int i = 0; i != 50; ++i) queue.put(std::string(1000, 'x'));
  ::raise(SIGKILL);
}

TEST_P(Queues, WhatAKilledProcessLeftGoesWithIt) {
  const std::size_t before = shared_bytes();
  Process child(make_and_die);
  child.start();
  child.join();
  EXPECT_TRUE(eventually([&] { return shared_bytes() <= before; }));
}

BROOD_UNDER_EVERY_START_METHOD(Queues);

TEST(QueueMemoryInUse, WhatNobodyTookGoesWithTheQueue) {
  const std::size_t before = shared_bytes();
  {
    Queue<std::string> queue;
    for (int i = 0; i != 50; ++i) queue.put(std::string(1000, 'x'));
    EXPECT_GT(shared_bytes(), before);
    for (int i = 0; i != 20; ++i) (void)queue.get();
  }
  EXPECT_EQ(shared_bytes(), before);
}

class QueueMemory : public ::testing::Test {
 protected:
  const std::string large_ = std::string(std::size_t{1} << 20U, 'x');
};

TEST_F(QueueMemory, AFullMemoryIsAnErrorOfPutAndNothingIsLost) {
  Queue<std::string> queue;
  queue.put("first");
  {
    const testing::NoMemory none;
    EXPECT_THROW(queue.put(large_), SharedMemoryFull);
    EXPECT_THROW((void)queue.try_put(large_), SharedMemoryFull);
    queue.put("second");  // which fits into its slot
    EXPECT_EQ(queue.size(), 2u);
  }
  queue.put(large_);
  EXPECT_EQ(queue.get(), "first");
  EXPECT_EQ(queue.get(), "second");
  EXPECT_EQ(queue.get(), large_);
  EXPECT_TRUE(queue.empty());
}

TEST_F(QueueMemory, WithoutMemoryToGrowWhatIsInsideStays) {
  Queue<int> queue;
  const testing::NoMemory none;
  int put = 0;
  EXPECT_THROW(
      {
        for (; put != 10'000'000; ++put) queue.put(put);
      },
      SharedMemoryFull);
  ASSERT_GT(put, 0);
  EXPECT_EQ(queue.size(), static_cast<std::size_t>(put));
  for (int i = 0; i != put; ++i) ASSERT_EQ(queue.get(), i);
  EXPECT_TRUE(queue.empty());
  queue.put(put);  // there are slots again
  EXPECT_EQ(queue.get(), put);
}

TEST_F(QueueMemory, AQueueThatIsToWaitForMemoryDoes) {
  const Queue<std::string> queue(QueueOptions{.wait_for_memory = true});
  const std::string larger(8 * large_.size(), 'y');  // than what the heap may have kept
  std::optional<testing::NoMemory> none(std::in_place);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW((void)queue.try_put_for(larger, 30ms), SharedMemoryFull);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 30ms);
  auto late = std::async(std::launch::async, [&] { queue.put(larger); });
  EXPECT_EQ(late.wait_for(30ms), std::future_status::timeout);
  EXPECT_TRUE(queue.empty());
  none.reset();
  EXPECT_NO_THROW(late.get());
  EXPECT_EQ(queue.get(), larger);
}

}  // namespace
}  // namespace brood::queue_test
