#include <brood/platform/program.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <type_traits>

#include <fmt/format.h>

#include <brood/errors.hpp>

extern char** environ;  // NOLINT(readability-redundant-declaration): not in a header by POSIX

namespace brood::detail {
namespace {

constexpr int kLowestOwnFd = 10;

/// Where this program's file is, found before anybody changes the directory. /proc/self/exe is
/// right even when the file was replaced; the path of the auxiliary vector serves without /proc.
const std::string& executable_path() {
  static const std::string path = [] {
    if (::access("/proc/self/exe", X_OK) == 0) return std::string("/proc/self/exe");
    const auto* name = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
    if (name == nullptr) return std::string();
    std::array<char, PATH_MAX> absolute{};
    return ::realpath(name, absolute.data()) != nullptr ? std::string(absolute.data())
                                                        : std::string(name);
  }();
  return path;
}
[[maybe_unused]] const std::string& kFoundEarly = executable_path();

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// A copy at a number of `lowest` or above; invalid, with errno, where there is none.
Fd copy_above(int fd, int lowest) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, lowest));
  if (!copy.valid() && errno == EINVAL) errno = EMFILE;  // the limit lies below `lowest`
  return copy;
}

class SpawnActions {
 public:
  SpawnActions() {
    check(::posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
    check(::posix_spawnattr_init(&attributes), "posix_spawnattr_init");
    sigset_t all;
    sigset_t none;
    ::sigfillset(&all);
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  ~SpawnActions() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  void duplicate(int from, int to) {
    check(::posix_spawn_file_actions_adddup2(&actions, from, to), "adddup2");
  }
  void close_from(int first) {
    check(::posix_spawn_file_actions_addclosefrom_np(&actions, first), "addclosefrom");
  }
  static void check(int error, const char* call) {
    if (error != 0) throw SystemError(call, "to execute this program again", error);
  }
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

}  // namespace

std::vector<std::string> command_line() {
  std::vector<std::string> arguments;
  const Fd file(::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t got = 0; file.valid() && (got = ::read(file.get(), part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = text.find('\0', at);
    if (end == std::string::npos) end = text.size();
    arguments.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (arguments.empty()) arguments.emplace_back("brood");
  return arguments;
}

std::vector<std::string> environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    variables.emplace_back(*variable);
  }
  return variables;
}

void set_environment(std::span<const std::string> variables) {
  // NOTE: never freed: whoever called getenv may hold pointers into it until the process ends.
  static std::vector<std::unique_ptr<std::vector<std::string>>>* kept = nullptr;
  static std::vector<std::unique_ptr<std::vector<char*>>>* kept_pointers = nullptr;
  if (kept == nullptr) {
    kept = new std::remove_pointer_t<decltype(kept)>;
    kept_pointers = new std::remove_pointer_t<decltype(kept_pointers)>;
  }
  kept->push_back(std::make_unique<std::vector<std::string>>(variables.begin(), variables.end()));
  kept_pointers->push_back(std::make_unique<std::vector<char*>>(pointers_to(*kept->back())));
  environ = kept_pointers->back()->data();
}

Fd open_working_directory() {
  Fd directory(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) throw SystemError("open", "the working directory", errno);
  return directory;
}

void change_directory(const Fd& directory) {
  if (::fchdir(directory.get()) != 0)
    throw SystemError("fchdir", "to the starter's directory", errno);
}

int execute_again(std::span<const std::string> arguments, std::span<const std::string> extra,
                  std::span<const int> descriptors, TerminalSignals signals) {
  std::vector<std::string> args(arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment();
  variables.insert(variables.end(), extra.begin(), extra.end());
  const std::vector<char*> argv = pointers_to(args);
  const std::vector<char*> envp = pointers_to(variables);

  SpawnActions actions;
  if (signals == TerminalSignals::wait) {
    const sigset_t set = terminal_signals();
    ::posix_spawnattr_setsigmask(&actions.attributes, &set);
  }
  std::vector<Fd> copies;  // above every target number, so that no dup2 overwrites a source
  const int first_above = kFirstPassedFd + static_cast<int>(descriptors.size());
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    Fd copy = copy_above(descriptors[i], first_above);
    if (!copy.valid()) throw SystemError("fcntl(F_DUPFD)", "to pass a descriptor", errno);
    actions.duplicate(copy.get(), kFirstPassedFd + static_cast<int>(i));
    copies.push_back(std::move(copy));
  }
  actions.close_from(first_above);
  int pid = 0;
  const int error = ::posix_spawn(&pid, executable_path().c_str(), &actions.actions,
                                  &actions.attributes, argv.data(), envp.data());
  if (error != 0) throw SystemError("posix_spawn", executable_path(), error);
  return pid;
}

std::optional<std::string> environment_variable(const char* name) {
  const char* value = ::secure_getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

void set_environment_variable(const char* name, const std::string& value) {
  if (::setenv(name, value.c_str(), 1) != 0) {  // NOLINT(concurrency-mt-unsafe)
    throw SystemError("setenv", name, errno);
  }
}

void unset_environment_variable(const char* name) noexcept { ::unsetenv(name); }

void set_standard_streams(std::span<const int> streams) noexcept {
  // Who runs without standard streams may have other descriptors in their places: copied first, as
  // a stream that is set could be the source of another.
  constexpr int kStreams = 3;
  std::array<int, kStreams> sources{-1, -1, -1};
  const int count = std::min(kStreams, static_cast<int>(streams.size()));
  for (int number = 0; number < count; ++number) {
    const int source = streams[static_cast<std::size_t>(number)];
    const int copy = source >= 0 && source < kStreams && source != number
                         ? ::fcntl(source, F_DUPFD_CLOEXEC, kLowestOwnFd)
                         : -1;
    sources[static_cast<std::size_t>(number)] = copy >= 0 ? copy : source;
  }
  for (int number = 0; number < count; ++number) {
    const int given = streams[static_cast<std::size_t>(number)];
    const int source = sources[static_cast<std::size_t>(number)];
    if (source < 0) {
      ::close(number);
    } else if (source != number) {
      ::dup2(source, number);
    }
    if (source != given) ::close(source);
  }
}

std::vector<int> open_standard_streams() {
  std::vector<int> streams;
  streams.reserve(kFirstPassedFd);
  for (int number = 0; number < kFirstPassedFd; ++number) {
    streams.push_back(::fcntl(number, F_GETFD) >= 0 ? number : -1);
  }
  return streams;
}

Fd move_high(Fd fd) {
  if (fd.get() >= kLowestOwnFd) return fd;
  Fd high(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kLowestOwnFd));
  if (high.valid()) return high;
  // Few descriptors are allowed: a low number is better than none.
  return fd;
}

Fd take_passed_descriptor(int number) {
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  return Fd(number);
}

Fd duplicate(int fd) {
  Fd copy = copy_above(fd, kLowestOwnFd);
  if (!copy.valid()) copy = copy_above(fd, kFirstPassedFd);  // few are allowed
  if (!copy.valid()) throw SystemError("fcntl(F_DUPFD)", fmt::format("descriptor {}", fd), errno);
  return copy;
}

}  // namespace brood::detail
