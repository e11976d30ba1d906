#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include <brood/platform/fd.hpp>

#include "support/forked.hpp"

namespace brood::detail::fd_test {
namespace {

using brood::testing::in_child;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

int some_descriptor() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST(Fd, ClosesWhatItOwns) {
  int number = -1;
  {
    const Fd fd(some_descriptor());
    number = fd.get();
    EXPECT_TRUE(fd.valid());
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(Fd, MovesAndNeverClosesTwice) {
  Fd first(some_descriptor());
  const int number = first.get();
  Fd second(std::move(first));
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is the point
  EXPECT_EQ(second.get(), number);

  Fd third(some_descriptor());
  const int replaced = third.get();
  third = std::move(second);
  EXPECT_FALSE(is_open(replaced));
  EXPECT_EQ(third.get(), number);
  EXPECT_TRUE(is_open(number));

  Fd& same = third;
  third = std::move(same);
  EXPECT_EQ(third.get(), number);
  EXPECT_TRUE(is_open(number));

  third.reset();
  EXPECT_FALSE(is_open(number));
  const Fd fourth(some_descriptor());  // takes the number; the empty ones must not close it
  first.reset();
  second.reset();
  third.reset();
  EXPECT_TRUE(is_open(fourth.get()));
}

TEST(Fd, ReleaseHandsTheDescriptorOver) {
  int number = -1;
  {
    Fd fd(some_descriptor());
    number = fd.release();
    EXPECT_FALSE(fd.valid());
  }
  EXPECT_TRUE(is_open(number));
  close_fd(number);
  EXPECT_FALSE(is_open(number));
}

TEST(Fd, DescriptorZeroIsOne) {
  in_child([] {
    ::close(0);
    {
      const Fd fd(some_descriptor());
      ASSERT_EQ(fd.get(), 0);
      EXPECT_TRUE(fd.valid());
    }
    EXPECT_FALSE(is_open(0));
  });
}

TEST(Fd, ClosingKeepsErrno) {
  errno = ENOTTY;
  close_fd(-1);  // EBADF
  EXPECT_EQ(errno, ENOTTY);
  { const Fd nothing; }
  EXPECT_EQ(errno, ENOTTY);
}

}  // namespace
}  // namespace brood::detail::fd_test
