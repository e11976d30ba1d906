// Work that waits instead of computing: pages fetched over HTTP by more processes than there are
// CPUs, from a small and slow server which is a process itself.
#include <brood/brood.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

constexpr const char* kAnswer = "HTTP/1.0 200 OK\r\n\r\nhello";

sockaddr_in local(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// Answers everybody after a while.
void serve(brood::Queue<int> port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = local(0);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, any, size) != 0 || ::listen(listener, 64) != 0) return port.close();
  ::getsockname(listener, any, &size);
  port.put(ntohs(address.sin_port));
  for (;;) {
    const int client = ::accept(listener, nullptr, nullptr);
    std::thread([client] {
      char request[1024];
      if (::read(client, request, sizeof request) > 0) {
        std::this_thread::sleep_for(20ms);
        ::send(client, kAnswer, std::char_traits<char>::length(kAnswer), MSG_NOSIGNAL);
      }
      ::close(client);
    }).detach();
  }
}

// [fetch]
std::size_t fetch(int port, int page) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto close = [](const int* open) { ::close(*open); };
  const std::unique_ptr<const int, decltype(close)> closer(&fd, close);
  const sockaddr_in address = local(port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("no server");
  }
  const std::string request = "GET /" + std::to_string(page) + " HTTP/1.0\r\n\r\n";
  ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  std::size_t bytes = 0;
  char buffer[1024];
  for (ssize_t got = 0; (got = ::read(fd, buffer, sizeof buffer)) > 0;) {
    bytes += static_cast<std::size_t>(got);
  }
  return bytes;
}
// [/fetch]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  brood::Queue<int> port_queue;
  brood::Process server({.name = "server", .daemon = true}, serve, port_queue);
  server.start();
  const int port = port_queue.get();

  const auto start = std::chrono::steady_clock::now();
  // [workers]
  brood::Pool pool({.workers = 16});  // they wait most of the time
  const auto sizes =
      pool.with({.chunk = 1, .retries = 2}).map(brood::bind(fetch, port), std::views::iota(0, 64));
  // [/workers]
  const auto time = std::chrono::steady_clock::now() - start;
  std::printf("%zu pages, %zu bytes, %s\n", sizes.size(),
              std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}),
              time < 64 * 20ms ? "faster than one after the other" : "not faster");
}
