#include "redis_peer.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>

namespace bench {

bool RedisPeer::start() {
  std::array<char, 32> name{"/tmp/redis-XXXXXX"};
  if (::mkdtemp(name.data()) == nullptr) {
    why_not_ = "no folder for redis-server";
    return false;
  }
  folder_ = name.data();
  socket_ = folder_ + "/socket";
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(0);
    const int null = ::open("/dev/null", O_RDWR);
    for (const int fd : {0, 1, 2}) ::dup2(null, fd);
    ::close_range(3, ~0u, 0);
    ::execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_.c_str(),
             "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", folder_.c_str(),
             nullptr);
    ::_exit(127);
  }
  // It is there when its socket is.
  for (int turn = 0; turn < 5000; ++turn) {
    if (::access(socket_.c_str(), F_OK) == 0) return true;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      why_not_ = "no redis-server here";
      return false;
    }
    ::usleep(1000);
  }
  why_not_ = "redis-server does not start";
  return false;
}

RedisPeer::~RedisPeer() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (!socket_.empty()) ::unlink(socket_.c_str());
  if (!folder_.empty()) ::rmdir(folder_.c_str());
}

}  // namespace bench
