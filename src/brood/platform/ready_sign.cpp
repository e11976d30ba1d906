#include <brood/platform/ready_sign.hpp>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include <brood/platform/system_error.hpp>

namespace brood::detail {

ReadySign::ReadySign(int socket)
    : event_(Fd(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"))),
      both_(Fd(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"))) {
  for (const int fd : {event_.get(), socket}) {
    epoll_event event{};
    event.events = EPOLLIN;
    check(::epoll_ctl(both_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl", "to watch a socket");
  }
}

void ReadySign::set(bool ready) noexcept {
  if (ready == ready_) return;
  std::uint64_t number = 1;
  // Neither can fail: it is 0 or 1.
  if (ready) {
    [[maybe_unused]] const ssize_t done = ::write(event_.get(), &number, sizeof number);
  } else {
    [[maybe_unused]] const ssize_t done = ::read(event_.get(), &number, sizeof number);
  }
  ready_ = ready;
}

}  // namespace brood::detail
