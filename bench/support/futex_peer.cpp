#include "futex_peer.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "forked_peer.hpp"

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
  pid_ = fork_peer();
  if (pid_ == 0) answer_pings();
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
  end_peer(pid_);
  ::munmap(turn_, sizeof(Word));
}

}  // namespace bench
