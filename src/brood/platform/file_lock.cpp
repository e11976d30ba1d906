#include <brood/platform/file_lock.hpp>

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/named_memory.hpp>

namespace brood::detail {

FileLock::FileLock(const Fd& file, std::uint64_t byte, Deadline deadline)
    : own_(reopen_memory(file)) {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(byte);
  range.l_len = 1;
  // NOTE: F_OFD_SETLKW knows no deadline. It is held for microseconds, unless its holder is
  // stopped.
  constexpr auto kPause = std::chrono::microseconds(50);
  constexpr int kYields = 20;
  for (int tries = 0; ::fcntl(own_.get(), F_OFD_SETLK, &range) != 0; ++tries) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EACCES) {
      throw SystemError("fcntl(F_OFD_SETLK)", fmt::format("byte {}", byte), errno);
    }
    if (deadline.passed()) {
      throw TimeoutError("another process or thread holds the lock of this part of a file");
    }
    if (tries < kYields) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kPause);
    }
  }
}

}  // namespace brood::detail
