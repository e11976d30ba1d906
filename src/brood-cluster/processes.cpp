#include "processes.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include <brood/platform/program.hpp>
#include <brood/platform/signal_name.hpp>
#include <brood/platform/stop_signals.hpp>

#include "failure.hpp"

namespace tool {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr auto kTick = std::chrono::milliseconds(20);

/// 0 when it is gone, or has ended and its parent does not know yet.
std::uint64_t start_of(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::ostringstream text;
  text << file.rdbuf();
  const std::string line = text.str();
  const std::size_t name_end = line.rfind(')');  // the name may contain anything
  if (name_end == std::string::npos) return 0;
  std::istringstream words(line.substr(name_end + 1));
  std::string word;
  words >> word;
  if (word == "Z" || word == "X") return 0;
  constexpr int kBetween = 18;
  for (int i = 0; i != kBetween; ++i) words >> word;
  std::uint64_t start = 0;
  words >> start;
  return start;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> all;
  all.reserve(words.size() + 1);
  for (std::string& word : words) all.push_back(word.data());
  all.push_back(nullptr);
  return all;
}

std::atomic<bool> interrupted{false};

}  // namespace

ProcessId start_detached(const std::vector<std::string>& command,
                         const std::vector<std::string>& environment, const fs::path& log) {
  std::vector<std::string> variables = environment;
  for (const std::string& variable : brood::detail::environment()) {
    const std::string_view name = std::string_view(variable).substr(0, variable.find('=') + 1);
    const bool replaced = std::ranges::any_of(
        environment, [&](const std::string& other) { return other.starts_with(name); });
    if (!replaced) variables.push_back(variable);
  }
  std::vector<std::string> words = command;
  const std::vector<char*> argv = pointers(words);
  const std::vector<char*> envp = pointers(variables);
  const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  if (output < 0) {
    throw Failure(fmt::format("{} cannot be written: {}", log.string(), std::strerror(errno)));
  }
  int failed[2] = {-1, -1};  // the child writes why it could not be executed
  if (::pipe2(failed, O_CLOEXEC) != 0) {
    ::close(output);
    throw Failure(fmt::format("pipe2: {}", std::strerror(errno)));
  }
  // From here on to execve as after a fork of a program with threads.
  const int pid = ::fork();
  if (pid == 0) {
    ::setsid();
    const int input = ::open("/dev/null", O_RDONLY);
    ::dup2(input, 0);
    ::dup2(output, 1);
    ::dup2(output, 2);
    if (input > 2) ::close(input);
    ::execve(argv[0], argv.data(), envp.data());
    const int error = errno;
    static_cast<void>(::write(failed[1], &error, sizeof error) == 0);
    ::_exit(127);
  }
  int error = pid < 0 ? errno : 0;
  ::close(output);
  ::close(failed[1]);
  if (pid > 0) {
    while (::read(failed[0], &error, sizeof error) < 0 && errno == EINTR) continue;
  }
  ::close(failed[0]);
  if (error != 0) {
    if (pid > 0) ::waitpid(pid, nullptr, 0);
    throw Failure(fmt::format("{} cannot be executed: {}", command.front(), std::strerror(error)));
  }
  return {.pid = pid, .start = start_of(pid)};
}

bool lives(const ProcessId& process) {
  return process.pid > 0 && process.start != 0 && start_of(process.pid) == process.start;
}

void send_signal(const ProcessId& process, int signal) {
  if (lives(process)) ::kill(process.pid, signal);
}

bool await_end(const std::vector<ProcessId>& processes, std::chrono::seconds patience) {
  const auto end = Clock::now() + patience;
  while (std::ranges::any_of(processes, lives)) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(kTick);
  }
  // Of this process's children nothing is left, whoever is to inherit them.
  for (const ProcessId& process : processes) {
    if (process.pid > 0) ::waitpid(process.pid, nullptr, WNOHANG);
  }
  return true;
}

std::string how_it_ended(const ProcessId& process) {
  if (lives(process)) return {};
  int status = 0;
  if (::waitpid(process.pid, &status, WNOHANG) == process.pid) {
    if (WIFEXITED(status)) return fmt::format("ended with {}", WEXITSTATUS(status));
    return fmt::format("was killed by {}", brood::detail::signal_name(WTERMSIG(status)));
  }
  return "ended";
}

std::string end_of(const fs::path& log) {
  constexpr std::size_t kLines = 15;
  std::ifstream file(log);
  std::deque<std::string> last;
  for (std::string line; std::getline(file, line);) {
    last.push_back(std::move(line));
    if (last.size() > kLines) last.pop_front();
  }
  std::string text;
  for (const std::string& line : last) text += "\n    " + line;
  return text;
}

fs::path find_program(const std::string& name) {
  const auto usable = [](const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) {
    const fs::path path = fs::absolute(name).lexically_normal();
    return usable(path) ? path : fs::path();
  }
  const char* const path = std::getenv("PATH");
  std::istringstream folders(fmt::format("{}:/usr/local/sbin:/usr/sbin", path ? path : ""));
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (!folder.empty() && usable(fs::path(folder) / name)) {
      return fs::absolute(fs::path(folder) / name);
    }
  }
  return {};
}

void check_interrupt() {
  static const bool known = [] {
    brood::detail::on_stop_signals([] { interrupted.store(true); });
    return true;
  }();
  if (known && interrupted.load()) throw Failure("interrupted");
}

}  // namespace tool
