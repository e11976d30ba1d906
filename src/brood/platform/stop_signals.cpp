#include <brood/platform/stop_signals.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

constinit std::atomic<void (*)()> called{nullptr};

extern "C" void brood_stop(int /*signal*/) {
  const int before = errno;
  if (void (*const stop)() = called.load()) stop();
  errno = before;
}

}  // namespace

void on_stop_signals(void (*stop)()) {
  called.store(stop);
  struct sigaction action {};
  action.sa_handler = &brood_stop;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGINT}) {
    if (::sigaction(signal, &action, nullptr) != 0) throw SystemError("sigaction", "", errno);
  }
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

}  // namespace brood::detail
