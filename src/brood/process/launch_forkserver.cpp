#include <array>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include <brood/channel/descriptor_box.hpp>
#include <brood/errors.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/program.hpp>
#include <brood/platform/socket.hpp>
#include <brood/process/family.hpp>
#include <brood/process/fork_server.hpp>
#include <brood/process/launch.hpp>

namespace brood::detail {
namespace {

// With what else goes along: the reply's socket, the directory and the streams.
static_assert(DescriptorOutbox::kMost + 5 <= kMaxMessageFds);

/// Sends the request. False when there is no server.
bool request_start(const Fd* server, Tag tag, const Fd& reply_end,
                   std::span<const int> of_arguments) {
  if (server == nullptr) return false;
  const Fd directory = open_working_directory();
  std::vector<int> descriptors{reply_end.get(), directory.get()};
  ServerRequest request{.kind = ServerRequest::Kind::start,
                        .tag = tag.bits(),
                        .streams = 0,
                        .descriptors = static_cast<std::uint32_t>(of_arguments.size())};
  for (const int stream : open_standard_streams()) {
    if (stream < 0) continue;
    request.streams |= 1U << static_cast<unsigned>(stream);
    descriptors.push_back(stream);
  }
  descriptors.insert(descriptors.end(), of_arguments.begin(), of_arguments.end());
  return send_message(*server, std::as_bytes(std::span(&request, 1)), descriptors);
}

/// Waits for the answer. False when the server died before it gave one.
bool await_reply(const Fd& socket, ServerReply& reply, Fd& process) {
  wait_readable(socket.get(), Deadline::never());
  Message message = receive_message(socket, std::as_writable_bytes(std::span(&reply, 1)));
  if (message.end || message.size != sizeof reply) return false;
  if (!message.descriptors.empty()) process = std::move(message.descriptors[0]);
  return true;
}

/// After a second attempt: the child that joined may be the one of the first.
void find_winner(Family& family, Tag tag, Launched& launched) {
  const Record& record = family.registry().record(tag);
  for (;;) {
    const Family::Glance glance = family.look();
    const std::array<FutexWord, 1> words{FutexWord{&record.event, record.event.load()}};
    if (family.registry().state(tag) != RecordState::reserved) break;
    family.sleep(glance, words, Deadline::never());
  }
  const int pid = record.pid.load();
  if (pid == launched.pid) return;
  launched.pid = pid;
  launched.process = family.registry().open(tag);
  if (launched.process.valid()) return;
  // It has ended already, and its parent, which would have said how, is gone.
  const std::int32_t said = record.own_code.load();
  family.registry().note_ended(tag, said == Record::kNoCode ? kUnknownExitCode : said);
  announce(family.segment().header());
  launched.process = ProcessHandle::of_ended();
}

}  // namespace

Launched launch_by_forkserver(Family& family, Tag tag, std::span<const int> descriptors) {
  if (!family.has_runtime()) {
    throw StartError(add_runtime_hint(
        "forkserver starts copies of the program as it was at its beginning, and only a Runtime is "
        "there that early"));
  }
  // A server that died is followed by its guardian, and when both did, by one that is executed; one
  // that dies again and again has a reason.
  constexpr int kAttempts = 4;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::shared_ptr<const Fd> server = family.server_socket();
    auto [mine, theirs] = socket_pair();
    if (!request_start(server.get(), tag, theirs, descriptors)) {
      family.restart_server(server);
      continue;
    }
    theirs.reset();
    ServerReply reply{};
    Fd process;
    if (!await_reply(mine, reply, process)) {
      // SUBTLE: it may have forked the child before it died. Then that child and the one of the
      // next attempt both try to join as `tag`, and one of them wins; the other exits unseen.
      // While its guardian follows, or a child that it had just forked has the other end, too, the
      // next request goes the same way.
      if (!is_connected(*server)) family.restart_server(server);
      continue;
    }
    if (reply.pid == 0) {
      throw StartError(
          fmt::format("the fork server could not fork: {}; is a limit on processes "
                      "(ulimit -u), descriptors (ulimit -n) or memory reached?",
                      std::strerror(reply.error)));
    }
    Launched launched{
        .process = ProcessHandle(std::move(process)), .pid = reply.pid, .own_child = false};
    if (attempt > 0) find_winner(family, tag, launched);
    return launched;
  }
  if (!family.registry().withdraw(tag)) {
    Launched launched;
    find_winner(family, tag, launched);  // one of the attempts was successful
    return launched;
  }
  throw StartError(
      fmt::format("the fork server died {} times while it should start a process", kAttempts));
}

}  // namespace brood::detail
