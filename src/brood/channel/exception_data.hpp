// Layer: channel
// Exceptions as data: taken apart where they were thrown, carried as bytes, thrown again where the
// result is asked for.
#pragma once

#include <brood/errors.hpp>
#include <brood/platform/throw_probe.hpp>

#include <cxxabi.h>

#include <cstddef>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace brood::detail {

/// One exception. A plain value; the stack is text, since addresses mean nothing elsewhere.
struct ErrorRecord {
  std::string type;                     ///< readable name of the type
  std::string message;                  ///< what(), empty where there is none
  std::vector<std::string> stack = {};  ///< at the throw, innermost first
  std::vector<ErrorRecord> causes = {};
  std::string key = {};      ///< typeid name of the known type it is thrown again as; or empty
  std::string payload = {};  ///< what that type keeps beside what()
  std::string process = {};  ///< "brood-worker-2 (pid 123)"; whoever records may fill it in
  std::optional<std::size_t> item = {};

  bool operator==(const ErrorRecord&) const = default;
};

/// The exception of the handler that the caller is in, with its causes and, if a ThrowProbe of
/// this handler saw it, its stack. Where memory has run out, it is a record of std::bad_alloc.
ErrorRecord record_current_exception() noexcept;
/// Without a stack, unless it came with one from another process.
ErrorRecord record_exception(std::exception_ptr exception) noexcept;

/// Runs `body`. True when it returned. False when it threw, whatever it threw: then `out` says
/// what, and where. Nothing is paid when nothing is thrown, nor for what body() catches itself.
/// Only a thread that is being cancelled (pthread_cancel) passes.
///
/// NOTE: a cancellation has no object: the handler's reference is bound to nothing, which the
/// undefined behaviour sanitizer would report.
template <class Body>
__attribute__((no_sanitize("null"), no_sanitize("alignment"))) bool run_catching(Body&& body,
                                                                                 ErrorRecord& out) {
  try {
    std::forward<Body>(body)();
    return true;
  } catch (const ThrowProbe&) {  // notes the stack, is never entered
    return false;
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    out = record_current_exception();
    return false;
  }
}

/// Appends the record as bytes, at most kMaxEncodedError: long texts are cut (and say so), as are
/// stacks and chains of causes.
void encode_error(std::vector<std::byte>& out, const ErrorRecord& record);
inline constexpr std::size_t kMaxEncodedError = 1 << 20;

/// The record whose bytes these are, all of them. They may come from anybody: throws DecodeError
/// when they are not a record's.
ErrorRecord decode_error(std::span<const std::byte> bytes);

/// Throws the exception again: as its own type where that is standard, Brood's or registered
/// (register_exception.hpp), otherwise as RemoteError. Either is a RemoteTrace too, and has its
/// first cause as a std::nested_exception.
[[noreturn]] void throw_error(const ErrorRecord& record);

/// The record as users see it.
RemoteFailure remote_failure(const ErrorRecord& record);

/// Writes what a process says of the exception that ends it, in one piece:
///     Process hopeless (pid 123): uncaught std::runtime_error: no such luck
///         failing() at jobs.cpp:20 (jobs+0x1234)
void report_uncaught(int fd, std::string_view process_name, int pid, const ErrorRecord& record);

}  // namespace brood::detail
