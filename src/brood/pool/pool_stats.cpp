#include <brood/pool_stats.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/clock.hpp>
#include <brood/pool/duration_histogram.hpp>
#include <brood/pool/meter.hpp>

namespace brood {
namespace {

using std::chrono::nanoseconds;

/// With a unit that leaves two to five digits.
std::string readable(nanoseconds duration) {
  const auto count = static_cast<double>(duration.count());
  if (count < 10'000) return fmt::format("{} ns", duration.count());
  if (count < 10'000'000) return fmt::format("{:.1f} us", count / 1e3);
  if (count < 10'000'000'000) return fmt::format("{:.1f} ms", count / 1e6);
  return fmt::format("{:.1f} s", count / 1e9);
}

void add_line(std::string& to, const char* what, const DurationStats& stats) {
  fmt::format_to(std::back_inserter(to), "{:<10}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}\n", what,
                 stats.count(), readable(stats.mean()), readable(stats.percentile(50)),
                 readable(stats.percentile(90)), readable(stats.percentile(99)),
                 readable(stats.max()));
}

}  // namespace

nanoseconds DurationStats::mean() const {
  return count_ == 0 ? nanoseconds(0) : total_ / static_cast<nanoseconds::rep>(count_);
}

nanoseconds DurationStats::percentile(double percent) const {
  if (!(percent >= 0 && percent <= 100)) {
    throw ArgumentError(fmt::format("percentile {}: 0 to 100 are possible", percent));
  }
  if (count_ == 0) return nanoseconds(0);
  if (percent == 100) return max_;
  const auto rank =
      std::max(std::uint64_t{1},
               static_cast<std::uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_))));
  std::uint64_t below = 0;
  for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    below += buckets_[bucket];
    if (below < rank) continue;
    const std::uint64_t start = detail::DurationHistogram::start_of(bucket);
    const std::uint64_t end = detail::DurationHistogram::start_of(bucket + 1);
    return std::min(max_, nanoseconds(static_cast<nanoseconds::rep>(start + (end - start) / 2)));
  }
  return max_;
}

std::string PoolStats::summary() const {
  std::string text = fmt::format(
      "in {}: {} maps of {} items, {} tasks; {} retries; {} workers started, {} crashed, {} "
      "stopped, {} replaced\n",
      readable(age), counts.maps, counts.map_items, counts.tasks, counts.retries, counts.started,
      counts.crashed, counts.stopped, counts.recycled);
  text += fmt::format("{:<10}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}\n", "", "count", "mean", "median",
                      "90 %", "99 %", "longest");
  add_line(text, "starting", starting);
  add_line(text, "waiting", waiting);
  add_line(text, "running", running);
  for (std::size_t i = 0; i < workers.size(); ++i) {
    const WorkerStats& worker = workers[i];
    const double whole = static_cast<double>((worker.busy + worker.idle).count());
    text += fmt::format("worker {:<3}{:>10} items, busy {} ({:.0f} %), idle {}{}\n", i + 1,
                        worker.items, readable(worker.busy),
                        whole > 0 ? static_cast<double>(worker.busy.count()) / whole * 100 : 0.0,
                        readable(worker.idle),
                        worker.pid != 0 ? fmt::format(", pid {}", worker.pid) : ", gone");
  }
  return text;
}

namespace detail {

void DurationHistogram::add_to(DurationStats& to) const {
  to.buckets_.resize(kBuckets);
  for (std::size_t i = 0; i < kBuckets; ++i) {
    const std::uint64_t times = buckets[i].load(std::memory_order_relaxed);
    to.buckets_[i] += times;
    to.count_ += times;
  }
  to.total_ += nanoseconds(static_cast<nanoseconds::rep>(sum.load(std::memory_order_relaxed)));
  to.max_ = std::max(
      to.max_, nanoseconds(static_cast<nanoseconds::rep>(max.load(std::memory_order_relaxed))));
}

void Meter::measure(std::uint32_t items) noexcept {
  const std::int64_t before = start_;
  const bool timed = timing_;
  start();
  if (std::exchange(dropped_, false) || items == 0) return;
  if (!timed) {
    unseen_ += items;  // the next one is
    return;
  }
  const std::int64_t elapsed = start_ - before;
  last_ = elapsed / items;
  row_->running.add(last_, items + std::exchange(unseen_, 0));
  unmeasured_ = static_cast<unsigned>(
      std::min(kMostUnmeasured, kEnough / std::max<std::int64_t>(elapsed, 1)));
  timing_ = unmeasured_ == 0;
  if (!timing_) row_->chunk_since.store(0, std::memory_order_relaxed);
}

SubmitClock::Stamp SubmitClock::next() noexcept {
  ++unseen_;
  // A look at the coarse clock costs a seventh of one at the fine one.
  const std::int64_t look = coarse_nanoseconds();
  if (look == last_look_ && unseen_ < kMost) return {};
  last_look_ = look;
  return {.time = steady_nanoseconds(), .times = std::exchange(unseen_, 0)};
}

}  // namespace detail
}  // namespace brood
