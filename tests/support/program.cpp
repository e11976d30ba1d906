#include "support/program.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>

#include "support/eventually.hpp"

namespace brood::testing {
namespace {

struct Status {
  std::string name;
  char state = '?';
  int session = 0;
};

/// Of /proc/PID/stat; nullopt when there is no such process any more.
std::optional<Status> status_of(int pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t begin = text.find('(');
  const std::size_t end = text.rfind(')');
  if (begin == std::string::npos || end == std::string::npos) return std::nullopt;
  Status status;
  status.name = text.substr(begin + 1, end - begin - 1);
  std::istringstream rest(text.substr(end + 1));
  int parent = 0;
  int group = 0;
  rest >> status.state >> parent >> group >> status.session;
  return status;
}

}  // namespace

Program::Program(const std::string& name, Start start) {
  const std::string path =
      (std::filesystem::read_symlink("/proc/self/exe").parent_path() / ("brood_" + name)).string();
  if (::access(path.c_str(), X_OK) != 0) throw std::runtime_error(path + " has not been built");
  std::vector<std::string> arguments{path};
  arguments.insert(arguments.end(), start.arguments.begin(), start.arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string out = dir_.file("out");
  const std::string err = dir_.file("err");
  std::fflush(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ != 0) return;
  ::setsid();
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
  ::dup2(::open(out.c_str(), flags, 0600), 1);
  ::dup2(::open(err.c_str(), flags, 0600), 2);
  ::close_range(3, ~0U, 0);
  if (start.prepare && !start.prepare()) ::_exit(kCannotPrepare);
  for (const int stream : start.closed_streams) ::close(stream);
  ::execv(path.c_str(), argv.data());
  ::_exit(kCannotPrepare);
}

Program::~Program() {
  for (int round = 0; round < 100; ++round) {
    const std::vector<int> left = family();
    if (left.empty()) break;
    for (const int pid : left) ::kill(pid, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  wait();
}

std::optional<int> Program::wait(std::chrono::milliseconds patience) {
  int status = 0;
  if (!code_ && eventually([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; }, patience)) {
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  return code_;
}

std::vector<int> Program::family() const {
  std::vector<int> pids;
  DIR* directory = ::opendir("/proc");
  if (directory == nullptr) throw std::runtime_error("opendir(/proc)");
  while (const dirent* entry = ::readdir(directory)) {
    const int pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    const auto status = status_of(pid);
    if (status && status->session == pid_ && status->state != 'Z' && status->state != 'X') {
      pids.push_back(pid);
    }
  }
  ::closedir(directory);
  return pids;
}

int Program::find(const std::string& name) const {
  for (const int pid : family()) {
    if (const auto status = status_of(pid); status && status->name == name) return pid;
  }
  return 0;
}

int Program::await_stopped() const {
  std::vector<int> pids;
  const auto one = [&] {
    pids = family();
    std::erase_if(pids, [](int pid) { return process_state(pid) != 'T'; });
    return pids.size() == 1;
  };
  return eventually(one) ? pids.at(0) : 0;
}

bool Program::all_gone(std::chrono::milliseconds patience) const {
  return eventually([&] { return family().empty(); }, patience);
}

std::string Program::describe() const {
  std::string text = fmt::format("stdout:\n{}\nstderr:\n{}\nprocesses:\n", out(), err());
  for (const int pid : family()) {
    const auto status = status_of(pid);
    if (status) text += fmt::format("{} {} {}\n", pid, status->name, status->state);
  }
  return text;
}

std::chrono::milliseconds within(std::chrono::milliseconds on_a_quiet_machine) {
  double load = 0;
  if (::getloadavg(&load, 1) != 1) return on_a_quiet_machine;
  const double processors = std::max(1U, std::thread::hardware_concurrency());
  const double factor = std::max(1.0, 2 * load / processors);
  return std::chrono::milliseconds(
      static_cast<long>(static_cast<double>(on_a_quiet_machine.count()) * factor));
}

}  // namespace brood::testing
