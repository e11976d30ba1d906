#include <brood/platform/poller.hpp>

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

int to_milliseconds(Deadline deadline) {
  if (deadline.is_never()) return -1;
  const std::timespec left = deadline.remaining();
  constexpr long kMost = INT_MAX / 1000 - 1;
  if (left.tv_sec > kMost) return INT_MAX;
  // Rounded up: a poll that returns too early would be repeated in a busy loop.
  return static_cast<int>(left.tv_sec * 1000 + (left.tv_nsec + 999'999) / 1'000'000);
}

}  // namespace

Poller::Poller() : fd_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!fd_.valid()) throw SystemError("epoll_create1", "", errno);
}

void Poller::add(int fd, std::uint64_t key) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = key;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw SystemError("epoll_ctl", "to watch a descriptor", errno);
  }
}

void Poller::remove(int fd) noexcept { ::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr); }

std::vector<std::uint64_t> Poller::wait(Deadline deadline) {
  std::array<epoll_event, 64> events{};
  const int count = ::epoll_wait(fd_.get(), events.data(), static_cast<int>(events.size()),
                                 to_milliseconds(deadline));
  if (count < 0 && errno != EINTR) throw SystemError("epoll_wait", "", errno);
  std::vector<std::uint64_t> keys;
  keys.reserve(events.size());
  for (int i = 0; i < count; ++i) {
    // A copy, as the struct is packed and a reference into it may not be aligned.
    const std::uint64_t key = events[static_cast<std::size_t>(i)].data.u64;
    keys.push_back(key);
  }
  return keys;
}

namespace {

bool wait_for(int fd, short events, Deadline deadline) {
  for (;;) {
    pollfd poll{.fd = fd, .events = events, .revents = 0};
    const int rc = ::poll(&poll, 1, to_milliseconds(deadline));
    if (rc > 0) return true;
    if (rc == 0 && deadline.passed()) return false;
    if (rc < 0 && errno != EINTR) throw SystemError("poll", "", errno);
  }
}

}  // namespace

bool wait_readable(int fd, Deadline deadline) { return wait_for(fd, POLLIN, deadline); }
bool wait_writable(int fd, Deadline deadline) { return wait_for(fd, POLLOUT, deadline); }

std::vector<bool> wait_readable(std::span<const int> fds, Deadline deadline) {
  std::vector<pollfd> polls;
  polls.reserve(fds.size());
  for (const int fd : fds) {
    // NOTE: poll() itself passes over negative numbers.
    if (fd < 0) throw SystemError("poll", fmt::format("descriptor {}", fd), EBADF);
    polls.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  }
  std::vector<bool> ready(fds.size());
  for (;;) {
    const int rc = ::poll(polls.data(), polls.size(), to_milliseconds(deadline));
    if (rc < 0 && errno != EINTR) throw SystemError("poll", "", errno);
    if (rc > 0) break;
    if (deadline.passed()) return ready;
  }
  for (std::size_t i = 0; i < polls.size(); ++i) {
    if ((polls[i].revents & POLLNVAL) != 0) {
      throw SystemError("poll", fmt::format("descriptor {}", polls[i].fd), EBADF);
    }
    ready[i] = polls[i].revents != 0;
  }
  return ready;
}

}  // namespace brood::detail
