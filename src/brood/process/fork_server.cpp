#include <brood/process/fork_server.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/program.hpp>
#include <brood/platform/terminal_signals.hpp>
#include <brood/platform/write_text.hpp>
#include <brood/process/child.hpp>
#include <brood/process/family.hpp>
#include <brood/process/log_output.hpp>

namespace brood::detail {
namespace {

constexpr std::uint64_t kRequestKey = ~std::uint64_t{0};
constexpr std::uint64_t kSpareKey = kRequestKey - 2;  // the one between is the watchdog's

}  // namespace

ForkServer::ForkServer(Family& family, Fd requests, bool follows)
    : family_(family), requests_(std::move(requests)), watchdog_(family, follows) {
  watchdog_.poller().add(requests_.get(), kRequestKey);
}

void ForkServer::start_guardian() {
  const Tag server = family_.self();
  const int server_pid = current_pid();
  const Tag tag = family_.registry().reserve(server, Role::watchdog, "guardian");
  try {
    const int pid = fork_process();
    if (pid == 0) {
      post_ = {
          .tag = tag, .server = server, .server_pid = server_pid, .requests = std::move(requests_)};
      return;
    }
    watchdog_.watch_child(tag, ProcessHandle::open_child(pid), pid);
    guardian_ = tag;
  } catch (const SystemError& e) {
    // NOTE: no process or descriptor is left for it. The family is watched all the same.
    static_cast<void>(e);
    family_.registry().free(tag);
    guardian_ = Tag();
  }
}

std::optional<GuardianPost> ForkServer::run() {
  watchdog_.end_others();
  warm_up();
  start_guardian();
  try {
    if (!post_) serve();
  } catch (const Error& e) {
    // A connection that breaks is a part of the root's end, and may be seen before it.
    static_cast<void>(e);
    if (family_.registry().alive(family_.root())) throw;
  }
  if (post_) return std::move(post_);
  drop_spare();
  watchdog_.kill_family();
  if (watchdog_.root_is_gone()) LogOutput::write_what_is_left(family_);
  return std::nullopt;
}

void ForkServer::serve() {
  bool quit = false;
  while (!quit && !watchdog_.root_is_gone()) {
    for (const std::uint64_t key : watchdog_.wait()) {
      if (key == kRequestKey) {
        quit = !serve_requests() || quit;
      } else if (key == kSpareKey) {
        drop_spare();  // somebody killed it
        make_spare();
      } else {
        watchdog_.handle(key);
        if (key == guardian_.bits()) {
          family_.registry().free(guardian_);
          start_guardian();
          if (post_) return;
        }
      }
    }
  }
}

bool ForkServer::serve_requests() {
  for (;;) {
    ServerRequest request{};
    Message message = receive_message(requests_, std::as_writable_bytes(std::span(&request, 1)));
    if (message.end) {
      watchdog_.poller().remove(requests_.get());
      return true;
    }
    if (message.size == 0) return true;
    if (message.size != sizeof request) continue;  // not from a member: nothing to answer
    switch (request.kind) {
      case ServerRequest::Kind::start:
        if (!message.descriptors.empty()) start(request, message);
        break;
      case ServerRequest::Kind::watch:
        if (message.descriptors.size() == 1) {
          watchdog_.watch(Tag::from_bits(request.tag),
                          ProcessHandle(std::move(message.descriptors[0])));
        }
        break;
      case ServerRequest::Kind::quit:
        return false;
    }
  }
}

// The child: waits for what it shall be, and becomes that.
void ForkServer::await_role(Fd channel) noexcept {
  // NOTE: noexcept: an exception that left this function would make the child a second server.
  requests_.reset();
  watchdog_.abandon();
  set_thread_name("brood-spare");
  wait_readable(channel.get(), Deadline::never());
  ServerRequest request{};
  Message message = receive_message(channel, std::as_writable_bytes(std::span(&request, 1)));
  if (message.end || message.size != sizeof request) exit_now(0);
  channel.reset();
  restore_terminal_signals();
  if (message.descriptors.size() + 1 != request.expected()) {
    // The server, which has more open, had room for them.
    write_text(2, "brood: a child had no room for the descriptors that it was to get\n");
    exit_now(1);
  }
  // Where a standard stream is closed, what came may have its number.
  for (Fd& descriptor : message.descriptors) descriptor = move_high(std::move(descriptor));
  std::array<int, 3> numbers{-1, -1, -1};
  std::size_t next = 1;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if ((request.streams & 1U << i) != 0 && next < message.descriptors.size()) {
      numbers[i] = message.descriptors[next++].get();
    }
  }
  set_standard_streams(numbers);
  change_directory(message.descriptors[0]);
  const auto of_arguments = message.descriptors.begin() + static_cast<std::ptrdiff_t>(next);
  std::vector<Fd> descriptors(std::make_move_iterator(of_arguments),
                              std::make_move_iterator(message.descriptors.end()));
  message.descriptors.clear();
  run_child(family_, Tag::from_bits(request.tag), StartMethod::forkserver, std::move(descriptors));
}

ForkServer::Spare ForkServer::fork_child(std::vector<Fd>& held) {
  auto [mine, theirs] = socket_pair();
  const int pid = fork_process();
  if (pid == 0) {
    mine.reset();
    held.clear();
    await_role(std::move(theirs));
  }
  return {.process = ProcessHandle::open_child(pid), .pid = pid, .channel = std::move(mine)};
}

void ForkServer::make_spare() noexcept {
  try {
    std::vector<Fd> nothing;
    spare_ = fork_child(nothing);
    watchdog_.poller().add(spare_.process.descriptor(), kSpareKey);
  } catch (const SystemError& e) {
    static_cast<void>(e);  // then the next start forks, and reports errors
    drop_spare();
  }
}

void ForkServer::drop_spare() noexcept {
  if (!spare_.process.valid()) return;
  watchdog_.poller().remove(spare_.process.descriptor());
  spare_.channel.reset();  // at which it exits
  try {
    ExitCode code = 0;
    static_cast<void>(spare_.process.wait_ended(Deadline::never()));
    spare_.process.reap(code);
  } catch (const SystemError& e) {
    static_cast<void>(e);
  }
  spare_ = Spare();
}

void ForkServer::start(const ServerRequest& request, Message& message) {
  std::vector<int> descriptors;
  for (std::size_t i = 1; i < message.descriptors.size(); ++i) {
    descriptors.push_back(message.descriptors[i].get());
  }
  const auto tell = [&](const Spare& spare) {
    return send_message(spare.channel, std::as_bytes(std::span(&request, 1)), descriptors);
  };
  ServerReply reply{};
  std::array<int, 1> handle{-1};
  try {
    if (message.descriptors.size() != request.expected()) {
      throw SystemError("recvmsg", "the descriptors of a request", EMFILE);
    }
    if (!spare_.process.valid() || !tell(spare_)) {
      drop_spare();
      spare_ = fork_child(message.descriptors);
      tell(spare_);  // if that one is killed right now, its end is noted as any member's
    }
    Spare used = std::exchange(spare_, Spare());
    watchdog_.poller().remove(used.process.descriptor());
    handle[0] = used.process.descriptor();  // which stays open: it is the watchdog's from now on
    watchdog_.watch_child(Tag::from_bits(request.tag), std::move(used.process), used.pid);
    reply.pid = used.pid;
  } catch (const SystemError& e) {
    reply.error = e.code().value();
  }
  send_message(message.descriptors[0], std::as_bytes(std::span(&reply, 1)),
               reply.pid != 0 ? std::span<const int>(handle) : std::span<const int>());
  message.descriptors.clear();
  if (!spare_.process.valid()) make_spare();
}

void serve_family(Family& family, Fd requests, bool follows) {
  std::optional<GuardianPost> first = ForkServer(family, std::move(requests), follows).run();
  if (!first) return;
  for (GuardianPost post = std::move(*first);;) post = run_guardian(family, std::move(post));
}

}  // namespace brood::detail
