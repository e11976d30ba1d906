// What a client decides, in virtual time.
// Not for ThreadSanitizer: one thread plays all.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <brood/cluster/task_table.hpp>
#include <brood/errors.hpp>

namespace brood::testing::task_table_test {
namespace {

using namespace std::chrono_literals;
using detail::TaskTable;

struct Nothing final : detail::ClusterTask {
  void finish(std::span<const std::byte> /*value*/) override {}
  void fail(std::exception_ptr /*error*/) override {}
};

class TaskTables : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kBuild = 7;

  std::uint64_t add(const std::shared_ptr<const detail::ClusterCall>& call) {
    return table_.add(call, detail::Bytes(10), std::make_shared<Nothing>(), now_);
  }
  std::shared_ptr<detail::ClusterCall> call(std::int32_t priority = 0) const {
    auto made = std::make_shared<detail::ClusterCall>();
    made->kind.priority = priority;
    made->made = now_;
    return made;
  }
  void node(std::uint32_t slots, const std::string& name = "node", std::uint64_t build = kBuild) {
    table_.hear({.node = name, .build = build, .slots = slots}, now_);
  }
  /// The numbers of the next message.
  std::vector<std::uint64_t> next() {
    std::vector<std::uint64_t> numbers;
    for (const detail::TaskItem& item : table_.next(now_).items) numbers.push_back(item.number);
    return numbers;
  }
  /// Of all messages that there is room for.
  std::vector<std::uint64_t> all_next() {
    std::vector<std::uint64_t> all;
    for (auto numbers = next(); !numbers.empty(); numbers = next()) {
      all.insert(all.end(), numbers.begin(), numbers.end());
    }
    return all;
  }
  TaskTable::Verdict::What result(std::uint64_t number, std::uint32_t attempt = 1,
                                  detail::TaskResult::Kind kind = detail::TaskResult::Kind::value) {
    const auto what =
        table_.accept({.number = number, .attempt = attempt, .kind = kind, .bytes = {}}, now_).what;
    table_.accepted();
    return what;
  }
  template <class Error>
  static bool all_are(const TaskTable::Failed& failed) {
    for (const auto& [task, error] : failed) {
      try {
        std::rethrow_exception(error);
      } catch (const Error&) {
        continue;
      } catch (...) {
        return false;
      }
    }
    return true;
  }

  TaskTable::Time now_{1h};
  TaskTable table_{{}, kBuild, now_};
};

using What = TaskTable::Verdict::What;
using Kind = detail::TaskResult::Kind;

TEST_F(TaskTables, WhatHasTheHigherPriorityGoesFirst) {
  node(1);
  const auto low = call(-1);
  const auto high = call(5);
  const auto plain = call();
  const std::uint64_t a = add(low);
  const std::uint64_t b = add(plain);
  const std::uint64_t c = add(high);
  const std::uint64_t d = add(plain);
  EXPECT_EQ(all_next(), (std::vector{c, b, d, a}));
}

TEST_F(TaskTables, NoMoreIsAwayThanThereIsRoomFor) {
  node(2);
  const auto tasks = call();
  for (int i = 0; i < 1000; ++i) add(tasks);
  const std::size_t sent = all_next().size();
  EXPECT_EQ(sent, 32U) << "16 for each of 2 workers";
  EXPECT_EQ(result(1), What::final);
  EXPECT_EQ(all_next().size(), 1U);
  EXPECT_EQ(table_.in_flight(), 32U);
}

TEST_F(TaskTables, SmallMessagesDoNotMakeTheNextAsSmall) {
  node(2);
  const auto tasks = call();
  for (int i = 0; i < 20'000; ++i) add(tasks);
  // One after the other in the beginning, as nothing is known; each takes 100 us.
  std::deque<std::size_t> away;
  std::deque<std::uint64_t> sent;
  std::size_t messages = 0;
  std::size_t done = 0;
  for (int turn = 0; done < 20'000; ++turn) {
    ASSERT_LT(turn, 30'000);
    if (turn % 50 == 0) {
      node(2);
      EXPECT_TRUE(table_.tick(now_).empty());
    }
    for (auto numbers = next(); !numbers.empty(); numbers = next()) {
      away.push_back(numbers.size());
      sent.insert(sent.end(), numbers.begin(), numbers.end());
      ++messages;
    }
    ASSERT_FALSE(away.empty());
    for (std::size_t i = 0; i < away.front(); ++i, ++done) {
      ASSERT_EQ(result(sent.front()), What::final);
      sent.pop_front();
    }
    now_ += std::chrono::microseconds(100) * away.front();
    away.pop_front();
  }
  EXPECT_LT(messages, 20'000U / 20) << "twenty together on average, at least";
}

TEST_F(TaskTables, LargeTasksAreNotAllAwayAtOnce) {
  node(8);
  const auto tasks = call();
  for (int i = 0; i < 4; ++i) {
    table_.add(tasks, detail::Bytes(std::size_t{100} << 20U), std::make_shared<Nothing>(), now_);
  }
  EXPECT_EQ(all_next().size(), 2U) << "of 256 MiB";
  EXPECT_EQ(result(1), What::final);
  EXPECT_EQ(all_next().size(), 1U);
}

TEST_F(TaskTables, WhatTheEngineRefusedGoesNextTime) {
  node(1);
  const auto tasks = call();
  add(tasks);
  add(tasks);
  const TaskTable::Batch batch = table_.next(now_);
  EXPECT_FALSE(batch.items.empty());
  table_.put_back(batch);
  EXPECT_EQ(table_.in_flight(), 0U);
  EXPECT_EQ(all_next(), (std::vector<std::uint64_t>{1, 2}));
}

TEST_F(TaskTables, TwoLooksThatFindNothingMeanThatItIsLost) {
  node(1);
  add(call());
  EXPECT_EQ(next().size(), 1U);
  now_ += 1s;
  ASSERT_TRUE(table_.wants_look(now_));
  EXPECT_TRUE(table_.looked(true, now_).empty());
  now_ += 100ms;
  ASSERT_TRUE(table_.wants_look(now_));
  EXPECT_TRUE(table_.looked(true, now_).empty());
  EXPECT_TRUE(next().empty()) << "too soon";
  now_ += 500ms;
  EXPECT_TRUE(table_.looked(true, now_).empty());
  EXPECT_EQ(next(), (std::vector<std::uint64_t>{1}));
  EXPECT_EQ(table_.counts.resent, 1U);
}

TEST_F(TaskTables, AResultBetweenTheLooksMakesThemWorthless) {
  node(1);
  const auto tasks = call();
  add(tasks);
  add(tasks);
  EXPECT_EQ(all_next().size(), 2U);
  now_ += 1s;
  ASSERT_TRUE(table_.wants_look(now_));
  EXPECT_TRUE(table_.looked(true, now_).empty());
  EXPECT_EQ(result(1), What::final);
  now_ += 1s;
  EXPECT_TRUE(table_.looked(true, now_).empty()) << "asked before the result came";
  EXPECT_FALSE(table_.wants_look(now_));
  EXPECT_EQ(table_.counts.resent, 0U);
}

TEST_F(TaskTables, WhatWasSentAfterTheFirstLookIsNotLost) {
  node(1);
  const auto tasks = call();
  add(tasks);
  EXPECT_EQ(next().size(), 1U);
  now_ += 1s;
  ASSERT_TRUE(table_.wants_look(now_));
  EXPECT_TRUE(table_.looked(true, now_).empty());
  now_ += 300ms;
  add(tasks);
  EXPECT_EQ(next(), (std::vector<std::uint64_t>{2}));
  now_ += 300ms;
  EXPECT_TRUE(table_.looked(true, now_).empty());
  EXPECT_EQ(all_next(), (std::vector<std::uint64_t>{1}));
}

TEST_F(TaskTables, WhatIsToRunOnceIsNotSentAgain) {
  node(1);
  auto once = call();
  once->kind.at_most_once = true;
  add(once);
  EXPECT_EQ(next().size(), 1U);
  static_cast<void>(table_.wants_look(now_));
  static_cast<void>(table_.looked(true, now_));
  now_ += 1s;
  const TaskTable::Failed failed = table_.looked(true, now_);
  EXPECT_EQ(failed.size(), 1U);
  EXPECT_TRUE(all_are<TaskLost>(failed));
  EXPECT_TRUE(table_.empty());
}

TEST_F(TaskTables, WithoutAgentsTasksWaitForAsLongAsTheyArePatient) {
  node(4, "other", kBuild + 1);
  add(call());
  now_ += 4s;
  EXPECT_TRUE(table_.tick(now_).empty());
  EXPECT_FALSE(table_.nodes().at(0).can_run);
  now_ += 7s;
  const TaskTable::Failed failed = table_.tick(now_);
  EXPECT_EQ(failed.size(), 1U);
  EXPECT_TRUE(all_are<NoAgents>(failed));
  EXPECT_TRUE(table_.nodes().empty()) << "silent for too long";
}

TEST_F(TaskTables, AnEngineThatIsAwayIsNoLackOfAgents) {
  node(4);
  add(call());
  for (int second = 0; second < 60; ++second) {
    now_ += 1s;
    table_.unreachable(now_);
    ASSERT_TRUE(table_.tick(now_).empty()) << second;
  }
  EXPECT_TRUE(table_.nodes().empty()) << "it is not heard of";
  now_ += 6s;
  EXPECT_TRUE(table_.tick(now_).empty()) << "the engine is there again, patience begins anew";
  now_ += 5s;
  EXPECT_TRUE(all_are<NoAgents>(table_.tick(now_)));
  EXPECT_TRUE(table_.empty());
}

TEST_F(TaskTables, ManyWorkersGetMessagesOfManyTasks) {
  // 1000 nodes with 4 workers, tasks of 100 ms: 40,000 a second, by 1000 messages.
  for (int i = 0; i < 1000; ++i) node(4, "node" + std::to_string(i));
  const auto tasks = call();
  std::uint64_t last = 0;
  for (int i = 0; i < 100'000; ++i) last = add(tasks);
  std::vector<std::uint64_t> away = all_next();
  static_cast<void>(table_.tick(now_));
  std::size_t done = 0;
  for (int tick = 0; tick < 4; ++tick) {
    now_ += 50ms;
    for (int i = 0; i < 2000; ++i) EXPECT_EQ(result(away.at(done++)), What::final);
    static_cast<void>(table_.tick(now_));
    for (int i = 0; i < 2000; ++i) last = add(tasks);
    for (auto numbers = next(); !numbers.empty(); numbers = next()) {
      away.insert(away.end(), numbers.begin(), numbers.end());
    }
  }
  // The caller refills a window: what is waiting is little, what is away is much.
  for (int i = 0; i < 400; ++i) {
    EXPECT_EQ(result(away.at(done++)), What::final);
    last = add(tasks);
  }
  EXPECT_GE(next().size(), 20U) << "of 400 that wait and " << table_.in_flight() << " away";
  EXPECT_EQ(last, 108'400U);
}

TEST_F(TaskTables, FewTasksAreSharedOutAmongTheNodes) {
  for (int i = 0; i < 10; ++i) node(4, "node" + std::to_string(i));
  const auto tasks = call();
  for (int i = 0; i < 20; ++i) add(tasks);
  std::size_t messages = 0;
  for (auto numbers = next(); !numbers.empty(); numbers = next()) {
    EXPECT_EQ(numbers.size(), 1U);
    ++messages;
  }
  EXPECT_EQ(messages, 20U);
}

TEST_F(TaskTables, ANodeThatChangesOrGoesTakesItsWorkersAlong) {
  node(2);
  node(3, "other");
  node(1);
  node(7, "stranger", kBuild + 1);
  const auto tasks = call();
  for (int i = 0; i < 1000; ++i) add(tasks);
  EXPECT_EQ(all_next().size(), 64U) << "16 for each of 4 workers";
  now_ += 4s;
  node(1);
  now_ += 2s;
  EXPECT_TRUE(table_.tick(now_).empty());
  for (std::uint64_t number = 1; number <= 50; ++number) EXPECT_EQ(result(number), What::final);
  EXPECT_EQ(all_next().size(), 2U) << "16 are away then: of the one that is left";
}

TEST_F(TaskTables, ADeadlineFailsWhatIsLeftOfItsCall) {
  node(1);
  auto limited = call();
  limited->deadline = 2s;
  add(limited);
  add(limited);
  add(call());
  EXPECT_EQ(all_next().size(), 3U);
  EXPECT_EQ(result(1), What::final);
  now_ += 2s;
  node(1);
  const TaskTable::Failed failed = table_.tick(now_);
  EXPECT_EQ(failed.size(), 1U);
  EXPECT_TRUE(all_are<TaskTimeout>(failed));
  EXPECT_EQ(table_.take_dropped(), (std::vector<std::uint64_t>{2})) << "agents are to stop it";
  EXPECT_EQ(result(2), What::old);
  EXPECT_EQ(result(3), What::final);
}

TEST_F(TaskTables, AFailureIsAskedAboutOnce) {
  node(1);
  auto retried = call();
  retried->retries = 2;
  retried->retry_if = [](const std::exception&) { return true; };
  retried->kind.backoff = std::chrono::nanoseconds(1s).count();
  retried->kind.max_backoff = std::chrono::nanoseconds(1min).count();
  add(retried);
  EXPECT_EQ(next().size(), 1U);
  EXPECT_EQ(result(1, 1, Kind::error), What::question);
  EXPECT_EQ(result(1, 1, Kind::error), What::old) << "while it is asked about";
  table_.try_again(1, now_, 0);
  EXPECT_TRUE(table_.tick(now_).empty());
  EXPECT_TRUE(next().empty()) << "it pauses";
  now_ += 1s;
  node(1);
  EXPECT_TRUE(table_.tick(now_).empty());
  const TaskTable::Batch batch = table_.next(now_);
  ASSERT_EQ(batch.items.size(), 1U);
  EXPECT_EQ(batch.items[0].attempt, 2U);
  EXPECT_EQ(result(1, 1, Kind::error), What::old) << "of the attempt before";
  EXPECT_EQ(result(1, 2, Kind::error), What::question);
  table_.try_again(1, now_, 0);
  EXPECT_EQ(result(1, 1, Kind::value), What::final) << "a value is a value";
  now_ += 1min;
  node(1);
  EXPECT_TRUE(table_.tick(now_).empty());
  EXPECT_TRUE(next().empty());
  EXPECT_EQ(table_.in_flight(), 0U);
}

TEST_F(TaskTables, TheLastAttemptIsNotAskedAbout) {
  node(1);
  auto retried = call();
  retried->retries = 1;
  retried->retry_if = [](const std::exception&) { return true; };
  add(retried);
  EXPECT_EQ(next().size(), 1U);
  EXPECT_EQ(result(1, 1, Kind::error), What::question);
  table_.try_again(1, now_, 0);
  static_cast<void>(table_.tick(now_));
  EXPECT_EQ(next().size(), 1U);
  EXPECT_EQ(result(1, 2, Kind::error), What::final);
}

TEST_F(TaskTables, AgentsAreToldOfWhatTheyHaveInVain) {
  node(1);
  const auto tasks = call();
  const std::uint64_t sent = add(tasks);
  EXPECT_EQ(next().size(), 1U);
  const std::uint64_t queued = add(tasks);
  EXPECT_NE(table_.drop(queued), nullptr);
  EXPECT_TRUE(table_.take_dropped().empty()) << "no agent has it";
  EXPECT_NE(table_.drop(sent), nullptr);
  EXPECT_EQ(table_.drop(sent), nullptr);
  EXPECT_EQ(table_.take_dropped(), (std::vector<std::uint64_t>{sent}));
  EXPECT_TRUE(all_next().empty());
  EXPECT_TRUE(table_.empty());
}

}  // namespace
}  // namespace brood::testing::task_table_test
