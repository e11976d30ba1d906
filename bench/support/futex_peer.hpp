#pragma once
// The least that two processes can do to answer each other: one word in shared memory and the
// futex that it is.

#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace bench {

// A forked process that answers each ping. Both sides sleep until the other has written; neither
// spins.
class FutexPeer {
 public:
  FutexPeer();  // throws std::system_error
  FutexPeer(const FutexPeer&) = delete;
  FutexPeer& operator=(const FutexPeer&) = delete;
  ~FutexPeer();

  // Wakes the other process, and sleeps until it has woken this one.
  void round_trip();

 private:
  using Word = std::atomic<std::uint32_t>;

  [[noreturn]] void answer_pings();

  Word* turn_ = nullptr;
  pid_t pid_ = -1;
};

}  // namespace bench
