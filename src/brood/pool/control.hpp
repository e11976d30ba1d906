#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <brood/channel/thunk.hpp>
#include <brood/pool/meter.hpp>

namespace brood::detail {

/// What the owner of a pool and its workers share. Lies in the family's segment; only offsets.
///
/// Nothing in it is a lock, and nothing needs repair when a worker dies: a word is written either
/// by the owner alone, or by one worker alone, or is a hint whose loss costs a wake-up that the
/// death's announcement makes up for (`sleepers`, `event`).

/// One worker's place in the pool.
struct alignas(128) WorkerCell {
  /// kRetired and kIdle: it ends because it is to be replaced, or because there was no work; what
  /// is in its slots goes to others, and nobody is blamed. kDone: the pool was closed, and all is
  /// done.
  enum Status : std::uint32_t { kStarting, kReady, kInitializerFailed, kRetired, kIdle, kDone };

  std::atomic<std::uint32_t> event;     // the worker sleeps on it; whoever wakes it adds one
  std::atomic<std::uint32_t> status;    // by the worker
  std::atomic<std::uint32_t> leave;     // by the owner: it is to end when its chunk is done
  std::atomic<std::uint64_t> job;       // by the worker: the JobWord that it looks at, which keeps
                                        // the job's memory from reuse
  std::atomic<std::uint64_t> error_at;  // why the initializer failed: an encoded ErrorRecord
  std::atomic<std::uint64_t> error_bytes;
};

/// A job, as workers find it. Offsets of 0 mean none.
struct alignas(64) JobHeader {
  enum Kind : std::uint32_t { kMap, kTasks };
  static constexpr std::uint32_t kNobody = 0;
  static constexpr std::uint32_t kAnyItem = 0xffffffff;

  std::uint32_t kind;
  std::uint32_t columns;
  std::int32_t priority;
  std::uint32_t asks_owner;  // 1: who ends with an exception may be run again: commit it and say so
  FunctionId function;       // of a map: the thunk that runs its loop
  std::uint64_t board_at;
  std::uint64_t board_bytes;
  std::uint64_t callable_at;  // of a map: the encoded callable
  std::uint64_t callable_bytes;
  std::uint64_t columns_at;  // of a map: Column[columns]
  std::uint64_t output_at;   // of a map: results or ResultSlot, one per item; else TaskRecord
  std::uint64_t errors_at;  // of a map: atomic<uint64_t> per slot, the last ErrorNote of its worker
  std::uint64_t seed;       // of a map: of its items' random numbers
  std::uint64_t memory;     // bytes that an item may ask for; 0: any number
  /// uint8_t per item: attempts that failed, 255 for so many or more, for log records; where there
  /// can be several attempts.
  std::uint64_t attempts_at;
  /// Who waits: kNobody, item + 1, or kAnyItem; and what they sleep on.
  alignas(64) std::atomic<std::uint32_t> waiting;
  std::atomic<std::uint32_t> event;
  std::atomic<std::uint32_t> cancelled;  // the owner wants no more of it
  std::atomic<std::uint32_t> feeding;    // the owner is at work on it too, see PoolCore::feed
  /// item + 1: when that task has ended the owner is called, as results that nobody wants are all
  /// that is left. 0: none.
  std::atomic<std::uint32_t> sweep_at;
  /// Grows when the owner is needed, whether anybody waits for a result or not: to decide about an
  /// exception, or because there is room now for work that had found none.
  std::atomic<std::uint32_t> calls;
};

/// One input of a map: an argument for every item.
struct Column {
  enum Kind : std::uint32_t { kArray, kEncoded, kCount };
  std::uint32_t kind;
  std::uint32_t reserved;
  std::uint64_t at;  // kArray: T[items]; kEncoded: Encoded[items]; kCount: T, the first value
};

/// Where the bytes of an encoded value are.
struct Encoded {
  /// In `bytes`, of a result only: it names shared objects, which the worker holds until the mark
  /// behind the bytes is set.
  static constexpr std::uint64_t kNamesObjects = std::uint64_t{1} << 63U;

  std::uint64_t at;
  std::uint64_t bytes;

  [[nodiscard]] std::uint64_t size() const { return bytes & ~kNamesObjects; }
  [[nodiscard]] bool names_objects() const { return (bytes & kNamesObjects) != 0; }
  /// Where the mark is.
  [[nodiscard]] std::uint64_t mark_at() const { return (at + size() + 7) / 8 * 8; }
};

/// An exception of a map's item; the notes of one worker form a chain, newest first.
struct ErrorNote {
  std::uint64_t previous;
  std::uint64_t item;
  std::int64_t time;    // CLOCK_MONOTONIC: of the attempts at an item the last one counts
  std::uint64_t bytes;  // of the encoded ErrorRecord that follows
};

/// A submitted task: an item of a kTasks job. Small arguments and results lie in the record.
struct alignas(128) TaskRecord {
  static constexpr std::size_t kInlineArguments = 40;
  static constexpr std::size_t kInlineResult = 40;
  /// Of `result.at`, before the first attempt: a SubmitClock::Stamp lies in `inline_result`.
  static constexpr std::uint64_t kStamped = 1;

  FunctionId function;  // a thunk of kind `task`
  Encoded arguments;    // at == 0: inline
  Encoded result;       // at == 0: inline; an ErrorRecord if the item ended with an exception
  std::array<std::byte, kInlineArguments> inline_arguments;
  std::array<std::byte, kInlineResult> inline_result;
};
static_assert(sizeof(TaskRecord) == 128);

/// The first bytes of every extent that a worker fills with results.
struct alignas(64) ResultPage {
  std::atomic<std::uint64_t> produced;  // by the worker, before the result is published
  std::atomic<std::uint64_t> consumed;  // by the owner; equal to `produced`: free to be used again
};
static_assert(sizeof(ResultPage) == 64);

/// An entry of the table of jobs: {sequence 34 | offset / 64}. The sequence tells the oldest, and
/// an old entry from a new one at the same place.
struct JobWord {
  static constexpr std::uint32_t kOffsetBits = 30;  // of 64-byte lines: segments of up to 64 GiB
  static constexpr std::uint64_t pack(std::uint64_t sequence, std::uint64_t offset) {
    return sequence << kOffsetBits | offset / 64;
  }
  static constexpr std::uint64_t offset(std::uint64_t word) {
    return (word & ((std::uint64_t{1} << kOffsetBits) - 1)) * 64;
  }
  static constexpr std::uint64_t sequence(std::uint64_t word) { return word >> kOffsetBits; }
};

struct alignas(128) PoolControl {
  static constexpr std::uint32_t kMaxWorkers = 256;
  static constexpr std::uint32_t kMaxJobs = 64;
  enum Stop : std::uint32_t { kRun, kWhenDone, kNow };

  std::uint32_t slots;
  std::uint32_t owner;        // Tag
  std::uint64_t timeline_at;  // TimelineRow[slots]; 0: none
  std::atomic<std::uint32_t> stop;
  /// The highest priority among the jobs. Who is at another looks around after each chunk.
  std::atomic<std::int32_t> top;
  /// Grows whenever there may be work that was not there before.
  alignas(64) std::atomic<std::uint32_t> work;
  /// A bit for each worker that sleeps or is about to.
  alignas(64) std::array<std::atomic<std::uint64_t>, kMaxWorkers / 64> sleepers;
  /// Offsets of jobs with work in them; 0: none.
  alignas(64) std::array<std::atomic<std::uint64_t>, kMaxJobs> jobs;
  /// Of the job at the same place, written before it.
  std::array<std::atomic<std::int32_t>, kMaxJobs> priorities;

  [[nodiscard]] WorkerCell* cells() { return reinterpret_cast<WorkerCell*>(this + 1); }
  [[nodiscard]] MeterRow* meters() { return reinterpret_cast<MeterRow*>(cells() + slots); }
  static constexpr std::size_t bytes_needed(std::size_t slots) {
    return sizeof(PoolControl) + slots * (sizeof(WorkerCell) + sizeof(MeterRow));
  }
};

}  // namespace brood::detail
