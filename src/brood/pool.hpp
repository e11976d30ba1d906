// Layer: pool
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include <brood/outcome.hpp>
#include <brood/pool/pool_calls.hpp>
#include <brood/pool/process_calls.hpp>
#include <brood/pool/serial_pool.hpp>
#include <brood/pool_options.hpp>
#include <brood/pool_stats.hpp>

namespace brood {

namespace detail {
struct PoolAccess;
}

/// The calls of a pool, with options: what Pool::with returns. Keeps the pool's workers alive no
/// longer than the pool; copies are cheap.
class PoolCaller : public PoolCalls<PoolCaller> {
 private:
  friend class Pool;
  friend PoolCalls<PoolCaller>;
  PoolCaller(std::shared_ptr<detail::PoolCore> core, std::shared_ptr<detail::SerialPool> serial,
             CallOptions options)
      : calls_(std::move(core), std::move(serial), std::move(options)) {}
  [[nodiscard]] const detail::ProcessCalls& how() const { return calls_; }

  detail::ProcessCalls calls_;
};

/// Worker processes that compute functions of many inputs.
///
///     brood::Pool pool;                        // cpu_count() workers
///     auto primes = pool.map(is_prime, numbers);
///     auto one = pool.submit(is_prime, 10'000'019);
///
/// What crosses to the workers and back is what Process takes, and move-only results too. Every
/// worker computes one item at a time. A worker that is killed, crashes or exits costs the item
/// that it was in, whose failure is WorkerCrashed; the others are computed, the worker is
/// replaced. An exception of an item comes back as itself, with its stack (remote_trace).
///
/// | state      | map, submit | close    | terminate    | join               | destructor |
/// | ---------- | ----------- | -------- | ------------ | ------------------ | ---------- |
/// | running    | work        | -> closed| -> terminated| StateError         | terminates |
/// | closed     | PoolClosed  | -        | -> terminated| waits for the work | terminates |
/// | terminated | PoolClosed  | -        | -            | true               | -          |
///
/// Who may use it: the process that made it, any of its threads at once. In a forked copy calls
/// throw StateError and the destructor does nothing. Inputs and results lie in the family's shared
/// memory while they are under way. Whoever waits for results also replaces dead workers; a thread
/// does it where nobody may be waiting, and one passes on what workers write to stderr. If the
/// pool's process dies, its workers end. Memory ordering: what was written before a call is visible
/// to its items, and what they did when it returned. Errors: of the constructor StateError (bad
/// options, no Runtime), StartError, SystemError, SharedMemoryFull and what the initializer throws;
/// of calls PoolClosed, SharedMemoryFull, WorkerLost when no worker can be replaced, and those of
/// the items.
class Pool : public PoolCalls<Pool> {
 public:
  explicit Pool(PoolOptions options = {});
  Pool(Pool&&) noexcept = default;
  Pool& operator=(Pool&& other) noexcept;
  ~Pool();

  /// The same calls, with options.
  [[nodiscard]] PoolCaller with(CallOptions options) const;

  /// 0 for a pool that computes in the caller.
  [[nodiscard]] int workers() const;
  /// Takes on more workers, or lets some go when they have done their chunk, while the others work.
  /// 1 to PoolOptions::max_workers. Throws ArgumentError, StateError (no workers), PoolClosed,
  /// StartError.
  void resize(int workers);
  /// Zeros for a pool that computes in the caller, as of stats().
  [[nodiscard]] PoolCounts counts() const;
  /// How long things took, and what the workers did with their time, so far and at any time.
  [[nodiscard]] PoolStats stats() const;
  /// What its workers have done so far, as a file; see PoolOptions::timeline. At any time. Throws
  /// StateError when the pool has none, SystemError when the file cannot be written.
  void write_timeline(const std::string& path) const;
  /// The process ids of the workers that live.
  [[nodiscard]] std::vector<int> worker_pids() const;

  /// No more work is taken; workers end when what there is has been done.
  void close();
  /// After close() or terminate(): waits until all work is done and the workers are gone.
  void join();
  /// Ends the workers now, computing or not, within a second or so; what is not done fails with
  /// TaskCancelled.
  void terminate();

 private:
  friend PoolCalls<Pool>;
  friend detail::PoolAccess;
  void require_pool() const;
  [[nodiscard]] detail::ProcessCalls how() const {
    require_pool();
    return {core_, serial_, {}};
  }

  std::shared_ptr<detail::PoolCore> core_;
  std::shared_ptr<detail::SerialPool> serial_;
};

}  // namespace brood
