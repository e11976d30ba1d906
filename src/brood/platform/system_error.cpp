// Layer: platform
#include <brood/platform/system_error.hpp>

#include <cstring>

namespace brood::detail {

namespace {

std::string_view hint(int error) {
  switch (error) {
    case EMFILE:
      return "this process has no free file descriptors: raise `ulimit -n`, or close some";
    case ENFILE:
      return "the system has no free file descriptors: raise the sysctl fs.file-max";
    case ENOMEM:
      return "no memory: use less, or raise the limit (`ulimit -v`, cgroup memory.max, "
             "sysctl vm.max_map_count)";
    case ENOSPC:
      return "no space: free or raise what the call draws on (disk, the size of /dev/shm, "
             "sysctl fs.inotify.max_user_watches)";
    case EAGAIN:
      return {};
    case ENOSYS:
      return "this kernel lacks the call: Linux 5.10 or newer is needed, and no seccomp filter "
             "that hides it";
    default:
      return {};
  }
}

// EAGAIN means "not now" everywhere except where processes and threads are made.
std::string_view hint(std::string_view call, int error) {
  if (error == EAGAIN && (call == "fork" || call == "vfork" || call.starts_with("clone") ||
                          call == "pthread_create" || call.starts_with("posix_spawn"))) {
    return "no free process slot: raise `ulimit -u`, cgroup pids.max or sysctl kernel.pid_max";
  }
  if (error == EPERM && (call.starts_with("mlock") || call == "sched_setscheduler")) {
    return "not permitted: raise `ulimit -l` or `ulimit -r`";
  }
  return hint(error);
}

}  // namespace

std::string system_error_text(std::string_view call, std::string_view arguments, int error) {
  std::string text = fmt::format("{}({}): ", call, arguments);
  const char* description = ::strerrordesc_np(error);
  const char* name = ::strerrorname_np(error);
  if (description != nullptr && name != nullptr) {
    text += fmt::format("{} [{}]", description, name);
  } else {
    text += fmt::format("error {}", error);
  }
  if (const std::string_view advice = hint(call, error); !advice.empty()) {
    text += "; ";
    text += advice;
  }
  return text;
}

void throw_system_error(int error, std::string_view call, fmt::string_view format,
                        fmt::format_args arguments) {
  throw SystemError(call, fmt::vformat(format, arguments), error);
}

}  // namespace brood::detail
