#include <brood/manager.hpp>

#include <array>
#include <csignal>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include <brood/channel/heap_sink.hpp>
#include <brood/errors.hpp>
#include <brood/manager/remote_server.hpp>
#include <brood/manager/server.hpp>
#include <brood/process/family.hpp>

namespace brood {

using detail::ChildProcess;
using detail::Deadline;
using detail::Family;
using detail::Handle;
using detail::LocalCall;
using detail::TypeLabel;

namespace detail {
namespace {

/// A handle of any shared object of a manager, as bytes: the codec of Proxy without its type.
void encode_handle(ByteSink& sink, const Handle& handle, const Handle& board) {
  encode(sink, handle.ref());
  sink.keep(handle);
  sink.keep(board);
}

Handle decode_managed(ByteSource& source, std::uint32_t type) {
  return Handle::adopt(decode<ObjectRef>(source),
                       {.kind = static_cast<std::uint32_t>(ObjectKind::managed), .contents = type},
                       sizeof(ManagedPayload));
}

// What a manager asks its server for, beside the calls of objects.

void run_publish(CallRun& run) {
  auto name = decode<std::string>(run.arguments);
  auto label = decode<TypeLabel>(run.arguments);
  const auto type = decode<std::uint32_t>(run.arguments);
  Server::here()->publish(name, decode_managed(run.arguments, type), std::move(label));
}
void run_unpublish(CallRun& run) { Server::here()->unpublish(decode<std::string>(run.arguments)); }
void run_count(CallRun& run) { encode(run.reply, std::uint64_t{Server::here()->count()}); }

void run_serve(CallRun& run) {
  const auto address = decode<Address>(run.arguments);
  const auto authkey = decode<std::optional<std::string>>(run.arguments);
  encode(run.reply, Server::here()->remote().serve(address, authkey));
}
void run_client_count(CallRun& run) {
  encode(run.reply, std::uint64_t{Server::here()->remote().clients()});
}

void run_get(CallRun& run) {
  const auto name = decode<std::string>(run.arguments);
  const auto label = decode<TypeLabel>(run.arguments);
  reply_with_handle(run, Server::here()->published(name, label));
}

}  // namespace

FunctionId get_function() { return thunk_id<&run_get, ThunkKind::call>(); }

Handle add_here(std::unique_ptr<Managed> object) {
  Server* const server = Server::here();
  if (server == nullptr) {
    throw StateError(
        "Manager::make_here() is for methods that run in a manager's server: elsewhere use "
        "Manager::make()");
  }
  return server->add(std::move(object));
}

void reply_with_handle(CallRun& run, const Handle& handle) {
  encode_handle(run.reply, handle, Server::here()->board());
}

ManagerCore::ManagerCore(const ManagerOptions& options)
    : shutdown_timeout_(options.shutdown_timeout) {
  const std::shared_ptr<Family> family = Family::require();
  Handle board = Handle::create(kBoardType, sizeof(CallBoard));
  new (board.payload().data()) CallBoard{};
  client_ = LocalClient::of(board);
  HeapSink sink(family->heap());
  encode(sink, ServerStart{.board = board.ref()});
  const std::size_t bytes = sink.written();
  process_ = std::make_shared<ChildProcess>(
      family, ChildSpec{.name = options.name.empty() ? family->next_name("Manager") : options.name,
                        .function = server_function(),
                        .payload = sink.release(),
                        .payload_bytes = bytes,
                        .kept = {board},
                        .role = Role::process,
                        .dies_with_parent = true,
                        .keeps_record = true,
                        .method = options.start_method});
  process_->start();
  try {
    await_server();
  } catch (...) {
    process_->signal(SIGKILL);
    process_->join(Deadline::never());
    throw;
  }
  client_->set_process(process_);
}

void ManagerCore::await_server() {
  Family& family = process_->family();
  CallBoard& board = client_->board();
  for (;;) {
    const Member::Glance glance = family.look();
    const FutexWord state{&board.state, board.state.load()};
    if (state.expected == CallBoard::kServing) return;
    if (!process_->alive()) {
      const ExitCode code = process_->exit_code().value_or(0);
      throw StartError(fmt::format("the server of manager {} {} before it could serve",
                                   process_->name(),
                                   code < 0 ? fmt::format("was killed by signal {}", -code)
                                            : fmt::format("exited with code {}", code)));
    }
    const Tag tag = process_->tag();
    // Before it joined the family it has no life to watch, but its end is announced.
    const bool lives = family.segment().registry().alive(tag);
    family.sleep(glance, {&state, 1}, std::span(&tag, lives ? 1 : 0),
                 lives ? Deadline::never() : Deadline::after(std::chrono::milliseconds(20)));
  }
}

ManagerCore::~ManagerCore() {
  if (!process_->made_here()) return;
  try {
    shut_down();
    client_->set_process(nullptr);
  } catch (const Error& e) {
    static_cast<void>(e);  // a destructor has nobody to tell; the watchdog ends the server at last
  }
}

void ManagerCore::shut_down() {
  if (!process_->made_here()) {
    throw StateError("shutdown: a manager can be used only by the process that made it");
  }
  CallBoard& board = client_->board();
  board.stop.store(1);
  board.bell.fetch_add(1);
  futex_wake_all(board.bell);
  for (const int signal : {SIGTERM, SIGKILL}) {
    if (process_->join(Deadline::after(shutdown_timeout_))) break;
    process_->signal(signal);
  }
  process_->join(Deadline::never());
  client_->sweep();  // of calls that nobody waited for
}

}  // namespace detail

Manager::Manager(const ManagerOptions& options)
    : core_(std::make_unique<detail::ManagerCore>(options)) {}

detail::ManagerCore& Manager::core() const {
  if (!core_) throw StateError("this manager was moved from");
  if (!core_->process().made_here()) {
    throw StateError("a manager can be used only by the process that made it: give proxies away");
  }
  return *core_;
}

void Manager::publish(const std::string& name, const Handle& object, const TypeLabel& label) const {
  const auto& client = core().client();
  if (reinterpret_cast<const detail::ManagedPayload*>(object.payload().data())->board !=
      client->handle().ref()) {
    throw ArgumentError(fmt::format("\"{}\": the object is another manager's", name));
  }
  LocalCall call(client, Handle(), 0,
                 detail::thunk_id<&detail::run_publish, detail::ThunkKind::call>());
  detail::encode(call.arguments(), name);
  detail::encode(call.arguments(), label);
  detail::encode(call.arguments(), object.member().objects().type(object.ref()).contents);
  detail::encode_handle(call.arguments(), object, client->handle());
  call.send();
  call.finish(Deadline::never());
}

void Manager::unpublish(const std::string& name) const {
  LocalCall call(core().client(), Handle(), 0,
                 detail::thunk_id<&detail::run_unpublish, detail::ThunkKind::call>());
  detail::encode(call.arguments(), name);
  call.send();
  call.finish(Deadline::never());
}

std::size_t Manager::object_count() const {
  LocalCall call(core().client(), Handle(), 0,
                 detail::thunk_id<&detail::run_count, detail::ThunkKind::call>());
  call.send();
  return detail::take_result<std::uint64_t>(call, Deadline::never());
}

Address Manager::serve(const Address& address, const std::optional<std::string>& authkey) const {
  LocalCall call(core().client(), Handle(), 0,
                 detail::thunk_id<&detail::run_serve, detail::ThunkKind::call>());
  detail::encode(call.arguments(), address);
  detail::encode(call.arguments(), authkey);
  call.send();
  return detail::take_result<Address>(call, Deadline::never());
}

std::size_t Manager::client_count() const {
  LocalCall call(core().client(), Handle(), 0,
                 detail::thunk_id<&detail::run_client_count, detail::ThunkKind::call>());
  call.send();
  return detail::take_result<std::uint64_t>(call, Deadline::never());
}

void Manager::shutdown() {
  if (!core_) throw StateError("this manager was moved from");
  core_->shut_down();
}

bool Manager::is_alive() const { return core().process().alive(); }
int Manager::pid() const { return core().process().pid().value_or(0); }
const std::string& Manager::name() const { return core().process().name(); }

}  // namespace brood
