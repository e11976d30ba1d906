#include <brood/process/fork_server.hpp>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <brood/errors.hpp>
#include <brood/platform/program.hpp>
#include <brood/process/child.hpp>
#include <brood/process/family.hpp>
#include <brood/process/guardian.hpp>

namespace brood::detail {
namespace {

constexpr std::uint64_t kRequestKey = ~std::uint64_t{0};

}  // namespace

ForkServer::ForkServer(Family& family, Fd requests)
    : family_(family), requests_(std::move(requests)), watchdog_(family) {
  watchdog_.poller().add(requests_.get(), kRequestKey);
}

void ForkServer::start_guardian() {
  const Tag server = family_.self();
  const int server_pid = current_pid();
  const Tag tag = family_.registry().reserve(server, Role::watchdog, "guardian");
  const int pid = fork_process();
  if (pid == 0) {
    requests_.reset();
    watchdog_.abandon();
    run_guardian(family_, tag, server, server_pid);
  }
  watchdog_.watch(tag, ProcessHandle::open(pid), true);
  guardian_ = tag;
}

void ForkServer::run() {
  watchdog_.end_others();
  warm_up();
  start_guardian();
  bool quit = false;
  while (!quit && !watchdog_.root_is_gone()) {
    for (const std::uint64_t key : watchdog_.wait()) {
      if (key == kRequestKey) {
        quit = !serve_requests() || quit;
      } else {
        watchdog_.handle(key);
        if (key == guardian_.bits()) {
          family_.registry().free(guardian_);
          start_guardian();
        }
      }
    }
  }
  watchdog_.kill_family();
}

bool ForkServer::serve_requests() {
  for (;;) {
    ServerRequest request{};
    Message message =
        receive_message(requests_, std::as_writable_bytes(std::span(&request, 1)));
    if (message.end) {
      watchdog_.poller().remove(requests_.get());
      return true;
    }
    if (message.size == 0) return true;
    if (message.size != sizeof request) continue;  // not from a member: nothing to answer
    const Tag tag = Tag::from_bits(request.tag);
    switch (request.kind) {
      case ServerRequest::Kind::start:
        if (message.descriptors.size() >= 2) start(tag, request.streams, message);
        break;
      case ServerRequest::Kind::watch:
        if (message.descriptors.size() == 1) {
          watchdog_.watch(tag, ProcessHandle(std::move(message.descriptors[0])), false);
        }
        break;
      case ServerRequest::Kind::quit:
        return false;
    }
  }
}

void ForkServer::become_child(Tag tag, std::uint32_t streams, Message& message,
                              const Fd& reply_socket) noexcept {
  // NOTE: noexcept: an exception that left this function would make the child a second server.
  requests_.reset();
  watchdog_.abandon();
  restore_terminal_signals();
  std::array<int, 3> numbers{-1, -1, -1};
  std::size_t next = 2;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if ((streams & 1U << i) != 0 && next < message.descriptors.size()) {
      numbers[i] = message.descriptors[next++].get();
    }
  }
  set_standard_streams(numbers);
  change_directory(message.descriptors[1]);
  message.descriptors.clear();
  close_fd(reply_socket.get());
  run_child(family_, tag, StartMethod::forkserver);
}

void ForkServer::start(Tag tag, std::uint32_t streams, Message& message) {
  const Fd reply_socket = std::move(message.descriptors[0]);
  ServerReply reply{};
  Fd child;
  try {
    const int pid = fork_process();
    if (pid == 0) become_child(tag, streams, message, reply_socket);
    ProcessHandle process = ProcessHandle::open(pid);
    child = duplicate(process.descriptor());
    reply.pid = pid;
    watchdog_.watch(tag, std::move(process), true);
  } catch (const SystemError& e) {
    reply.error = e.code().value();
  }
  const std::array<int, 1> descriptors{child.get()};
  send_message(reply_socket, std::as_bytes(std::span(&reply, 1)),
               child.valid() ? std::span<const int>(descriptors) : std::span<const int>());
}

}  // namespace brood::detail
