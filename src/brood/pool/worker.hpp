#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/memory/segment.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/pool/control.hpp>
#include <brood/pool/memory_limit.hpp>
#include <brood/pool/meter.hpp>
#include <brood/pool/range_board.hpp>
#include <brood/pool/result_area.hpp>
#include <brood/pool/timeline_row.hpp>
#include <brood/sandbox.hpp>

namespace brood::detail {

class Family;

/// When a worker is to be replaced by a fresh one. Looked at between items.
class WorkerUse {
 public:
  /// 0: no limit.
  WorkerUse(std::uint64_t tasks, std::uint64_t growth, std::chrono::nanoseconds age);

  /// Whether there is any limit.
  [[nodiscard]] bool limited() const { return limited_; }
  /// How many items it may take at once.
  [[nodiscard]] std::uint32_t most() const {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(tasks_left_, UINT32_MAX));
  }
  /// It has computed so many items more.
  void count(std::uint32_t items);
  [[nodiscard]] bool over() const { return over_; }

 private:
  bool limited_;
  bool over_ = false;
  std::uint64_t tasks_left_;
  std::uint64_t most_bytes_;  // 0: any
  Deadline end_;
};

void call_owner(JobHeader& job) noexcept;

/// A worker at a job: what the thunk of a map sees.
struct JobRun {
  Segment& segment;
  JobHeader& job;
  RangeBoard<> board;
  std::uint32_t slot;
  ResultArea& results;
  PoolControl& control;
  WorkerUse& use;
  const std::atomic<std::uint32_t>& leave;
  MemoryLimit& memory;
  Meter& meter;
  TimelineRow* timeline;  // null: there is none
  std::uint64_t word;     // the job's
  bool worked = false;    // took at least one chunk
  bool woke = false;      // has woken the next worker
  bool left_early =
      false;  // there is more in the slot; the worker looks for something else, or ends

  /// The first chunk, the next one: RangeBoard's, but for the worker's own limits and for what is
  /// more urgent. `asks`: the owner is to decide about the last item of `done`.
  Range take() {
    const Range chunk = board.take(slot);
    if (chunk) meter.begin();
    return cut(chunk);
  }
  Range next(Range done, bool asks = false) {
    if (timeline != nullptr) [[unlikely]]
      timeline->end();
    meter.end(done.size());
    Range chunk = board.next(slot, done);
    // Behind the commit: before it the owner could not hand the item on.
    if (asks) call_owner(job);
    const bool pressing = control.top.load(std::memory_order_relaxed) > job.priority ||
                          leave.load(std::memory_order_relaxed) != 0;
    if (pressing || use.limited()) [[unlikely]] {
      use.count(done.size());
      if (chunk && (pressing || use.over())) {
        left_early = true;
        return {};
      }
    }
    return cut(chunk);
  }

  /// To be called when a chunk was taken. The first time it wakes another worker of a map, as soon
  /// as the owner needs its processor no more; see PoolCore::publish.
  void mark_worked() {
    worked = true;
    // Relaxed: it is about time, not about what was written.
    if (!woke && job.feeding.load(std::memory_order_relaxed) == 0) [[unlikely]] {
      woke = true;
      wake_next();
    }
  }
  /// The owner does not want the rest. Asked between chunks.
  [[nodiscard]] bool unwanted() const {
    return job.cancelled.load(std::memory_order_relaxed) != 0 ||
           control.stop.load(std::memory_order_relaxed) == PoolControl::kNow;
  }
  /// Marks what is left of a chunk as cancelled.
  void drop(Range chunk) const;
  /// Notes why an item failed, and where (in `error` too), and marks it as final.
  void fail(std::uint32_t item, ErrorRecord& error) const;

 private:
  [[nodiscard]] Range cut(Range chunk) const {
    if (use.limited() && chunk.size() > use.most()) chunk.end = chunk.begin + use.most();
    if (job.memory != 0 || timeline != nullptr) [[unlikely]]
      prepare(chunk);
    return chunk;
  }
  void prepare(Range chunk) const;
  void wake_next() const;
};

/// Runs chunks of a map until there is nothing to take: one specialisation for each callable and
/// its types, so that the loop around a small function is tight.
using MapThunk = void (*)(JobRun& run);

/// Where a task's result goes: into its record if it is small, else into the worker's area.
class TaskOutput {
 public:
  TaskOutput(TaskRecord& task, ResultArea& results) : task_(task), results_(results) {}
  template <class R>
  void put(const R& result) {
    if constexpr (is_bytewise<R> && sizeof(R) <= TaskRecord::kInlineResult) {
      std::memcpy(task_.inline_result.data(), &result, sizeof(R));
      task_.result = {.at = 0, .bytes = sizeof(R)};
    } else {
      ResultArea::Writer writer(results_);
      encode(writer, result);
      task_.result = writer.commit();
    }
  }
  void put_nothing() { task_.result = {.at = 0, .bytes = 0}; }

 private:
  TaskRecord& task_;
  ResultArea& results_;
};

/// Reads a callable and its arguments, runs it and puts its result.
using TaskThunk = void (*)(ByteSource& call, TaskOutput& output);

/// What a worker is told when it is started: the payload of its process.
struct WorkerStart {
  std::uint64_t control_at;
  std::uint64_t crash_note_at;  // see CrashBoard
  std::uint32_t slot;
  std::uint32_t group;     // of its result pages
  FunctionId initializer;  // a thunk of kind `process`; offset 0: none
  std::uint64_t initializer_at;
  std::uint64_t initializer_bytes;
  FunctionId finalizer;  // the same
  std::uint64_t finalizer_at;
  std::uint64_t finalizer_bytes;
  std::uint64_t max_tasks;  // 0: no limit, as all of these
  std::uint64_t max_growth;
  std::uint64_t max_age;  // nanoseconds
  std::uint64_t idle_timeout;
  std::int32_t cpus;  // 0: left alone
  std::int32_t niceness;
  std::uint32_t pinned;
  std::uint32_t tells;       // the owner waits to hear how its beginning went
  std::uint32_t own_stderr;  // the first descriptor that came with this
  std::optional<Sandbox> sandbox;
  std::int64_t started_at;  // by the steady clock
};

/// The thunk of a worker's process.
FunctionId worker_function();

/// Leaves an error where the owner finds it; {0, 0} if there is no memory for it.
Encoded write_error(ResultArea& results, ErrorRecord& error) noexcept;

/// Wakes the owner of a pool if it waits for `job`.
void wake_owner(JobHeader& job) noexcept;
/// Wakes whoever tends the pool: the owner is needed, see JobHeader::calls.
void call_owner(JobHeader& job) noexcept;

/// There is new work: wakes up to `count` sleeping workers.
void wake_workers(PoolControl& control, std::uint32_t count) noexcept;
/// The same for work that was there already.
void wake_sleepers(PoolControl& control, std::uint32_t count) noexcept;

}  // namespace brood::detail
