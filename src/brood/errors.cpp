// Layer: platform
#include <fmt/format.h>
#include <brood/errors.hpp>
#include <brood/platform/crash_note.hpp>
#include <brood/platform/signal_name.hpp>
#include <brood/platform/system_error.hpp>

#include <exception>
#include <iterator>
#include <mutex>
#include <sstream>
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

std::string Crash::summary() const {
  std::string text = fmt::format("worker {} (pid {}) ", worker, pid);
  if (out_of_memory) {
    text += "was killed by the kernel, as memory had run out,";
  } else if (signal != 0) {
    text += "was killed by " + detail::signal_name(signal);
    if (address != 0) text += fmt::format(" at address {:#x}", address);
  } else {
    text += fmt::format("exited with code {}", exit_code);
  }
  if (item) text += fmt::format(" while it computed item {}", *item);
  if (attempt > 1) text += fmt::format(" (attempt {})", attempt);
  if (text.ends_with(',')) text.pop_back();
  return text;
}

std::string Crash::describe() const {
  std::string text = summary();
  std::string line;
  if (!reason.empty()) text += "\n  reason: " + reason;
  for (const std::string& frame : stack) text += "\n    " + frame;
  if (!stderr_tail.empty()) text += "\n  the end of its stderr:";
  for (std::istringstream lines(stderr_tail); std::getline(lines, line);) text += "\n  | " + line;
  if (usage) {
    using Seconds = std::chrono::duration<double>;
    text += fmt::format(
        "\n  used at most {:.1f} MiB of memory, {:.2f} s of CPU time, {:.2f} s of it in the kernel",
        static_cast<double>(usage->peak_bytes) / (1 << 20U),
        Seconds(usage->user + usage->system).count(), Seconds(usage->system).count());
  }
  return text;
}

struct WorkerCrashed::State {
  explicit State(Crash its) : crash(std::move(its)) {}
  Crash crash;
  std::once_flag looked_up;
};

WorkerCrashed::WorkerCrashed(Crash crash)
    : Error(crash.summary()),
      state_(std::make_shared<State>(std::move(crash))),
      crash_(&state_->crash) {}

const Crash& WorkerCrashed::crash() const noexcept {
  try {
    std::call_once(state_->looked_up, [this] {
      Crash& crash = state_->crash;
      if (crash.raw_stack && crash.stack.empty()) crash.stack = crash.raw_stack->describe_stack();
    });
  } catch (const std::exception& e) {
    static_cast<void>(e);  // only where a program has no threads at all
  }
  return *crash_;
}

std::string WorkerCrashed::signal_name() const {
  return signal() == 0 ? std::string() : detail::signal_name(signal());
}

}  // namespace brood
