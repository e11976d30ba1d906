#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <brood/platform/poller.hpp>
#include <brood/platform/socket.hpp>
#include <brood/process/guardian.hpp>
#include <brood/process/watchdog.hpp>

namespace brood::detail {

class Family;

/// What members ask of the fork server, one message each. Descriptors come along:
/// start: the reply's socket, the working directory, then the standard streams that `streams` has
/// bits for, then the `descriptors` of the child's arguments; watch: the process's pidfd.
struct ServerRequest {
  enum class Kind : std::uint32_t { start, watch, quit };
  Kind kind;
  std::uint32_t tag;
  std::uint32_t streams;
  std::uint32_t descriptors;

  /// How many descriptors come along with `start`.
  [[nodiscard]] std::size_t expected() const {
    return 2 + static_cast<std::size_t>(std::popcount(streams)) + descriptors;
  }
};

/// The answer to `start`, with the child's pidfd if there is one.
struct ServerReply {
  std::int32_t pid;    // 0: it could not be forked
  std::int32_t error;  // errno then
};

/// The small single-threaded process that forks children for the family and watches over it.
///
/// Forked from the root before there are threads, heaps and descriptors to inherit, so its children
/// begin clean and cheaply. One child is always forked in advance and waits to be told what it is,
/// so that a start does not wait for fork. It reaps them, notes how they ended, announces every
/// death, and kills the family when the root dies. If it dies itself, its guardian takes its place,
/// and the socket that all members send their requests to stays what it is. If both die, the family
/// goes on: see Family::restart_server.
class ForkServer {
 public:
  /// `follows`: see Watchdog.
  ForkServer(Family& family, Fd requests, bool follows);
  /// Serves until it is told to quit or the root is gone; then no member is left. Returns a post in
  /// the guardian that it has forked: see run_guardian().
  std::optional<GuardianPost> run();

 private:
  void start_guardian();
  /// Returns when it shall quit or the root is gone, and in a guardian.
  void serve();
  /// False when it shall quit.
  bool serve_requests();
  /// A child that has been forked and not told yet what it is.
  struct Spare {
    ProcessHandle process;
    int pid = 0;
    Fd channel;  // a ServerRequest comes through it; its end is the spare's end
  };
  /// `held`: what the child shall not have copies of.
  Spare fork_child(std::vector<Fd>& held);
  void make_spare() noexcept;
  void drop_spare() noexcept;
  [[noreturn]] void await_role(Fd channel) noexcept;
  void start(const ServerRequest& request, Message& message);

  Family& family_;
  Fd requests_;
  Watchdog watchdog_;
  Tag guardian_;
  std::optional<GuardianPost> post_;  // this process is the guardian
  Spare spare_;
};

/// A fork server, and whoever follows it, in this process and in its forks: until the family ends.
/// Throws Error when the first one cannot be.
void serve_family(Family& family, Fd requests, bool follows);

}  // namespace brood::detail
