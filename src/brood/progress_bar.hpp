// Layer: pool
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace brood {

/// Shows on the terminal how far a call is: what CallOptions::progress may be.
///
///     pool.with({.progress = brood::progress_bar("frames")}).map(render, frames);
///
///     frames  42% [==========>              ] 4200/10000  310/s  0:18 left
///
/// One line of standard error, rewritten in place as wide as the terminal is, and left as a line
/// when all is done or the last copy of the bar goes. Silent where standard error is no terminal,
/// or one without a cursor (TERM=dumb), from one moment to the next. Never throws, whatever becomes
/// of the terminal. A value: copies show the same bar; used by one thread at a time, and for one
/// call after the other.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  void operator()(std::size_t done, std::size_t total) const noexcept;

 private:
  class Line;
  std::shared_ptr<Line> line_;
};

[[nodiscard]] inline ProgressBar progress_bar(std::string label = "") {
  return ProgressBar(std::move(label));
}

}  // namespace brood
