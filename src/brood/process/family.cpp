#include <brood/process/family.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/descriptor_box.hpp>
#include <brood/errors.hpp>
#include <brood/platform/fork_local_fd.hpp>
#include <brood/platform/packet_socket.hpp>
#include <brood/platform/program.hpp>
#include <brood/platform/socket.hpp>
#include <brood/platform/terminal_signals.hpp>
#include <brood/platform/write_text.hpp>
#include <brood/process/child.hpp>
#include <brood/process/fork_server.hpp>
#include <brood/process/log_output.hpp>
#include <brood/process/watchdog.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// How a program that was executed again learns what it is, "child TAG COUNT" or "server TAG
/// COUNT", and how many descriptors come behind those of the family: a child's are its arguments',
/// a server's is its end.
constexpr const char* kEnvironmentName = "BROOD_FAMILY";
constexpr int kMemoryFd = kFirstPassedFd;
constexpr int kClientFd = kFirstPassedFd + 1;
constexpr int kFirstOwnFd = kFirstPassedFd + 2;
constexpr std::string_view kServerRole = "server";

/// This process was executed to be a member, and no Runtime has taken over yet.
bool& expects_runtime() {
  static bool expects = environment_variable(kEnvironmentName).has_value();
  return expects;
}

[[noreturn]] void fail_without_runtime() {
  write_text(2, add_runtime_hint("this process was executed to be a child, but its main did not "
                                 "hand it over") +
                    "\n");
  exit_now(1);
}

// Set up before main: a child that leaves main without having met a Runtime says so.
[[maybe_unused]] const bool kWatchesMain = [] {
  if (expects_runtime()) {
    std::atexit([] {
      if (expects_runtime()) fail_without_runtime();
    });
  }
  return true;
}();

}  // namespace

std::string add_runtime_hint(const std::string& what) {
  return fmt::format(
      "brood: {}: add `brood::Runtime runtime(argc, argv);` as the first line of main", what);
}

Family::Family(Segment segment, bool has_runtime, std::vector<std::string> arguments)
    : Member(std::move(segment)), has_runtime_(has_runtime), arguments_(std::move(arguments)) {
  LogOutput::family_begins(*this);
}

Family::~Family() { LogOutput::mine().family_ends(*this); }

// Every member is a Family: the constructor of no other is ever called.
std::shared_ptr<Family> Family::current() noexcept {
  return std::static_pointer_cast<Family>(Member::current());
}

std::shared_ptr<Member> Member::require() { return Family::require(); }

std::shared_ptr<Family> Family::require() {
  static std::mutex mutex;
  const std::scoped_lock guard(mutex);
  if (expects_runtime()) fail_without_runtime();
  if (std::shared_ptr<Family> family = current()) return family;
  if (thread_count() > 1) {
    throw StateError(add_runtime_hint(
        "there is no Runtime, and without one processes can be forked only while no other thread "
        "runs"));
  }
  std::shared_ptr<Family> family = found(false, {});
  // Nobody's destructor will end this family: exit does.
  std::atexit([] {
    if (const std::shared_ptr<Family> last = current(); last && last->is_root()) last->shut_down();
  });
  return family;
}

std::shared_ptr<Family> Family::found(bool has_runtime, std::vector<std::string> arguments) {
  if (the_member()) {
    throw StateError(
        "there is a family in this process already: construct one Runtime, before anything else of "
        "Brood is used");
  }
  std::shared_ptr<Family> family(new Family(Segment::create(), has_runtime, std::move(arguments)));
  const Tag tag = family->registry().reserve(Tag(), Role::root, "main");
  if (!family->join_as(tag)) throw StateError("the family's root was taken");
  family->segment().header().root.store(tag.bits());
  // Forking a process in which threads run would copy locks that nobody will ever release; then
  // the server comes by execution, when it is first needed.
  the_member() = family;  // before the fork: the server's children have it too
  try {
    if (thread_count() == 1) family->fork_server();
  } catch (...) {
    the_member().reset();
    throw;
  }
  return family;
}

void Family::fork_server() {
  auto [client, server] = socket_pair();
  client = move_high(std::move(client));
  server = move_high(std::move(server));
  const Tag tag = registry().reserve(self(), Role::watchdog, "forkserver");
  flush_standard_streams();  // or the children would write what is buffered once more
  server_environment_ = environment();
  std::optional<TerminalSignalsWait> until_ignored(std::in_place);
  const int pid = fork_process();
  if (pid == 0) {
    ignore_terminal_signals();
    until_ignored.reset();
    abandon_fork_local_fds({});
    server_ = std::make_shared<const Fd>(std::move(client));
    serve(std::move(server), tag);
  }
  registry().record(tag).pid.store(pid);  // for will_be_watched()
  server_process_ = ProcessHandle::open_child(pid);
  server_ = std::make_shared<const Fd>(std::move(client));
  segment().header().watchdog.store(tag.bits());
}

void Family::serve(Fd requests, Tag tag) {
  set_thread_name("brood-server");
  int code = 1;
  try {
    if (become(tag)) {
      const std::uint32_t before = segment().header().watchdog.exchange(tag.bits());
      serve_family(*this, std::move(requests), before != 0 && before != tag.bits());
      code = 0;
    } else if (self() == tag) {
      // It was so late that the root is dead already: nobody else will end the others.
      Watchdog(*this).kill_family();
      LogOutput::write_what_is_left(*this);
    }
  } catch (const std::exception& e) {
    // NOTE: the family goes on without it; who needs it next starts another and reports errors.
    static_cast<void>(e);
  }
  exit_now(code);
}

void Family::enter_if_executed(std::vector<std::string> arguments) {
  const std::optional<std::string> message = environment_variable(kEnvironmentName);
  if (!message) return;
  expects_runtime() = false;
  unset_environment_variable(kEnvironmentName);
  std::string role;
  std::uint32_t bits = 0;
  std::size_t count = 0;
  if (!(std::istringstream(*message) >> role >> bits >> count) || count > DescriptorOutbox::kMost) {
    throw DecodeError(fmt::format("{}={} is not what Brood sets", kEnvironmentName, *message));
  }
  const Tag tag = Tag::from_bits(bits);
  Fd memory = move_high(take_passed_descriptor(kMemoryFd));
  Fd client = move_high(take_passed_descriptor(kClientFd));
  std::shared_ptr<Family> family(
      new Family(Segment::attach(std::move(memory)), true, std::move(arguments)));
  // A family without a fork server has passed its memory in its place.
  if (is_packet_socket(client.get())) {
    family->server_ = std::make_shared<const Fd>(std::move(client));
  }
  the_member() = family;
  std::vector<Fd> own;
  for (std::size_t i = 0; i < count; ++i) {
    own.push_back(move_high(take_passed_descriptor(kFirstOwnFd + static_cast<int>(i))));
  }
  if (role == kServerRole && count == 1) {
    // NOTE: in a statement of its own: what a call's temporaries hold is open until it returns, and
    // serve() does not. The server and all its children would keep the server's end open.
    Fd requests = std::move(own[0]);
    ignore_terminal_signals();
    unblock_terminal_signals();
    family->serve(std::move(requests), tag);
  }
  run_child(*family, tag, StartMethod::spawn, std::move(own));
}

bool Family::become(Tag tag) {
  server_process_ = ProcessHandle();
  children_.clear();
  started_ = 0;
  if (!join_as(tag)) return false;
  // SUBTLE: joined first, then looked: either the watchdog, which looks at the records after the
  // root's death, finds this process, or this process finds that the root is dead.
  return registry().alive(root());
}

std::shared_ptr<const Fd> Family::server_socket() const {
  const std::scoped_lock guard(mutex_);
  return server_;
}

void Family::restart_server(const std::shared_ptr<const Fd>& failed) {
  const std::scoped_lock guard(mutex_);
  if (server_ != failed) return;  // another thread has done it
  if (!has_runtime_) {
    throw StartError(add_runtime_hint(
        "there is no fork server, and without a Runtime a new one cannot be started"));
  }
  auto [client, server] = socket_pair();
  client = move_high(std::move(client));
  const Tag tag = registry().reserve(self(), Role::watchdog, "forkserver");
  server_environment_ = environment();
  // The new server's children will send their requests to it.
  auto fresh = std::make_shared<const Fd>(std::move(client));
  int pid = 0;
  try {
    const std::array<int, 1> more{server.get()};
    pid = execute_member(kServerRole, tag, fresh.get(), more);
  } catch (const Error& e) {
    registry().free(tag);
    throw StartError(fmt::format("the fork server could not be started: {}", e.what()));
  }
  registry().record(tag).pid.store(pid);
  ExitCode code = 0;
  if (server_process_.valid()) server_process_.reap(code);
  server_process_ = ProcessHandle::open_child(pid);
  server_ = std::move(fresh);
}

// SUBTLE: that the socket is connected would not tell: a child that the server forked just before
// it died has the other end, until it has closed it.
bool Family::will_be_watched() {
  Registry& all = registry();
  if (all.alive(Tag::from_bits(segment().header().watchdog.load()))) return true;
  bool any = false;
  all.for_each([&](Tag tag, const RecordWord& word) {
    const Record& record = all.record(tag);
    if (record.role != static_cast<std::uint32_t>(Role::watchdog)) return;
    if (word.state != RecordState::reserved) {
      any = any || all.alive(tag);  // the guardian, which is about to take the place of the dead
      return;
    }
    // On its way, unless it has ended there.
    const int pid = record.pid.load();
    const ProcessHandle process = pid != 0 ? ProcessHandle::try_open(pid) : ProcessHandle();
    if (pid != 0 && (!process.valid() || process.wait_ended(Deadline::now()))) {
      all.withdraw(tag);
    } else {
      any = any || all.alive(word.holder);
    }
  });
  return any;
}

void Family::ensure_watched() noexcept {
  try {
    if (!will_be_watched()) restart_server(server_socket());
  } catch (const Error& e) {
    static_cast<void>(e);  // no Runtime, or no room for a process: as without a fork server
  }
}

int Family::execute_member(std::string_view role, Tag tag, const Fd* server,
                           std::span<const int> more) {
  const std::array<std::string, 1> extra{
      fmt::format("{}={} {} {}", kEnvironmentName, role, tag.bits(), more.size())};
  std::vector<int> descriptors{segment().file().get()};
  // NOTE: number by position: a family without a fork server passes its memory in its place.
  descriptors.push_back(server != nullptr ? server->get() : segment().file().get());
  descriptors.insert(descriptors.end(), more.begin(), more.end());
  // A server ignores them as soon as it knows that it is one.
  const auto signals = role == kServerRole ? TerminalSignals::wait : TerminalSignals::come;
  return execute_again(arguments_.empty() ? command_line() : arguments_, extra, descriptors,
                       signals);
}

void Family::ask_to_watch(Tag tag, const ProcessHandle& process) {
  const ServerRequest request{
      .kind = ServerRequest::Kind::watch, .tag = tag.bits(), .streams = 0, .descriptors = 0};
  const std::array<int, 1> descriptors{process.descriptor()};
  const auto tell = [&](const std::shared_ptr<const Fd>& server) {
    if (server) send_message(*server, std::as_bytes(std::span(&request, 1)), descriptors);
  };
  const std::shared_ptr<const Fd> server = server_socket();
  tell(server);
  // Whoever follows the one that was told looks for who is there.
  ensure_watched();
  if (server_socket() != server) tell(server_socket());
}

void Family::remember_child(Tag tag) {
  const std::scoped_lock guard(mutex_);
  children_.push_back(tag);
}

void Family::forget_child(Tag tag) {
  const std::scoped_lock guard(mutex_);
  std::erase(children_, tag);
}

std::vector<Tag> Family::children() const {
  const std::scoped_lock guard(mutex_);
  return children_;
}

std::string Family::next_name(const char* kind) {
  const std::scoped_lock guard(mutex_);
  ++started_;
  if (is_root()) return fmt::format("{}-{}", kind, started_);
  return fmt::format("{}:{}", registry().name(self()), started_);
}

// A guardian that took the watch over, or a fork server which another member started.
void Family::end_watchdogs() {
  registry().for_each([&](Tag tag, const RecordWord& word) {
    const Record& record = registry().record(tag);
    if (word.state != RecordState::live ||
        record.role != static_cast<std::uint32_t>(Role::watchdog)) {
      return;
    }
    const ProcessHandle process = registry().open(tag);
    if (!process.valid()) return;
    process.signal(9);
    static_cast<void>(process.wait_ended(Deadline::never()));
  });
}

// Those whose objects nobody destroyed. Daemons are not waited for: they end with the family.
void Family::join_children() {
  for (const Tag tag : children()) {
    if (registry().record(tag).dies_with_parent != 0) continue;
    for (;;) {
      const Glance glance = look();
      // One that has not begun, and that nobody watches, may have been killed unseen.
      if (!registry().expected(tag) || (!registry().alive(tag) && !watched())) break;
      const Record& record = registry().record(tag);
      const std::array<FutexWord, 2> words{FutexWord{&record.event, record.event.load()},
                                           registry().life(tag).watch()};
      if (!registry().expected(tag)) break;
      sleep(glance, words, Deadline::never());
    }
  }
}

void Family::shut_down() noexcept {
  if (!is_root()) return;
  try {
    join_children();
    // First of all: who joins from here on sees that the root is gone, and ends.
    leave();
    const ServerRequest request{
        .kind = ServerRequest::Kind::quit, .tag = 0, .streams = 0, .descriptors = 0};
    if (server_) send_message(*server_, std::as_bytes(std::span(&request, 1)), {});
    if (server_process_.valid()) {
      if (!server_process_.wait_ended(Deadline::after(2s))) server_process_.signal(9);
      static_cast<void>(server_process_.wait_ended(Deadline::never()));
      ExitCode code = 0;
      server_process_.reap(code);
    }
    end_watchdogs();
    // Where it had no watchdog, or one that took too long.
    Watchdog(*this).kill_family();
  } catch (const Error& e) {
    static_cast<void>(e);  // nothing more can be done about it, and destructors do not throw
  }
  // Nobody is left who writes records.
  LogOutput::mine().family_ends(*this);
  server_process_ = ProcessHandle();
  server_.reset();
  the_member().reset();
}

}  // namespace brood::detail
