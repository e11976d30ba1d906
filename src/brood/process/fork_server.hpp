#pragma once

#include <cstdint>
#include <map>

#include <brood/platform/poller.hpp>
#include <brood/platform/socket.hpp>
#include <brood/process/watchdog.hpp>

namespace brood::detail {

class Family;

/// What members ask of the fork server, one message each. Descriptors come along:
/// start: the reply's socket, the working directory, then the standard streams that `streams` has
/// bits for; watch: the process's pidfd.
struct ServerRequest {
  enum class Kind : std::uint32_t { start, watch, quit };
  Kind kind;
  std::uint32_t tag;
  std::uint32_t streams;
};

/// The answer to `start`, with the child's pidfd if there is one.
struct ServerReply {
  std::int32_t pid;    // 0: it could not be forked
  std::int32_t error;  // errno then
};

/// The small single-threaded process that forks children for the family and watches over it.
///
/// Forked from the root before there are threads, heaps and descriptors to inherit, so its children
/// begin clean and cheaply. It reaps them, notes how they ended, announces every death, and kills
/// the family when the root dies. If it dies itself, the family goes on: see Family::sleep and
/// Family::restart_server.
class ForkServer {
 public:
  ForkServer(Family& family, Fd requests);
  /// Serves until it is told to quit or the root is gone; then no member is left.
  void run();

 private:
  void start_guardian();
  /// False when it shall quit.
  bool serve_requests();
  [[noreturn]] void become_child(Tag tag, std::uint32_t streams, Message& message,
                                 const Fd& reply_socket) noexcept;
  void start(Tag tag, std::uint32_t streams, Message& message);

  Family& family_;
  Fd requests_;
  Watchdog watchdog_;
  Tag guardian_;
};

}  // namespace brood::detail
