// Peers that are none of Brood's: sockets that say what a test wants, and a relay that does to the
// bytes between two others what networks and attackers do.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <brood/address.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/poller.hpp>

namespace brood::testing {

/// Connected to a TCP or abstract address, or null when nobody lets it.
inline detail::Fd raw_connect(const Address& to, int type = SOCK_STREAM) {
  sockaddr_storage address{};
  socklen_t size = 0;
  if (to.kind == Address::Kind::tcp) {
    auto& in = reinterpret_cast<sockaddr_in&>(address);
    in.sin_family = AF_INET;
    in.sin_port = htons(to.port);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size = sizeof in;
  } else {
    auto& un = reinterpret_cast<sockaddr_un&>(address);
    un.sun_family = AF_UNIX;
    const std::size_t skip = to.kind == Address::Kind::abstract ? 1 : 0;
    std::memcpy(un.sun_path + skip, to.name.data(), to.name.size());
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + skip + to.name.size() +
                                  (skip == 0 ? 1 : 0));
  }
  detail::Fd fd(::socket(address.ss_family, type | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) fd.reset();
  return fd;
}

inline void raw_send(const detail::Fd& to, std::string_view text) {
  static_cast<void>(::send(to.get(), text.data(), text.size(), MSG_NOSIGNAL));
}

/// Waits until the other end is gone, dropping what it says.
[[nodiscard]] inline bool sees_end(const detail::Fd& of) {
  std::array<char, 4096> buffer{};
  while (detail::wait_readable(of.get(), detail::Deadline::after(std::chrono::seconds(20)))) {
    if (::recv(of.get(), buffer.data(), buffer.size(), 0) <= 0) return true;
  }
  return false;
}

/// Listens at a free TCP port and talks to one client, in a thread, as `talk` says.
class RawServer {
 public:
  explicit RawServer(std::function<void(const detail::Fd&)> talk)
      : listening_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof in;
    auto* const address = reinterpret_cast<sockaddr*>(&in);
    if (::bind(listening_.get(), address, size) != 0 || ::listen(listening_.get(), 8) != 0 ||
        ::getsockname(listening_.get(), address, &size) != 0) {
      throw std::runtime_error("RawServer");
    }
    address_ = Address::tcp("127.0.0.1", ntohs(in.sin_port));
    thread_ = std::thread([this, talk = std::move(talk)] {
      const detail::Fd client(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client.valid()) talk(client);
    });
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;
  ~RawServer() {
    ::shutdown(listening_.get(), SHUT_RDWR);
    thread_.join();
  }
  [[nodiscard]] const Address& address() const { return address_; }

 private:
  detail::Fd listening_;
  Address address_;
  std::thread thread_;
};

/// What a Relay does to the bytes from the client to the server, byte by byte.
struct RelayTricks {
  std::size_t cut_after = SIZE_MAX;  ///< closes both ends when so many have passed
  std::size_t change_at = SIZE_MAX;  ///< changes that byte
  bool one_at_a_time = false;        ///< each in a packet of its own
};

/// Between one client and a TCP server.
class Relay {
 public:
  Relay(const Address& server, RelayTricks tricks)
      : server_([this, server, tricks](const detail::Fd& client) { run(client, server, tricks); }) {
  }
  [[nodiscard]] const Address& address() const { return server_.address(); }
  /// How many bytes have passed from the client to the server.
  [[nodiscard]] std::size_t passed() const { return passed_; }

 private:
  void run(const detail::Fd& client, const Address& to, const RelayTricks& tricks) {
    const detail::Fd server = raw_connect(to);
    std::array<char, 65536> buffer{};
    for (;;) {
      const std::array<int, 2> both{client.get(), server.get()};
      const auto ready =
          detail::wait_readable(both, detail::Deadline::after(std::chrono::seconds(20)));
      if (ready[1]) {
        const ssize_t got = ::recv(server.get(), buffer.data(), buffer.size(), 0);
        if (got <= 0) return;
        raw_send(client, {buffer.data(), static_cast<std::size_t>(got)});
      }
      if (!ready[0]) {
        if (!ready[1]) return;
        continue;
      }
      const ssize_t got = ::recv(client.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) return;
      const std::size_t before = passed_;
      const auto count = std::min(static_cast<std::size_t>(got), tricks.cut_after - before);
      if (tricks.change_at >= before && tricks.change_at < before + count) {
        buffer[tricks.change_at - before] ^= 1;
      }
      passed_ = before + count;  // first: whoever sees what they lead to may ask for the number
      const std::size_t step = tricks.one_at_a_time ? 1 : count;
      for (std::size_t at = 0; at < count; at += step) {
        raw_send(server, {buffer.data() + at, step});
        if (tricks.one_at_a_time) std::this_thread::yield();
      }
      if (passed_ == tricks.cut_after) return;
    }
  }

  std::atomic<std::size_t> passed_ = 0;
  RawServer server_;  // last: its thread uses the rest
};

}  // namespace brood::testing
