// Layer: pool
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/callable.hpp>
#include <brood/channel/carries_descriptors.hpp>
#include <brood/pool/pool_core.hpp>
#include <brood/process/child.hpp>
#include <brood/retry.hpp>
#include <brood/sandbox.hpp>
#include <brood/start_method.hpp>

namespace brood {

/// A callable without parameters that every worker runs before its first task; none by default.
/// Arguments are bound: `.initializer = brood::bind(open_log, path)`.
class Initializer {
 public:
  Initializer() = default;
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Initializer>)
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): it is constrained
  Initializer(F&& f) {  // not explicit: reads as an assignment
    using Function = detail::stored_callable_t<F>;
    detail::require_callable<Function>();
    detail::refuse_descriptors<Function>();
    Function function(std::forward<F>(f));
    detail::VectorSink sink;
    detail::encode_callable(sink, function);
    call_ = detail::EncodedCall{
        .function = detail::thunk_id<&run<Function>, detail::ThunkKind::process>(),
        .bytes = sink.take(),
        .kept = sink.take_kept()};
    here_ = [here = std::make_shared<Function>(std::move(function))] { (*here)(); };
  }

 private:
  friend class Pool;
  template <class Function>
  static void run(detail::ByteSource& source, void (*decoded)()) {
    auto function = detail::decode_callable<Function>(source);
    decoded();
    function();
  }

  std::optional<detail::EncodedCall> call_;
  std::function<void()> here_;  // for a pool without workers
};

struct PoolOptions {
  /// Worker processes; cpu_count() if not given. 0: no workers, every task runs in the caller, in
  /// order, with the same results and errors: to debug in one process.
  std::optional<int> workers = {};
  /// How workers are started; get_start_method() if not given.
  std::optional<StartMethod> start_method = {};
  /// Workers are called NAME-1, NAME-2 ...
  std::string name = "brood-worker";
  /// If it throws in a worker, the pool's constructor throws that.
  Initializer initializer = {};
  /// Run by each worker at its orderly end: when the pool was closed and all is done, when it is
  /// replaced because of the limits below, resized away or idle; not when it is killed or crashes,
  /// nor by terminate(). What it throws is reported on stderr, as of any process. Without workers
  /// the caller runs it: in close(), or at the end of the last call.
  Initializer finalizer = {};
  /// A worker is replaced by a fresh one when it has computed so many items, when it uses so many
  /// bytes of private memory more than at its beginning, or when it is so old; between two items.
  /// 0: never.
  std::size_t max_tasks_per_worker = 0;
  std::size_t max_worker_growth = 0;
  std::chrono::nanoseconds max_worker_age{0};
  /// A worker without work for so long ends; the next call starts it again. 0: never.
  std::chrono::nanoseconds idle_timeout{0};
  /// How many CPUs a worker and what it starts shall use: what cpu_count() says in it, so how many
  /// workers a pool in a worker has, and how many threads OpenMP, OpenBLAS and the like compute
  /// with, unless their environment variables are set. cpu_count() / workers, at least 1, if not
  /// given, so that all together use what there is; 0 leaves it alone.
  std::optional<int> cpus_per_worker = {};
  /// Binds each worker to one CPU, in turn.
  bool pin_workers = false;
  /// Added to the workers' priority as by nice(1), -20 to 19: with 19 they take what others leave.
  /// Below 0 needs a privilege; the constructor throws SystemError without it.
  int niceness = 0;
  /// What workers may do; anything that this process may, if not given. The constructor throws
  /// SystemError where the kernel has no seccomp. Not for a pool without workers, whose constructor
  /// throws ArgumentError.
  std::optional<Sandbox> sandbox = {};
  /// A file for the timeline of the workers: one row for each, one slice for each chunk of a map
  /// and each task, and what befell them. It is written when the pool ends, in the trace-event
  /// format that https://ui.perfetto.dev and chrome://tracing open. Of each worker the last 16384
  /// slices are kept, in 512 KiB of shared memory. Empty: none, and nothing is paid for it. Not for
  /// a pool without workers.
  std::string timeline = {};
  /// So many bytes of the end of what each worker writes to stderr are kept, and are in the
  /// WorkerCrashed that tells of its death: what an assertion, the C library or a sanitizer said
  /// last. All of it goes on to this process's stderr, by way of a pipe for each worker and a
  /// thread here, so a moment later than what this process itself writes. 0: nothing is kept, and
  /// workers have this process's stderr itself, which may be a terminal.
  std::size_t stderr_tail = 4096;
  /// What resize() may go up to; `workers` if less.
  int max_workers = 0;
};

/// Said for single calls: `pool.with({.timeout = 2s, .retries = 3}).map(f, inputs)`. Zero means
/// that there is no limit. Durations are rounded up to nanoseconds; negative ones throw
/// ArgumentError.
struct CallOptions {
  /// map: items that a worker takes and commits at once; 0: chosen by their number.
  std::size_t chunk = 0;
  /// How long an item may be computed, from its beginning in a worker. It is stopped then wherever
  /// it is, native code included: its worker and all processes that it started get SIGTERM, a
  /// fifth of a second later SIGKILL. It fails with TaskTimeout; no other item fails. An item is
  /// never stopped early, and at most an eighth of the limit (50 ms at most) late.
  std::chrono::nanoseconds timeout{0};
  /// How long the whole call may take, from the call on; of submit, until the task has ended. What
  /// has not ended then is stopped, or not begun, and fails with TaskTimeout.
  std::chrono::nanoseconds deadline{0};
  /// How often an item is computed again after a failure that `retry_if` calls worth it.
  unsigned retries = 0;
  /// How long to wait before that; doubled each time, up to max_backoff.
  std::chrono::nanoseconds backoff{0};
  std::chrono::nanoseconds max_backoff = std::chrono::minutes(1);
  /// The part of each wait that is random, 0 to 1: so that those who failed together do not try
  /// again together.
  double jitter = 0.5;
  /// Worker deaths only, if nothing is said.
  RetryIf retry_if = {};
  /// How much CPU time an item may use; as `timeout`, which it is like otherwise.
  std::chrono::nanoseconds cpu_time{0};
  /// How many bytes of memory an item may ask for beyond what its worker had when it began. What it
  /// asks for beyond fails, as it does where there is no more: an item that ends with
  /// std::bad_alloc fails with MemoryLimitExceeded, and its worker goes on; one that does not check
  /// crashes, which costs it alone. Counted are its heap and private mappings, of each process that
  /// it starts by itself; not shared memory, so not results. Chunks are of 1 item then, unless you
  /// say. It costs some microseconds an item.
  std::size_t memory = 0;
  /// Workers do what has the higher priority first, also when it comes while they are at a map:
  /// they finish the chunk that they are in. Calls of equal priority are worked off as they came.
  int priority = 0;
  /// imap: how many items may be computed or wait to be fetched at once; 0: 16 for each worker.
  std::size_t window = 0;
  /// map: called in the waiting thread, about ten times a second and at the end, with the number of
  /// items that are finished, and all. What it throws ends the call.
  std::function<void(std::size_t done, std::size_t total)> progress = {};
  /// imap: how many bytes encoded inputs and results that wait to be fetched may have together; 0:
  /// any number. One item goes in any case. Not for a ThreadPool, which encodes nothing.
  std::size_t window_bytes = 0;
  /// Of the random numbers of its items, see random_stream.hpp; by chance if not given.
  std::optional<std::uint64_t> seed = {};
};

}  // namespace brood
