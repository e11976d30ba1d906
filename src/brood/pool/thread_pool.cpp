#include <brood/thread_pool.hpp>

#include <chrono>

#include <fmt/format.h>

#include <brood/cpu_count.hpp>
#include <brood/errors.hpp>

namespace brood {
namespace {

/// More are no use to anybody, and hardly meant.
constexpr int kMostThreads = 4096;

}  // namespace

ThreadPool::ThreadPool(ThreadPoolOptions options) {
  const int workers = options.workers.value_or(cpu_count());
  if (workers < 0 || workers > kMostThreads) {
    throw StateError(
        fmt::format("a pool of {} threads: 0 (compute in the caller) to {} are possible", workers,
                    kMostThreads));
  }
  if (workers == 0) {
    serial_ = std::make_shared<detail::SerialPool>();
    const detail::WorkerStates::Use states(serial_->states());
    if (options.initializer) options.initializer();
    return;
  }
  core_ = detail::ThreadCore::start({.workers = static_cast<std::uint32_t>(workers),
                                     .initializer = std::move(options.initializer)});
}

ThreadPool& ThreadPool::operator=(ThreadPool&& other) noexcept {
  if (this != &other) {
    terminate();
    core_ = std::move(other.core_);
    serial_ = std::move(other.serial_);
  }
  return *this;
}

ThreadPool::~ThreadPool() { terminate(); }

void ThreadPool::require_pool() const {
  if (!core_ && !serial_) throw StateError("this pool was moved from");
}

ThreadPoolCaller ThreadPool::with(CallOptions options) const {
  require_pool();
  if (options.window_bytes != 0) {
    throw ArgumentError(
        "a ThreadPool encodes nothing, so there are no bytes to bound: use .window, or a Pool");
  }
  using Zero = std::chrono::nanoseconds;
  if (options.timeout != Zero::zero() || options.cpu_time != Zero::zero() ||
      options.deadline != Zero::zero()) {
    throw ArgumentError(
        "nobody can stop a thread, so a ThreadPool has no limits of time: use a Pool, or a "
        "function "
        "that takes a std::stop_token");
  }
  if (options.memory != 0) {
    throw ArgumentError(
        "threads share one memory, so a ThreadPool has no limits of it: use a Pool");
  }
  if (options.retries != 0) {
    throw ArgumentError(
        "a thread that crashes takes the process with it, so nothing is tried again: use a Pool");
  }
  return {core_, serial_, std::move(options)};
}

int ThreadPool::workers() const { return core_ ? static_cast<int>(core_->workers()) : 0; }

void ThreadPool::close() {
  if (core_) core_->close();
  if (serial_) serial_->close();
}

void ThreadPool::join() {
  if (core_) core_->join();
  if (serial_ && !serial_->closed()) throw StateError("join: close or terminate the pool first");
}

void ThreadPool::terminate() {
  if (core_) core_->terminate();
  if (serial_) serial_->end();
}

}  // namespace brood
