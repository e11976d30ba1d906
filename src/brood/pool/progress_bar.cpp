#include <brood/progress_bar.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <brood/platform/deadline.hpp>
#include <brood/platform/terminal.hpp>
#include <brood/platform/write_text.hpp>

namespace brood {
namespace {

using Clock = detail::Deadline::Clock;

constexpr int kStandardError = 2;
/// No more often, however often it is told.
constexpr auto kBetweenDrawings = std::chrono::milliseconds(50);
constexpr std::size_t kWidestBar = 50;
constexpr std::size_t kNarrowestBar = 5;

/// 0:07, 12:34, 3:04:05
std::string clock_text(double seconds) {
  constexpr double kTooLong = 1e8;
  const auto s = std::llround(std::clamp(seconds, 0.0, kTooLong));
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// Three digits or so: 0.42, 4.2, 310, 1.2k, 3.4M
std::string rate_text(double rate) {
  if (rate < 1) return fmt::format("{:.2f}", rate);
  if (rate < 10) return fmt::format("{:.1f}", rate);
  if (rate < 1000) return fmt::format("{:.0f}", rate);
  if (rate < 1e6) return fmt::format("{:.1f}k", rate / 1e3);
  return fmt::format("{:.1f}M", rate / 1e6);
}

std::string bar_text(const std::string& label, std::size_t done, std::size_t total, double seconds,
                     std::size_t columns) {
  const double part = total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total);
  const std::string left = fmt::format("{}{}{:3.0f}%", label, label.empty() ? "" : " ", part * 100);
  std::string right = fmt::format("{}/{}", done, total);
  if (done > 0 && seconds > 0) {
    const double rate = static_cast<double>(done) / seconds;
    right += fmt::format("  {}/s", rate_text(rate));
    right += done < total
                 ? fmt::format("  {} left", clock_text(static_cast<double>(total - done) / rate))
                 : fmt::format("  {}", clock_text(seconds));
  }
  // The last column stays free: some terminals go to the next line when it is written.
  const std::size_t texts = left.size() + right.size() + 5;
  const std::size_t room = columns - 1 > texts ? columns - 1 - texts : 0;
  std::string line;
  if (room >= kNarrowestBar) {
    const std::size_t width = std::min(room, kWidestBar);
    const auto filled =
        std::min(width, static_cast<std::size_t>(part * static_cast<double>(width)));
    std::string bar(filled, '=');
    if (filled < width) bar += '>';
    bar.resize(width, ' ');
    line = fmt::format("{} [{}] {}", left, bar, right);
  } else {
    line = fmt::format("{} {}", left, right);
  }
  if (line.size() > columns - 1) line.resize(columns - 1);
  return line;
}

}  // namespace

class ProgressBar::Line {
 public:
  explicit Line(std::string label) : label_(std::move(label)) {}
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  ~Line() { leave(); }

  void show(std::size_t done, std::size_t total) {
    const Clock::time_point now = Clock::now();
    if (!start_ || done < done_) start_ = now;  // another call
    done_ = done;
    const bool all = done >= total;
    if (drawn_ && !all && now - *drawn_ < kBetweenDrawings) return;
    const int columns = detail::terminal_columns(kStandardError);
    if (columns < 2) return;
    const double seconds = std::chrono::duration<double>(now - *start_).count();
    detail::write_text(kStandardError,
                       fmt::format("\r{}\x1b[K", bar_text(label_, done, total, seconds,
                                                          static_cast<std::size_t>(columns))));
    drawn_ = now;
    if (all) leave();
  }

 private:
  void leave() noexcept {
    if (!std::exchange(drawn_, std::nullopt)) return;
    detail::write_text(kStandardError, "\n");
    start_.reset();
  }

  std::string label_;
  std::optional<Clock::time_point> start_;
  std::optional<Clock::time_point> drawn_;
  std::size_t done_ = 0;
};

ProgressBar::ProgressBar(std::string label) : line_(std::make_shared<Line>(std::move(label))) {}

void ProgressBar::operator()(std::size_t done, std::size_t total) const noexcept {
  try {
    line_->show(done, total);
  } catch (const std::exception&) {
    // No memory: this look is left out.
  }
}

}  // namespace brood
