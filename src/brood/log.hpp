// Layer: process
// What the processes of a family have to say, in one place.
//
// Silent by default. One line switches it on for the whole family, whichever process says it, and
// for all children from then on, under every start method:
//
//     brood::log::to_stderr();          // 2026-05-04 12:00:00.123456 info worker-1[123]: ...
//     brood::log::to_files("logs");     // logs/worker-1.123.log, one for each process
//     brood::log::to_root();            // the root writes all, in order, to its stderr
//     brood::log::to_root("run.log");   // or to a file, or to a function:
//     brood::log::to_root([](const brood::log::Record& record) { ... });
//
//     brood::log::info("read {} rows of {}", rows, path);      // fmt's format strings
//     brood::log::set_level(brood::log::Level::debug);         // now, for the whole family
//
// At once: any thread of any process, but no signal handler. While the Runtime ends, no other
//   thread may log.
// Bytes: a record is in the kernel or in the family's shared memory when the call returns, so that
//   a process which is killed takes none with it that it wrote. If the root is killed, the fork
//   server writes what the root had not yet; it cannot call a function of the root's, however.
// Death and order: docs/design/log.md. Lines of several processes do not mix.
// Across fork: StartMethod::fork as the others; a fork(2) of the program itself, which is no member
//   of the family, is silent.
// Full: who finds no room for a record on its way to the root waits a moment, then it is lost; the
//   root says how many were.
// Errors: a record never throws. Setting a destination throws StateError where there is no family
//   and none can be founded, SystemError when the folder or file cannot be written, ArgumentError
//   for a path that is too long.
// Cost: switched off, two loads and a branch, beside the computing of the arguments.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/core.h>

namespace brood::log {

enum class Level : std::uint8_t { trace, debug, info, warn, error, critical, off };

/// "info"
[[nodiscard]] std::string_view to_string(Level level) noexcept;

/// The task that wrote a record.
struct Task {
  /// Index of the input that is computed; none: the task was submitted by itself.
  std::optional<std::uint64_t> item = {};
  std::uint32_t attempt = 1;  ///< 1 the first time
};

/// A record, as a function that is given to to_root() gets it. The views live as long as the call.
struct Record {
  std::chrono::system_clock::time_point time;
  Level level = Level::info;
  int pid = 0;
  std::string_view process;  ///< its name
  std::optional<Task> task;  ///< if it was written by a task of a pool
  std::string_view text;
};

/// A file that has become as long as `bytes` is named NAME.1.log, that one NAME.2.log, and so on;
/// `keep` of them stay. 0: it grows without end.
struct Rotation {
  std::size_t bytes = 0;
  std::uint32_t keep = 3;
};

/// Each process writes lines to its own stderr, one write(2) each.
void to_stderr(Level level = Level::info);
/// Each process has a file NAME.PID.log in `folder`, which is made if it is not there.
void to_files(const std::string& folder, Level level = Level::info, Rotation rotation = {});
/// The root writes what all say, in order: to stderr, to a file, or to a function, which is called
/// by one thread of the root at a time; it may log, but not change where the log goes; what it
/// throws is dropped. Throws StateError elsewhere than
/// in the root.
void to_root(Level level = Level::info);
void to_root(const std::string& file, Level level = Level::info, Rotation rotation = {});
void to_root(std::function<void(const Record&)> take, Level level = Level::info);
/// Silent again. In the root: when all that was written has been passed on.
void off();

/// For the whole family, from now on.
void set_level(Level level);
/// Records below it are not written; Level::off without a family.
[[nodiscard]] Level level() noexcept;

/// In the root, when all goes there: returns when all that was written before has been passed on.
/// Otherwise there is nothing to wait for. False when a process that is stopped in the middle of
/// writing a record keeps back the rest for so long.
bool flush(std::chrono::milliseconds patience = std::chrono::seconds(1));
/// How many records of the family could not be written.
[[nodiscard]] std::uint64_t lost() noexcept;

/// A record without formatting.
void write(Level level, std::string_view text) noexcept;

}  // namespace brood::log

namespace brood::detail {

/// The family's level, or a word that says off. Changes with the Runtime only.
extern std::atomic<const std::atomic<std::uint32_t>*> log_level_word;

void write_formatted(log::Level level, fmt::string_view format, fmt::format_args args) noexcept;

}  // namespace brood::detail

namespace brood::log {

[[nodiscard]] inline bool enabled(Level level) noexcept {
  // Relaxed: neither orders anything. Who switches logging on or off does not wait for others.
  return static_cast<std::uint32_t>(level) >=
         detail::log_level_word.load(std::memory_order_relaxed)->load(std::memory_order_relaxed);
}

/// Of a level that is computed.
template <class... Args>
void at(Level level, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(level)) [[unlikely]]
    detail::write_formatted(level, format, fmt::make_format_args(args...));
}
template <class... Args>
void trace(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::trace)) [[unlikely]]
    detail::write_formatted(Level::trace, format, fmt::make_format_args(args...));
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug)) [[unlikely]]
    detail::write_formatted(Level::debug, format, fmt::make_format_args(args...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info)) [[unlikely]]
    detail::write_formatted(Level::info, format, fmt::make_format_args(args...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::warn)) [[unlikely]]
    detail::write_formatted(Level::warn, format, fmt::make_format_args(args...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::error)) [[unlikely]]
    detail::write_formatted(Level::error, format, fmt::make_format_args(args...));
}
template <class... Args>
void critical(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::critical)) [[unlikely]]
    detail::write_formatted(Level::critical, format, fmt::make_format_args(args...));
}

}  // namespace brood::log
