// Results that are computed in this process: who has what they ended with.
#include <gtest/gtest.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>

#include <brood/channel/local_task.hpp>
#include <brood/errors.hpp>
#include <brood/outcome.hpp>

namespace brood::detail::local_task_test {
namespace {

/// An exception that tells whether there is one still: the count of `lives`.
struct Counted : std::runtime_error {
  explicit Counted(std::shared_ptr<int> its_lives)
      : std::runtime_error("counted"), lives(std::move(its_lives)) {}
  std::shared_ptr<int> lives;
};

// Who destroys the task may be another thread, which has no business with what this one has caught.
template <class Take>
void expect_alone(const Take& take) {
  const auto lives = std::make_shared<int>();
  LocalResult<int> task;
  ASSERT_TRUE(task.fail_with(std::make_exception_ptr(Counted(lives))));
  ASSERT_TRUE(task.ready());
  try {
    take(task);
    FAIL() << "nothing was thrown";
  } catch (const Counted& e) {
    EXPECT_EQ(lives.use_count(), 2) << e.what();
  }
  EXPECT_EQ(lives.use_count(), 1) << "the task has it still";
}

TEST(LocalTask, AnExceptionThatWasThrownToItsTakerIsTheTakers) {
  expect_alone([](LocalResult<int>& task) { task.take(); });
  expect_alone([](LocalResult<int>& task) { task.take_outcome().value(); });
}

TEST(LocalTask, AnOutcomeThatIsKeptThrowsAgain) {
  const Outcome<int> outcome(std::make_exception_ptr(std::runtime_error("kept")));
  EXPECT_THROW(outcome.value(), std::runtime_error);
  EXPECT_THROW(outcome.value(), std::runtime_error);
  EXPECT_NE(outcome.error(), nullptr);
}

TEST(LocalTask, ACancelledTaskTakesNoFailure) {
  LocalResult<int> task;
  EXPECT_TRUE(task.cancel());
  EXPECT_FALSE(task.fail_with(std::make_exception_ptr(std::runtime_error("late"))));
  EXPECT_THROW(task.take(), TaskCancelled);
}

}  // namespace
}  // namespace brood::detail::local_task_test
