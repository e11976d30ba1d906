#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include <brood/channel/ring.hpp>
#include <brood/channel/spin_habit.hpp>
#include <brood/platform/deadline.hpp>

namespace brood::detail {

/// What one handle of a queue remembers of putting, or of taking. Private memory; any threads: what
/// they learn is approximate. A copy begins where the original is.
///
/// Who waits on a queue that others use at full speed should not look at it all the time: each look
/// takes the cache line away from who is writing it, so both go on at the pace at which lines
/// travel, message by message. Left alone for a moment, the other side gets ahead, and its messages
/// (or its room) are then gone through at the speed of one core. So the moment grows as long as it
/// yields several messages at once, and shrinks when it does not.
class alignas(64) QueueSide {
 public:
  using Nanoseconds = std::chrono::nanoseconds;

  QueueSide() = default;
  QueueSide(const QueueSide& other) noexcept : hint(other.hint) {}
  QueueSide& operator=(const QueueSide& other) noexcept {
    hint = other.hint;
    return *this;
  }
  ~QueueSide() = default;

  Ring<>::Hint hint;

  /// One wait: for how long to look before going to sleep, and how often.
  class Wait {
   public:
    explicit Wait(QueueSide& side) : side_(&side) {}

    /// Leaves the queue alone for a moment; false: it is time to sleep.
    bool pause() {
      if (sleeps_) return false;
      const auto now = Deadline::Clock::now();
      if (!begun_) {
        sleeps_ = !side_->habit_.worth_it();
        if (sleeps_) return false;
        begun_ = true;
        start_ = now;
        moment_ = side_->begin();
      } else if (now - start_ >= kTime) {
        sleeps_ = true;
        return false;
      }
      // The other side may be waiting for this processor.
      if (now - start_ > kBrief) std::this_thread::yield();
      leave_alone(now, moment_);
      moment_ = std::min(moment_ * 2, kLongest);
      return true;
    }
    /// For how long the next pause leaves the queue alone; 0 before the first one.
    [[nodiscard]] Nanoseconds moment() const noexcept { return moment_; }
    /// What was waited for is there. Looking was not in vain if it was nearly there when this side
    /// went to sleep: otherwise two sides that have once missed each other would both sleep from
    /// then on, each as the other takes so long to wake up.
    void found() {
      if (!begun_) return;
      static_cast<void>(
          side_->habit_.note(!sleeps_ || Deadline::Clock::now() - start_ < 3 * kTime));
    }

   private:
    static void leave_alone(Deadline::Clock::time_point now, Nanoseconds time) {
      do cpu_relax();
      while (Deadline::Clock::now() < now + time);
    }

    QueueSide* side_;
    bool begun_ = false;
    bool sleeps_ = false;
    Nanoseconds moment_{};
    Deadline::Clock::time_point start_;
  };

 private:
  /// About what going to sleep and being woken cost.
  static constexpr Nanoseconds kTime = std::chrono::microseconds(40);
  static constexpr Nanoseconds kBrief = std::chrono::microseconds(4);
  static constexpr Nanoseconds kShortest{200};
  static constexpr Nanoseconds kLongest{2000};

  // relaxed: they decide about nothing but effort.
  Nanoseconds begin() {
    const std::uint64_t at = hint.next();
    const std::uint64_t since = at - waited_at_.load(std::memory_order_relaxed);
    waited_at_.store(at, std::memory_order_relaxed);
    const Nanoseconds last(moment_.load(std::memory_order_relaxed));
    const Nanoseconds next =
        since > 1 ? std::min(last * 2, kLongest) : std::max(last / 2, kShortest);
    moment_.store(next.count(), std::memory_order_relaxed);
    return next;
  }

  SpinHabit habit_;
  std::atomic<std::uint64_t> waited_at_{0};
  std::atomic<Nanoseconds::rep> moment_{kShortest.count()};
};

}  // namespace brood::detail
