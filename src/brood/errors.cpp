// Layer: platform
#include <fmt/format.h>
#include <brood/errors.hpp>
#include <brood/platform/signal_name.hpp>
#include <brood/platform/system_error.hpp>

#include <iterator>
#include <utility>

namespace brood {

namespace {

void describe_to(std::string& out, const RemoteFailure& failure) {
  out += failure.type;
  if (!failure.message.empty()) out += ": " + failure.message;
  if (failure.item || !failure.process.empty()) {
    out += "\n  thrown";
    if (failure.item) out += fmt::format(" computing item {}", *failure.item);
    if (!failure.process.empty()) out += " in " + failure.process;
  }
  for (const std::string& frame : failure.stack) out += "\n    " + frame;
  for (const RemoteFailure& cause : failure.causes) {
    out += "\ncaused by ";
    describe_to(out, cause);
  }
}

std::string describe(const Crash& crash) {
  std::string text = fmt::format("worker {} (pid {}) ", crash.worker, crash.pid);
  if (crash.signal != 0) {
    text += "was killed by " + detail::signal_name(crash.signal);
    if (crash.address != 0) text += fmt::format(" at address {:#x}", crash.address);
  } else {
    text += fmt::format("exited with code {}", crash.exit_code);
  }
  if (crash.item) text += fmt::format(" while it computed item {}", *crash.item);
  if (crash.attempt > 1) text += fmt::format(" (attempt {})", crash.attempt);
  for (const std::string& frame : crash.stack) text += "\n    " + frame;
  return text;
}

}  // namespace

SystemError::SystemError(std::string_view call, std::string_view arguments, int error)
    : Error(detail::system_error_text(call, arguments, error)),
      code_(error, std::generic_category()),
      context_(
          std::make_shared<const Context>(Context{std::string(call), std::string(arguments)})) {}

std::string RemoteFailure::describe() const {
  std::string text;
  describe_to(text, *this);
  return text;
}

WorkerCrashed::WorkerCrashed(Crash crash)
    : Error(describe(crash)), crash_(std::make_shared<const Crash>(std::move(crash))) {}

std::string WorkerCrashed::signal_name() const {
  return signal() == 0 ? std::string() : detail::signal_name(signal());
}

}  // namespace brood
