#include "nats_peer.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace bench {
namespace {

// A child that ends with this process, and says nothing.
template <class Execute>
pid_t start_child(Execute execute) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  const int null = ::open("/dev/null", O_RDWR);
  for (const int fd : {0, 1, 2}) ::dup2(null, fd);
  ::close_range(3, ~0u, 0);
  execute();
  ::_exit(127);
}

void end(pid_t child, int signal) {
  ::kill(child, signal);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

bool NatsPeer::start() {
  std::array<char, 32> name{"/tmp/nats-XXXXXX"};
  if (::mkdtemp(name.data()) == nullptr) {
    why_not_ = "no folder for nats-server";
    return false;
  }
  folder_ = name.data();
  pid_ = start_child([&] {
    for (const char* program : {"nats-server", "/usr/sbin/nats-server"}) {
      ::execlp(program, "nats-server", "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir",
               folder_.c_str(), "-js", "-sd", folder_.c_str(), nullptr);
    }
  });
  // It is there when it has written down its port.
  const std::string ports = folder_ + "/nats-server_" + std::to_string(pid_) + ".ports";
  for (int turn = 0; turn < 5000; ++turn) {
    std::ifstream file(ports);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const std::size_t begin = text.find("nats://");
    const std::size_t end = text.find('"', begin == std::string::npos ? 0 : begin);
    if (begin != std::string::npos && end != std::string::npos) {
      url_ = text.substr(begin, end - begin);
      return true;
    }
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      why_not_ = "no nats-server here";
      return false;
    }
    ::usleep(1000);
  }
  why_not_ = "nats-server does not start";
  return false;
}

void NatsPeer::add_agent() {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  agents_.push_back(start_child([&] {
    ::setenv("BROOD_AGENT_WORKERS", "1", 1);
    ::execl(self.c_str(), self.c_str(), "--brood-agent", url_.c_str(), nullptr);
  }));
}

NatsPeer::~NatsPeer() {
  for (const pid_t agent : agents_) end(agent, SIGTERM);
  if (pid_ > 0) end(pid_, SIGKILL);
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

}  // namespace bench
