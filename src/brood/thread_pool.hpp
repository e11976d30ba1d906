// Layer: pool
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <brood/pool/pool_calls.hpp>
#include <brood/pool/serial_pool.hpp>
#include <brood/pool/thread_calls.hpp>
#include <brood/pool/thread_core.hpp>
#include <brood/pool_options.hpp>

namespace brood {

struct ThreadPoolOptions {
  /// Threads; cpu_count() if not given. 0: none, every task runs in the caller, in order.
  std::optional<int> workers = {};
  /// Run by every thread before its first task. What it throws the constructor throws.
  std::function<void()> initializer = {};
};

/// The calls of a ThreadPool, with options: what ThreadPool::with returns.
class ThreadPoolCaller : public PoolCalls<ThreadPoolCaller> {
 private:
  friend class ThreadPool;
  friend PoolCalls<ThreadPoolCaller>;
  ThreadPoolCaller(std::shared_ptr<detail::ThreadCore> core,
                   std::shared_ptr<detail::SerialPool> serial, CallOptions options)
      : calls_(std::move(core), std::move(serial), std::move(options)) {}
  [[nodiscard]] const detail::ThreadCalls& how() const { return calls_; }

  detail::ThreadCalls calls_;
};

/// Threads of this process that compute functions of many inputs, with the calls of a Pool.
///
///     brood::ThreadPool pool;
///     std::vector<Image> thumbnails = pool.map([&](const Image& i) { return shrink(i, size); },
///                                              images);
///     brood::Future<int> n = pool.submit([](std::stop_token stop) { return search(stop); });
///
/// For what need not be protected from its own crashes: nothing crosses to anywhere, so functions
/// may capture, arguments and elements may be references, results may be of any type that moves,
/// and there need be no Runtime. A function that can be called as a constant is one object for all
/// threads, else each has a copy. Inputs that lie in memory are passed as they lie there; those
/// that a range makes are made by the caller. submit() and imap() keep copies of arguments
/// (std::ref for references). Exceptions arrive as themselves, without a remote_trace.
///
/// Nobody can stop a thread: cancel() works for what has not begun, and asks a function that takes
/// a std::stop_token as its first parameter; terminate() and the destructor drop what has not
/// begun, ask the rest in the same way and wait for it. Options that would need to stop or measure
/// running code throw ArgumentError in with(). A map within a task of the same pool is computed by
/// that thread, with such as are free; waiting for a future of the own pool there may wait for
/// ever.
///
/// States are those of Pool. Who may use it: any threads of the process that made it, at once. Its
/// memory is private. In a forked copy there are no threads: calls throw StateError and the
/// destructor does nothing. Because of its threads StartMethod::fork is refused while it lives.
/// Memory ordering: what was written before a call is visible to its items, and what they did when
/// it returned. Errors: StateError (bad options), StartError, PoolClosed, and those of the items.
class ThreadPool : public PoolCalls<ThreadPool> {
 public:
  explicit ThreadPool(ThreadPoolOptions options = {});
  ThreadPool(ThreadPool&&) noexcept = default;
  ThreadPool& operator=(ThreadPool&& other) noexcept;
  ~ThreadPool();

  /// The same calls, with options. Throws ArgumentError for one that threads cannot have.
  [[nodiscard]] ThreadPoolCaller with(CallOptions options) const;

  /// 0 for a pool that computes in the caller.
  [[nodiscard]] int workers() const;

  /// No more work is taken; the threads end when what there is has been done.
  void close();
  /// After close() or terminate(): waits until all work is done and the threads are gone.
  void join();
  /// What has not begun fails with TaskCancelled, what runs is asked to stop; waits for it, unless
  /// it is a task of the pool that calls this.
  void terminate();

 private:
  friend PoolCalls<ThreadPool>;
  void require_pool() const;
  [[nodiscard]] detail::ThreadCalls how() const {
    require_pool();
    return {core_, serial_, {}};
  }

  std::shared_ptr<detail::ThreadCore> core_;
  std::shared_ptr<detail::SerialPool> serial_;
};

}  // namespace brood
