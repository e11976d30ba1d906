#pragma once

#include <chrono>
#include <ctime>
#include <limits>

namespace brood::detail {

/// A point in time until which somebody is willing to wait, or never.
///
/// Always absolute (CLOCK_MONOTONIC), so that a wait that wakes early goes on for what is left of
/// it. A value type; every blocking call in the tree takes one, and nothing else builds a timespec.
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  /// Waits for ever.
  static constexpr Deadline never() { return Deadline(Clock::time_point::max()); }
  /// Has passed already: a wait with it only looks.
  static constexpr Deadline now() { return Deadline(Clock::time_point::min()); }
  static constexpr Deadline at(Clock::time_point when) { return Deadline(when); }

  /// `wait` from now on; negative counts as zero, and what exceeds the clock's range as never.
  template <class Rep, class Period>
  static Deadline after(std::chrono::duration<Rep, Period> wait) {
    using Seconds = std::chrono::duration<double>;
    if (wait <= wait.zero()) return now();
    const Clock::time_point start = Clock::now();
    const auto room = std::chrono::duration_cast<Seconds>(Clock::time_point::max() - start);
    if (!(std::chrono::duration_cast<Seconds>(wait) < room - Seconds(1))) return never();
    return Deadline(start + std::chrono::ceil<Clock::duration>(wait));
  }

  /// The time `when` of any clock, as that clock says now how far away it is.
  template <class AnyClock, class Duration>
  static Deadline until(std::chrono::time_point<AnyClock, Duration> when) {
    return after(when - AnyClock::now());
  }

  [[nodiscard]] constexpr bool is_never() const { return when_ == Clock::time_point::max(); }
  [[nodiscard]] constexpr bool is_now() const { return when_ == Clock::time_point::min(); }
  [[nodiscard]] bool passed() const { return !is_never() && (is_now() || Clock::now() >= when_); }

  /// The point itself; undefined for never and now.
  [[nodiscard]] constexpr Clock::time_point when() const { return when_; }

  /// The earlier of this and `other`.
  [[nodiscard]] constexpr Deadline sooner(Deadline other) const {
    return when_ <= other.when_ ? *this : other;
  }

  /// Absolute CLOCK_MONOTONIC time, as futex_waitv wants it; undefined for never.
  [[nodiscard]] std::timespec absolute() const { return to_timespec(when_.time_since_epoch()); }
  /// What is left, as ppoll and FUTEX_WAIT want it; zero when it has passed.
  [[nodiscard]] std::timespec remaining() const {
    const Clock::time_point start = Clock::now();  // compared first: the difference may overflow
    return to_timespec(when_ <= start ? Clock::duration::zero() : when_ - start);
  }

 private:
  constexpr explicit Deadline(Clock::time_point when) : when_(when) {}

  static std::timespec to_timespec(Clock::duration d) {
    if (d < Clock::duration::zero()) d = Clock::duration::zero();
    const auto whole = std::chrono::duration_cast<std::chrono::seconds>(d);
    const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(d - whole);
    std::timespec ts{};
    ts.tv_sec = static_cast<decltype(ts.tv_sec)>(whole.count());
    ts.tv_nsec = static_cast<decltype(ts.tv_nsec)>(rest.count());
    return ts;
  }

  Clock::time_point when_;
};

}  // namespace brood::detail
