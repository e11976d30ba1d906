#include <brood/process/guardian.hpp>

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/process/family.hpp>
#include <brood/process/fork_server.hpp>
#include <brood/process/log_output.hpp>
#include <brood/process/watchdog.hpp>

namespace brood::detail {
namespace {

/// How often it tries to end a family without a root, when descriptors or memory are short.
constexpr int kTries = 1000;
constexpr auto kBetweenTries = std::chrono::milliseconds(1);
/// What a fork server that lives gets to write what the root had not passed on.
constexpr auto kServersTime = std::chrono::seconds(1);

/// Returns when the fork server or the root is gone.
void stand_by(Family& family, const GuardianPost& post) {
  const ProcessHandle process = ProcessHandle::try_open(post.server_pid);
  const ProcessHandle root =
      ProcessHandle::try_open(static_cast<int>(family.segment().header().root_pid));
  // Opened first, then asked: what is alive now was so when its descriptor was opened.
  if (!process.valid() || !root.valid() || !family.registry().alive(post.server) ||
      !family.registry().alive(family.root())) {
    return;
  }
  Poller poller;
  poller.add(process.descriptor(), 0);
  poller.add(root.descriptor(), 1);
  while (poller.wait(Deadline::never()).empty()) continue;
}

/// SUBTLE: at the root's end both act, and the fork server, which ends last, kills this process,
/// perhaps between a record's writing and its release: it would be written twice. So it is left to
/// the fork server while that lives; one that is stopped is not waited for for ever.
void await_end_of_server(Family& family, const GuardianPost& post) {
  const ProcessHandle process = ProcessHandle::try_open(post.server_pid);
  if (process.valid() && family.registry().alive(post.server)) {
    static_cast<void>(process.wait_ended(Deadline::after(kServersTime)));
  }
}

/// Marks this process as the one that watches, if that was the fork server. False when another fork
/// server has come meanwhile, executed by a member: it has, or will have, a guardian of its own.
bool follow(Family& family, const GuardianPost& post) {
  SegmentHeader& header = family.segment().header();
  std::uint32_t expected = post.server.bits();
  if (header.watchdog.compare_exchange_strong(expected, post.tag.bits())) {
    announce(header);
    return true;
  }
  return expected == post.tag.bits();
}

/// Takes the dead fork server's place, and the socket. Returns when it cannot; then that is closed,
/// so that members do not wait for who does not serve them; or in the next guardian.
std::optional<GuardianPost> become_server(Family& family, GuardianPost& post) {
  std::optional<ForkServer> next;
  try {
    next.emplace(family, std::move(post.requests), true);
  } catch (const Error& e) {
    static_cast<void>(e);  // descriptors or memory are short; it can watch, perhaps
    return std::nullopt;
  }
  if (!follow(family, post)) return std::nullopt;
  set_thread_name("brood-server");
  try {
    if (auto its_guardian = next->run()) return its_guardian;
  } catch (const Error& e) {
    static_cast<void>(e);
    exit_now(1);  // as a fork server does: the next guardian goes on
  }
  exit_now(0);
}

/// Watches until the family has ended.
void watch_family(Family& family, const GuardianPost& post) {
  Watchdog watchdog(family, true);
  if (!follow(family, post) && !watchdog.root_is_gone()) return;
  while (!watchdog.root_is_gone()) {
    for (const std::uint64_t key : watchdog.wait()) watchdog.handle(key);
  }
  watchdog.kill_family();
  if (!watchdog.root_is_gone()) return;
  await_end_of_server(family, post);
  LogOutput::write_what_is_left(family);
}

}  // namespace

GuardianPost run_guardian(Family& family, GuardianPost post) {
  set_thread_name("brood-guardian");
  try {
    // A root that is dead already, perhaps with the fork server, leaves its family to this process.
    if (family.become(post.tag)) {
      stand_by(family, post);
    } else if (family.self() != post.tag) {
      exit_now(0);
    }
  } catch (const Error& e) {
    static_cast<void>(e);
    if (family.registry().alive(post.server)) exit_now(1);  // it will make another guardian
  }
  if (family.registry().alive(family.root())) {
    if (auto next = become_server(family, post)) return std::move(*next);
  }
  post.requests.reset();
  for (int tries = 0; tries != kTries; ++tries) {
    try {
      watch_family(family, post);
      exit_now(0);
    } catch (const Error& e) {
      static_cast<void>(e);
      std::this_thread::sleep_for(kBetweenTries);
    }
  }
  exit_now(1);  // a family that nobody watches goes on; see Family::sleep
}

}  // namespace brood::detail
