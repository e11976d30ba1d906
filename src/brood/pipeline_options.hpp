// Layer: pipeline
// What stages and runs of a pipeline can be told, and what a run tells about itself.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <brood/pool_options.hpp>
#include <brood/start_method.hpp>

namespace brood {

class Pool;

/// Of a parallel stage on worker processes: `.parallel(f, {.workers = 4, .call = {.retries = 2}})`.
/// Stages that follow each other on one pool and say neither `workers` nor `call` are one task for
/// it: an item goes through all of them in one worker.
struct ProcessStage {
  /// In statistics, and of its own workers.
  std::string name = {};
  /// Workers of its own, as many; else those that it shares with other stages of the run.
  std::optional<int> workers = {};
  /// A pool of the user, which must outlive the run.
  const Pool* pool = nullptr;
  /// timeout, cpu_time, memory, retries, backoff, max_backoff, jitter, retry_if and priority, for
  /// every item. The others throw ArgumentError: they are of the run, or have no meaning here.
  CallOptions call = {};
};

/// A number of threads, which must be said.
class ThreadCount {
 public:
  ThreadCount(int threads) : threads_(threads) {}  // NOLINT(google-explicit-constructor)
  operator int() const { return threads_; }        // NOLINT(google-explicit-constructor)

 private:
  int threads_;
};

/// Of a parallel stage on threads of this process: `.parallel(fetch, {.threads = 16})`.
struct ThreadStage {
  ThreadCount threads;
  std::string name = {};
  /// How often an item is computed again after an exception that `retry_if` calls worth it.
  unsigned retries = 0;
  RetryIf retry_if = {};
  /// How long its thread waits before that; doubled each time, up to max_backoff, and shortened by
  /// chance, as in CallOptions. There is no time limit: what runs on a thread cannot be stopped.
  std::chrono::nanoseconds backoff{0};
  std::chrono::nanoseconds max_backoff = std::chrono::minutes(1);
  double jitter = 0.5;
};

/// What one stage has done in a run. A plain value.
struct StageStats {
  std::string name;           // "parallel 1" if it was given none
  std::string on;             // "processes", "threads", "here"
  int workers = 0;            // processes or threads; 0: here
  std::uint64_t items = 0;    // that came out of it, or failed in it
  std::uint64_t failed = 0;   // in it
  std::uint64_t retries = 0;  // attempts after the first; of stages that are one task: the first's
  std::uint64_t deaths = 0;   // of workers, in its items; the same
  std::size_t deepest = 0;    // the most items that were in it or waited for it at once
  std::size_t depth = 0;      // now
  std::chrono::nanoseconds busy{0};     // computing; of short items a sample tells
  std::chrono::nanoseconds waiting{0};  // workers without work of it, all together
};

/// What a run has done: what Pipeline::run() returns. A plain value.
struct PipelineStats {
  std::vector<StageStats> stages;
  std::uint64_t items = 0;   // from the source
  std::uint64_t done = 0;    // through all stages
  std::uint64_t failed = 0;  // told to on_failure
  std::size_t most_in_flight = 0;
  std::size_t most_bytes = 0;  // in flight, encoded
  std::chrono::nanoseconds elapsed{0};
};

struct PipelineOptions {
  /// Worker processes that the stages share; cpu_count() if not given. 0: none, also for stages
  /// with workers or threads of their own: every item goes through all stages in the caller before
  /// the next is begun: to debug in one process.
  std::optional<int> workers = {};
  /// How many items there may be between the source and the end. 0: enough to keep all busy.
  std::size_t max_in_flight = 0;
  /// How many bytes they may have together, as they are encoded for workers or came from them; 0:
  /// any number. Each is taken to be as large as the largest so far, and until one has gone through
  /// there is only one. One item goes in any case. What never crosses to a process counts nothing.
  std::size_t max_bytes_in_flight = 0;
  /// An item that fails is told here, in the caller's thread, with its number in the input, and the
  /// run goes on. What this throws ends the run.
  std::function<void(std::size_t item, const std::exception_ptr& failure)> on_failure = {};
  /// Ends the run: TaskCancelled.
  std::stop_token stop = {};
  /// Called in the caller's thread, about ten times a second and at the end: items that went
  /// through, and all; as long as nobody knows how many, those from the source so far.
  std::function<void(std::size_t done, std::size_t total)> progress = {};
  /// The same, with all there is to know.
  std::function<void(const PipelineStats&)> watch = {};
  /// Of the random numbers of items, see random_stream.hpp; by chance if not given.
  std::optional<std::uint64_t> seed = {};
  /// How workers are started; get_start_method() if not given.
  std::optional<StartMethod> start_method = {};
  /// A file for the timeline of the workers that the stages share, see PoolOptions::timeline;
  /// slices have the names of the stages. Workers of a stage's own, and a user's pool, are not in
  /// it.
  std::string timeline = {};
};

}  // namespace brood
