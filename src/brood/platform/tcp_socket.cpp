#include <brood/platform/tcp_socket.hpp>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <memory>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/system_error.hpp>

namespace brood::detail {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

std::string describe(const Endpoint& endpoint) {
  return fmt::format("host={}, port={}", endpoint.host, endpoint.port);
}

Addresses look_up(const Endpoint& endpoint, int flags) {
  if (endpoint.host.empty() || endpoint.host.find('\0') != std::string::npos) {
    throw ArgumentError(
        "the host of an address is empty, or has a NUL in it: 127.0.0.1 and ::1 are this machine");
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const std::string port = std::to_string(endpoint.port);
  const int rc = ::getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &list);
  if (rc == 0) return Addresses(list);
  throw SystemError("getaddrinfo", fmt::format("{}: {}", describe(endpoint), ::gai_strerror(rc)),
                    rc == EAI_SYSTEM ? errno : EHOSTUNREACH);
}

void set_option(int socket, int level, int option, int value, const char* name) {
  check(::setsockopt(socket, level, option, &value, sizeof value), "setsockopt", "{}", name);
}

/// 0, or what went wrong.
int connect_one(int socket, const addrinfo& to, Deadline deadline) {
  if (::connect(socket, to.ai_addr, to.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS && errno != EINTR) return errno;
  if (!wait_writable(socket, deadline)) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  check(::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size), "getsockopt", "SO_ERROR");
  return error;
}

Endpoint numbers(const sockaddr_storage& address, socklen_t size) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  const int rc =
      ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host.data(), host.size(),
                    service.data(), service.size(), NI_NUMERICHOST | NI_NUMERICSERV);
  if (rc != 0) throw SystemError("getnameinfo", ::gai_strerror(rc), EINVAL);
  Endpoint endpoint{.host = host.data()};
  const std::string_view digits(service.data());
  std::from_chars(digits.data(), digits.data() + digits.size(), endpoint.port);
  return endpoint;
}

}  // namespace

Fd listen_tcp(const Endpoint& at, int backlog) {
  const Addresses list = look_up(at, AI_PASSIVE);
  int error = EADDRNOTAVAIL;
  for (const addrinfo* one = list.get(); one != nullptr; one = one->ai_next) {
    Fd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid()) {
      error = errno;
      continue;
    }
    // So that a port can be used again at once; two that listen exclude each other all the same.
    set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    if (::bind(socket.get(), one->ai_addr, one->ai_addrlen) == 0 &&
        ::listen(socket.get(), backlog) == 0) {
      return socket;
    }
    error = errno;
  }
  throw SystemError("bind", describe(at), error);
}

Fd connect_tcp(const Endpoint& to, Deadline deadline) {
  const Addresses list = look_up(to, 0);
  int error = EADDRNOTAVAIL;
  for (const addrinfo* one = list.get(); one != nullptr; one = one->ai_next) {
    Fd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    error = socket.valid() ? connect_one(socket.get(), *one, deadline) : errno;
    if (error == 0) return socket;
    if (error == ETIMEDOUT && deadline.passed()) {
      throw TimeoutError(fmt::format("{}: nobody answered in time", describe(to)));
    }
  }
  throw SystemError("connect", describe(to), error);
}

void set_tcp_manners(int socket) {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 30, "TCP_KEEPIDLE");
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 10, "TCP_KEEPINTVL");
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 3, "TCP_KEEPCNT");
  set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, 60'000, "TCP_USER_TIMEOUT");
}

Endpoint local_endpoint(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  check(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  return numbers(address, size);
}

Endpoint remote_endpoint(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  check(::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size), "getpeername");
  return numbers(address, size);
}

}  // namespace brood::detail
