#include "futex_peer.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

namespace bench {
namespace {

using Word = std::atomic<std::uint32_t>;
static_assert(sizeof(Word) == sizeof(std::uint32_t));

constexpr std::uint32_t kCaller = 0;  // whose turn it is
constexpr std::uint32_t kPeer = 1;

void give_turn_to(Word& turn, std::uint32_t whom) {
  turn.store(whom);
  ::syscall(SYS_futex, &turn, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// The loop is for EINTR and for wakes that come after the value has been seen already.
void await_turn_of(Word& turn, std::uint32_t me) {
  for (std::uint32_t seen; (seen = turn.load()) != me;)
    ::syscall(SYS_futex, &turn, FUTEX_WAIT, seen, nullptr, nullptr, 0);
}

}  // namespace

FutexPeer::FutexPeer() {
  void* const page =
      ::mmap(nullptr, sizeof(Word), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  turn_ = ::new (page) Word(kCaller);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ > 0) return;
  // It must not outlive the caller, nor hold open what others watch for the caller's end.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  ::close_range(3, ~0u, 0);
  answer_pings();
}

void FutexPeer::answer_pings() {
  for (;;) {
    await_turn_of(*turn_, kPeer);
    give_turn_to(*turn_, kCaller);
  }
}

void FutexPeer::round_trip() {
  give_turn_to(*turn_, kPeer);
  await_turn_of(*turn_, kCaller);
}

FutexPeer::~FutexPeer() {
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  ::munmap(turn_, sizeof(Word));
}

}  // namespace bench
