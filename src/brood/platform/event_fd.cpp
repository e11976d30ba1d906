#include <brood/platform/event_fd.hpp>

#include <sys/eventfd.h>

#include <brood/platform/system_error.hpp>

namespace brood::detail {

EventFd::EventFd() : fd_(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {}

// Neither can fail in a way that matters: the counter is far from its end, or 0 already.
void EventFd::signal() const noexcept { static_cast<void>(::eventfd_write(fd_.get(), 1)); }
void EventFd::clear() const noexcept {
  eventfd_t count = 0;
  static_cast<void>(::eventfd_read(fd_.get(), &count));
}

}  // namespace brood::detail
