#include <brood/platform/copy_guard.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include <brood/platform/thread_events.hpp>

namespace brood::detail {
namespace {

struct Guard {
  std::byte* memory = nullptr;
  std::size_t bytes = 0;
  const char* message = "";
  bool closed = false;  // this is a copy
};
Guard guard;
thread_local bool forks_member = false;

void in_the_copy() {
  if (forks_member) {
    guard = {};
  } else if (guard.memory != nullptr) {
    guard.closed = ::mprotect(guard.memory, guard.bytes, PROT_NONE) == 0;
  }
}

}  // namespace

void guard_against_copies(std::byte* memory, std::size_t bytes, const char* message) {
  guard = {.memory = memory, .bytes = bytes, .message = message, .closed = false};
  static const bool registered = [] {
    on_fork(nullptr, nullptr, &in_the_copy);
    return true;
  }();
  static_cast<void>(registered);
}

void end_if_copy(const void* address) noexcept {
  const auto* const at = static_cast<const std::byte*>(address);
  if (!guard.closed || at < guard.memory || at >= guard.memory + guard.bytes) return;
  // Whether it could be said changes nothing.
  static_cast<void>(!::write(STDERR_FILENO, guard.message, std::strlen(guard.message)));
  ::_exit(1);
}

int fork_member() noexcept {
  forks_member = true;
  const int pid = ::fork();
  forks_member = false;
  return pid;
}

}  // namespace brood::detail
