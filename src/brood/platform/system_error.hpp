// Layer: platform
// System calls that throw: `int fd = check(::open(path, flags), "open", "path={}", path);`
#pragma once

#include <fmt/format.h>
#include <brood/errors.hpp>

#include <cerrno>
#include <concepts>
#include <string>
#include <string_view>

namespace brood::detail {

/// The text of SystemError: "open(path=/x): No such file or directory [ENOENT]", and what to do
/// about it where that can be known (descriptors, memory, processes, shared memory run out).
std::string system_error_text(std::string_view call, std::string_view arguments, int error);

/// Out of line, so that the checks around system calls stay small.
[[noreturn]] void throw_system_error(int error, std::string_view call, fmt::string_view format,
                                     fmt::format_args arguments);

/// Returns `result` unless it is -1: then throws SystemError with errno. The format and its
/// arguments describe the call's arguments; they are formatted only when it failed.
template <std::signed_integral Result, class... Args>
Result check(Result result, std::string_view call, fmt::format_string<Args...> format,
             Args&&... args) {
  if (result == Result{-1}) [[unlikely]] {
    throw_system_error(errno, call, format, fmt::make_format_args(args...));
  }
  return result;
}

template <std::signed_integral Result>
Result check(Result result, std::string_view call) {
  if (result == Result{-1}) [[unlikely]]
    throw_system_error(errno, call, "", {});
  return result;
}

/// For functions which return the error number itself, as pthread's do: throws unless it is 0.
template <class... Args>
void check_error(int error, std::string_view call, fmt::format_string<Args...> format,
                 Args&&... args) {
  if (error != 0) [[unlikely]] {
    throw_system_error(error, call, format, fmt::make_format_args(args...));
  }
}

inline void check_error(int error, std::string_view call) {
  if (error != 0) [[unlikely]]
    throw_system_error(error, call, "", {});
}

}  // namespace brood::detail
