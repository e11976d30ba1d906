// Records of the log say which item wrote them, and in which attempt.
// Not for ThreadSanitizer: processes.
#include <signal.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include <brood/bind.hpp>
#include <brood/log.hpp>
#include <brood/thread_pool.hpp>

#include "pool_test_support.hpp"

namespace pool_log_test {
namespace {

using namespace brood::testing;
using brood::Pool;
namespace log = brood::log;

/// {text, item, attempt}; of a record without a task the attempt is 0.
struct Said {
  std::string text;
  std::optional<std::size_t> item;
  unsigned attempt = 0;
  auto operator<=>(const Said&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Said& said) {
  out << said.text << " (item ";
  return (said.item ? out << *said.item : out << "none") << ", attempt " << said.attempt << ')';
}

class PoolLogTest : public PoolTest {
 protected:
  void SetUp() override {
    PoolTest::SetUp();
    if (IsSkipped()) return;
    log::to_root([this](const log::Record& record) {
      const std::scoped_lock guard(mutex_);
      Said said{.text = std::string(record.text), .item = {}, .attempt = 0};
      if (record.task) {
        said.item = record.task->item;
        said.attempt = record.task->attempt;
      }
      said_.push_back(std::move(said));
    });
  }
  void TearDown() override {
    log::off();
    PoolTest::TearDown();
  }
  /// What has been said since the last call, sorted.
  std::vector<Said> said() {
    EXPECT_TRUE(log::flush());
    const std::scoped_lock guard(mutex_);
    std::sort(said_.begin(), said_.end());
    return std::exchange(said_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Said> said_;
};
BROOD_UNDER_EVERY_START_METHOD(PoolLogTest);

int tell(int n) {
  log::info("n{}", n);
  return n;
}
const std::vector<Said> kFour{{"n0", 0, 1}, {"n1", 1, 1}, {"n2", 2, 1}, {"n3", 3, 1}};

TEST_P(PoolLogTest, TheItem) {
  for (const int workers : {0, 1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    pool.with({.chunk = 4}).map(tell, first_integers(4));
    EXPECT_EQ(said(), kFour);
    for (const int n : pool.imap(tell, first_integers(4))) static_cast<void>(n);
    EXPECT_EQ(said(), kFour);
    pool.apply(tell, 7);
    log::info("outside");
    EXPECT_EQ(said(), (std::vector<Said>{{"n7", std::nullopt, 1}, {"outside", std::nullopt, 0}}));
  }
}

TEST_P(PoolLogTest, TheAttempt) {
  const auto third_time = [](const std::string& path, int n) {
    tell(n);
    if (n != 2) return;
    give_sign(path);
    if (read_file(path).size() < 3) ::raise(SIGKILL);
  };
  for (const int workers : {1, 2, 5}) {
    SCOPED_TRACE(workers);
    Pool pool({.workers = workers});
    const std::string number = std::to_string(workers);
    const std::vector<Said> expected{{"n0", 0, 1}, {"n1", 1, 1}, {"n2", 2, 1},
                                     {"n2", 2, 2}, {"n2", 2, 3}, {"n3", 3, 1}};
    pool.with({.chunk = 4, .retries = 2})
        .map(brood::bind(third_time, dir_.file("map" + number)), first_integers(4));
    EXPECT_EQ(said(), expected);
    for ([[maybe_unused]] const auto& done :
         pool.with({.retries = 2})
             .imap(
                 [](const std::pair<std::string, int>& input) {
                   tell(input.second);
                   if (input.second != 2) return 0;
                   give_sign(input.first);
                   if (read_file(input.first).size() < 3) ::raise(SIGKILL);
                   return 0;
                 },
                 std::vector<std::pair<std::string, int>>{{dir_.file("imap" + number), 0},
                                                          {dir_.file("imap" + number), 1},
                                                          {dir_.file("imap" + number), 2},
                                                          {dir_.file("imap" + number), 3}})) {
    }
    EXPECT_EQ(said(), expected);
    pool.with({.retries = 2}).submit(third_time, dir_.file("task" + number), 2).get();
    EXPECT_EQ(said(),
              (std::vector<Said>{
                  {"n2", std::nullopt, 1}, {"n2", std::nullopt, 2}, {"n2", std::nullopt, 3}}));
    // By exceptions, when the call says that these are worth it.
    const auto throws_once = [](const std::string& path, int n) {
      tell(n);
      give_sign(path);
      if (read_file(path).size() < 2) throw BadInput("once");
    };
    pool.with({.retries = 1, .retry_if = [](const std::exception&) { return true; }})
        .map(brood::bind(throws_once, dir_.file("throws" + number)), first_integers(1));
    EXPECT_EQ(said(), (std::vector<Said>{{"n0", 0, 1}, {"n0", 0, 2}}));
  }
}

TEST_P(PoolLogTest, OfAThreadPoolToo) {
  brood::ThreadPool pool({.workers = 2});
  pool.map(tell, first_integers(4));
  EXPECT_EQ(said(), kFour);
}

}  // namespace
}  // namespace pool_log_test
