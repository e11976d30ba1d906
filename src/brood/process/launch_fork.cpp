#include <chrono>
#include <climits>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/fork_local_fd.hpp>
#include <brood/platform/program.hpp>
#include <brood/platform/service_thread.hpp>
#include <brood/process/child.hpp>
#include <brood/process/family.hpp>
#include <brood/process/launch.hpp>
#include <brood/process/log_output.hpp>

namespace brood::detail {
namespace {

/// One that is ending, even if it has been joined, is counted for some moments more: as long as
/// they become fewer, more may be ending.
int threads_of_the_program() {
  constexpr auto kPatience = std::chrono::milliseconds(50);
  int fewest = INT_MAX;
  Deadline deadline = Deadline::never();
  for (;;) {
    const int threads = thread_count() - ServiceThread::count();
    if (threads <= 1 || deadline.passed()) return threads;
    if (threads < fewest) {
      fewest = threads;
      deadline = Deadline::after(kPatience);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

}  // namespace

Launched launch_by_fork(Family& family, Tag tag, std::span<const int> descriptors) {
  if (ServiceThread::here())
    throw StartError("fork is refused: a thread of the library may not fork");
  const LogOutput::Pause no_thread_of_the_log;
  if (const int threads = threads_of_the_program(); threads > 1) {
    throw StartError(fmt::format(
        "fork is refused: this process has {} threads, and a copy would have one, with the locks "
        "of the others locked for ever; use StartMethod::forkserver or StartMethod::spawn",
        threads));
  }
  family.ensure_watched();   // first, so that the child has the way to the same fork server
  flush_standard_streams();  // or parent and child would both write what is buffered
  // The number for the child's descriptor, or the child would run before its lack is known.
  Fd place = duplicate(family.segment().file().get());
  // The child has copies of this process's handles: it holds what they refer to from the start.
  family.handles().prepare_fork(tag);
  int pid = 0;
  std::optional<ServicePause> pause(std::in_place);
  try {
    pid = fork_process();
  } catch (...) {
    family.handles().forked();
    throw;
  }
  if (pid == 0) pause->in_child();
  pause.reset();
  place.reset();
  if (pid == 0) {
    // Or the other ends of the parent's connections would not see that the parent closes its own.
    abandon_fork_local_fds(descriptors);
    run_child(family, tag, StartMethod::fork, {descriptors.begin(), descriptors.end()});
  }
  family.handles().forked();
  Launched launched{.process = ProcessHandle::open_child(pid), .pid = pid, .own_child = true};
  family.ask_to_watch(tag, launched.process);
  return launched;
}

}  // namespace brood::detail
