#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <brood/platform/deadline.hpp>
#include <brood/platform/event_fd.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/pipe.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/service_thread.hpp>

namespace brood::detail {

/// What the workers of a pool write to stderr: passed on to this process's, and the end of it kept,
/// for the report of a crash.
///
/// Each worker has a pipe, which a thread reads. That thread alone writes to stderr, so nobody else
/// ever waits for whoever reads that. A worker's descendants have its pipe too: it is read for as
/// long as anybody can write into it.
///
/// Any threads of the process that made it may use it at once. A copy of that process abandons it.
class WorkerStderr {
 public:
  /// Keeps the last `most` bytes of each of `slots` workers. Throws SystemError.
  WorkerStderr(std::uint32_t slots, std::size_t most);
  WorkerStderr(const WorkerStderr&) = delete;
  WorkerStderr& operator=(const WorkerStderr&) = delete;
  /// Passes on what has come, as far as somebody takes it soon.
  ~WorkerStderr();
  /// In a copy of the process: there is no thread here, and nothing to pass on.
  void abandon() noexcept;

  /// What the next worker in `slot` is to have as its stderr, from now on its own. Throws
  /// SystemError.
  Fd open(std::uint32_t slot);
  /// The end of what the worker in `slot`, which has ended, had written.
  [[nodiscard]] std::string tail(std::uint32_t slot);

 private:
  struct Stream {
    BytePipe pipe;
    std::uint32_t slot;
    std::string tail{};
    bool ended = false;
  };
  using Lock = std::unique_lock<std::mutex>;

  void pass_on();
  /// Reads from those that are readable; false when none is. With the mutex held.
  bool read_ready();
  /// Appends to `pending_` and to its tail, and notes its end. With the mutex held.
  void read(Stream& stream, std::size_t most);
  void write_out(std::string_view text);

  const std::size_t most_;
  EventFd news_;
  Poller poller_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint32_t> started_{0};  // slept on
  std::mutex mutex_;
  std::map<std::uint64_t, Stream> streams_;  // guarded by mutex_, as all below
  std::vector<std::uint64_t> of_slot_;
  std::uint64_t next_ = 1;
  std::string pending_;
  Deadline end_ = Deadline::never();  // the thread's, as the next
  std::string out_;
  std::unique_ptr<ServiceThread> thread_;
};

}  // namespace brood::detail
