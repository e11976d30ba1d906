#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

namespace brood::detail {

/// Something for a thread of a ThreadPool to do.
class ThreadJob {
 public:
  ThreadJob() = default;
  ThreadJob(const ThreadJob&) = delete;
  ThreadJob& operator=(const ThreadJob&) = delete;
  virtual ~ThreadJob() = default;
  virtual void run() noexcept = 0;
  /// The pool was terminated: it will not be run, or is to stop if it runs.
  virtual void drop() noexcept = 0;
};

/// The part of a ThreadPool that does not depend on types: its threads, and what waits for them.
///
/// Private memory; kept alive by the pool and its threads. Any thread may call it. In a forked copy
/// of the process there are no threads, and nothing waits for any.
class ThreadCore : public std::enable_shared_from_this<ThreadCore> {
 public:
  struct Setup {
    std::uint32_t workers = 1;
    std::function<void()> initializer;
  };
  /// With its threads; waits until all have run the initializer, and throws what it threw.
  static std::shared_ptr<ThreadCore> start(Setup setup);
  explicit ThreadCore(Setup setup) : setup_(std::move(setup)) {}
  ThreadCore(const ThreadCore&) = delete;
  ThreadCore& operator=(const ThreadCore&) = delete;
  ~ThreadCore();

  [[nodiscard]] std::uint32_t workers() const { return setup_.workers; }
  /// The calling thread is one of its own.
  [[nodiscard]] bool is_worker() const;
  /// Throws PoolClosed.
  void require_open() const;
  /// To be run by the next free thread; what has a higher priority first. Throws PoolClosed.
  void add(std::shared_ptr<ThreadJob> job, int priority);

  void close();
  void join();
  void terminate() noexcept;

 private:
  void work(std::uint32_t slot);
  void join_threads() noexcept;
  void require_here(const char* call) const;

  Setup setup_;
  int pid_ = 0;
  std::unique_ptr<std::vector<std::thread>> threads_;
  std::mutex joining_;  // one thread at a time joins them
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // All below: guarded by mutex_.
  std::map<int, std::deque<std::shared_ptr<ThreadJob>>, std::greater<>> waiting_;  // by priority
  std::vector<std::shared_ptr<ThreadJob>> running_;                                // of each thread
  bool closed_ = false;
  bool terminated_ = false;
  std::uint32_t initialized_ = 0;
  std::exception_ptr initializer_error_;
};

}  // namespace brood::detail
