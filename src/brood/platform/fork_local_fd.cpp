#include <brood/platform/fork_local_fd.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <mutex>
#include <set>

namespace brood::detail {
namespace {

// SUBTLE: never destroyed: objects with static storage may hold descriptors until the very end.
struct Numbers {
  std::mutex mutex;
  unsigned generation = 0;  // grows from parent to child; guarded by mutex, as those below
  std::set<int> all;        // of this process's objects
  std::set<int> abandoned;  // of objects that came with the fork: dead ends
};
Numbers& numbers() {
  static auto* const the_numbers = new Numbers;
  return *the_numbers;
}

}  // namespace

ForkLocalFd::ForkLocalFd(Fd fd) {
  if (!fd.valid()) return;
  Numbers& known = numbers();
  const std::scoped_lock guard(known.mutex);
  known.all.insert(fd.get());
  fd_ = fd.release();
  generation_ = known.generation;
}

void ForkLocalFd::reset() noexcept {
  const int fd = std::exchange(fd_, -1);
  if (fd < 0) return;
  Numbers& known = numbers();
  const std::scoped_lock guard(known.mutex);
  // SUBTLE: forgotten before it is closed and under the lock, or another thread could be given the
  // number again and have its note erased.
  std::set<int>& notes = generation_ == known.generation ? known.all : known.abandoned;
  // A parent's number that is not noted has been kept, and is another object's now.
  if (notes.erase(fd) != 0) close_fd(fd);
}

void abandon_fork_local_fds(std::span<const int> kept) noexcept {
  Numbers& known = numbers();
  const std::scoped_lock guard(known.mutex);
  for (const int fd : kept) known.all.erase(fd);
  std::array<int, 2> ends{-1, -1};
  const bool have_dead_end =
      ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0;
  if (have_dead_end) ::close(ends[1]);
  for (const int fd : known.all) {
    if (!have_dead_end || ::dup3(ends[0], fd, O_CLOEXEC) < 0) ::close(fd);
  }
  if (have_dead_end) ::close(ends[0]);
  if (have_dead_end) known.abandoned.merge(known.all);
  known.all.clear();
  ++known.generation;
}

}  // namespace brood::detail
