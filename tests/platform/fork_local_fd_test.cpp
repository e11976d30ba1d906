// Not for ThreadSanitizer: processes.
#include <brood/platform/fork_local_fd.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <utility>

#include <brood/platform/socket.hpp>

#include "support/forked.hpp"

namespace brood::detail::fork_local_fd_test {
namespace {

using namespace brood::testing;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
bool at_end(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

TEST(ForkLocalFd, AChildThatGoesOnHasWhatIsKeptAndNothingElse) {
  auto [a, b] = socket_pair();
  auto [c, d] = socket_pair();  // d: nobody sends, so only the dead end is at its end
  std::optional<ForkLocalFd> kept(std::move(a));
  std::optional<ForkLocalFd> left(std::move(c));
  b.reset();
  const std::array<int, 1> numbers{kept->get()};
  const int other = left->get();
  in_child([&] {
    abandon_fork_local_fds(numbers);
    EXPECT_TRUE(is_open(other)) << "its number stays taken";
    EXPECT_TRUE(at_end(other));
    ForkLocalFd mine{Fd(numbers[0])};
    kept.reset();
    EXPECT_TRUE(is_open(mine.get())) << "the parent's object is not its owner any more";
    left.reset();
    EXPECT_FALSE(is_open(other));
    const Fd again(::fcntl(0, F_DUPFD_CLOEXEC, other));
    EXPECT_EQ(again.get(), other);
    in_child([&] {
      abandon_fork_local_fds({});
      EXPECT_TRUE(at_end(mine.get()));
      mine.reset();
      EXPECT_FALSE(is_open(numbers[0]));
    });
    const int number = mine.get();
    mine.reset();
    EXPECT_FALSE(is_open(number));
  });
  EXPECT_TRUE(is_open(numbers[0]));
  EXPECT_TRUE(is_open(other));
}

}  // namespace
}  // namespace brood::detail::fork_local_fd_test
