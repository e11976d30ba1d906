#include <brood/platform/quiet_thread.hpp>

#include <csignal>
#include <system_error>
#include <utility>

#include <brood/errors.hpp>

namespace brood::detail {

std::thread start_quiet_thread(std::function<void()> body) {
  // It inherits the mask; blocked for a moment here, so that there is none in which it has another.
  struct AllBlocked {
    AllBlocked() {
      sigset_t all;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    AllBlocked(const AllBlocked&) = delete;
    AllBlocked& operator=(const AllBlocked&) = delete;
    ~AllBlocked() { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); }
    sigset_t before{};
  } const blocked;
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error& e) {
    throw SystemError("pthread_create", "for a wait", e.code().value());
  }
}

}  // namespace brood::detail
