#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <brood/platform/clock.hpp>
#include <brood/pool/duration_histogram.hpp>

namespace brood::detail {

/// What the worker in a slot measures. Lies in the family's segment; written by the worker that has
/// the slot, and by the pool's owner between two workers.
struct alignas(128) MeterRow {
  std::atomic<std::int64_t> ready;       // when it could take work, by the steady clock; 0: not yet
  std::atomic<std::int64_t> idle_since;  // 0: it is not
  std::atomic<std::int64_t> idle;        // nanoseconds, all told
  std::atomic<std::int64_t> present;     // of those that are gone: from ready to the end
  /// When the chunk that it computes began; 0: it is at none, or its chunks are too short to say.
  std::atomic<std::int64_t> chunk_since;
  DurationHistogram starting;
  DurationHistogram waiting;
  DurationHistogram running;

  /// The worker can take work, after it was started at `time`.
  void started(std::int64_t time) noexcept {
    const std::int64_t now = steady_nanoseconds();
    starting.add(now - time, 1);
    ready.store(now);
  }
  void begin_idling() noexcept { idle_since.store(steady_nanoseconds()); }
  void end_idling() noexcept { add_since(idle_since, idle); }
  /// The worker has ended, in whatever it was in. By the owner.
  void ended() noexcept {
    chunk_since.store(0);
    end_idling();
    add_since(ready, present);
  }

 private:
  static void add_since(std::atomic<std::int64_t>& start, std::atomic<std::int64_t>& to) noexcept {
    if (const std::int64_t since = start.exchange(0)) {
      to.store(to.load() + steady_nanoseconds() - since);
    }
  }
};

/// Measures for a worker how long chunks of items take. Where they are short a sample stands for
/// those before it, so that what is not looked at costs a nanosecond.
class Meter {
 public:
  explicit Meter(MeterRow& row) : row_(&row) {}

  [[nodiscard]] MeterRow& row() const { return *row_; }

  /// The first chunk of several begins.
  void begin() noexcept {
    if (unmeasured_ == 0) start();
  }
  /// A chunk has ended, with so many items; the next one begins now, unless pause() follows.
  void end(std::uint32_t items) noexcept {
    if (unmeasured_ == 0) [[unlikely]] {
      measure(items);
    } else {
      --unmeasured_;
      unseen_ += items;
    }
  }
  /// The chunk that has begun is not computed.
  void drop() noexcept {
    dropped_ = true;
    unmeasured_ = 0;
  }
  /// A task begins that was submitted at `time`, and stands for so many.
  void waited_since(std::int64_t time, std::uint64_t times) noexcept {
    row_->waiting.add((timing_ ? start_ : steady_nanoseconds()) - time, times);
  }
  /// It goes on to something else.
  void pause() noexcept {
    timing_ = false;
    row_->chunk_since.store(0, std::memory_order_relaxed);
    if (unseen_ > 0) row_->running.add(last_, std::exchange(unseen_, 0));
  }

 private:
  /// Measuring a chunk takes about 60 ns: at most a sixtieth of what they take, or, where an item
  /// takes a nanosecond, a quarter of one.
  static constexpr std::int64_t kEnough = 3600;
  static constexpr std::int64_t kMostUnmeasured = 255;

  void start() noexcept {
    start_ = steady_nanoseconds();
    timing_ = true;
    row_->chunk_since.store(start_, std::memory_order_relaxed);
  }
  void measure(std::uint32_t items) noexcept;

  MeterRow* row_;
  std::uint64_t unseen_ = 0;  // items since the last that was measured
  unsigned unmeasured_ = 0;   // chunks that will not be
  bool timing_ = false;       // the chunk that runs is measured, since start_
  bool dropped_ = false;
  std::int64_t start_ = 0;
  std::int64_t last_ = 0;  // what an item took
};

/// Says of submitted tasks when that was: of each where they come slowly, else of one of many,
/// which stands for the others.
class SubmitClock {
 public:
  struct Stamp {
    std::int64_t time = 0;
    std::uint64_t times = 0;  // 0: none
  };
  static_assert(sizeof(Stamp) == 16);

  Stamp next() noexcept;

 private:
  static constexpr std::uint64_t kMost = 32;

  std::int64_t last_look_ = 0;
  std::uint64_t unseen_ = 0;
};

}  // namespace brood::detail
