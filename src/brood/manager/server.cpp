#include <brood/manager/server.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/channel/spin_habit.hpp>
#include <brood/errors.hpp>
#include <brood/manager/remote_server.hpp>
#include <brood/manager/slot_sink.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/terminal_signals.hpp>
#include <brood/process/child.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

std::atomic<Server*>& this_server() {
  static std::atomic<Server*> server{nullptr};
  return server;
}

/// Who this is, for errors: "brood-manager-1 (pid 123)".
std::string& own_name() {
  static auto* name = new std::string;
  return *name;
}

}  // namespace

// --- Managed -------------------------------------------------------------------------------------

void Managed::throw_other_type(std::string_view wanted) {
  throw DecodeError(
      fmt::format("the object is of another type than the call, which is of {}", wanted));
}

void CallRun::throw_no_object() { throw DecodeError("a method was called without an object"); }

ManagedTurn::ManagedTurn(Managed& object, const CallGiver* giver) {
  if (!object.concurrent_) lock_ = std::unique_lock(object.mutex_);
  if (giver != nullptr && giver->given_up()) throw CallGivenUp();
}

// --- a thread of the server ----------------------------------------------------------------------

/// What serves one slot, in a thread of its own.
class Server::SlotServer final : public CallGiver {
 public:
  SlotServer(Server& server, CallSlot& slot) : server_(server), slot_(slot) {}

  void run() {
    for (;;) {
      const Member::Glance glance = member().look();
      if (server_.stopping_.load()) return;
      const std::uint32_t seen = slot_.word.load(std::memory_order_seq_cst);
      const CallWord word = CallWord::unpack(seen);
      if (word.servers_turn()) {
        serve(word);
        habit_.spin_while(slot_.word, slot_.word.load());
        continue;
      }
      if (word.state != CallState::answered) let_go();
      if (word.state != CallState::free && member().registry().over(word.tag)) {
        let_go();
        std::uint32_t expected = seen;
        slot_.word.compare_exchange_strong(expected, CallWord{}.pack());
        continue;
      }
      // SUBTLE: the mark, then the word again (the kernel compares it); the caller changes the word
      // and then looks for the mark.
      slot_.server_sleeps.store(1, std::memory_order_seq_cst);
      if (slot_.word.load(std::memory_order_seq_cst) == seen) {
        const FutexWord one{&slot_.word, seen};
        // A killed caller whose threads are not all gone yet is looked for soon.
        const bool dying = word.state != CallState::free && !member().registry().alive(word.tag);
        member().sleep(glance, {&one, 1}, dying ? Deadline::after(1ms) : Deadline::never());
      }
      slot_.server_sleeps.store(0, std::memory_order_relaxed);  // one that stays costs a wake-up
    }
  }

  [[nodiscard]] bool given_up() const override {
    return CallWord::unpack(slot_.word.load()).state == CallState::cancelled;
  }

 private:
  [[nodiscard]] Member& member() const { return server_.family_; }

  /// Of what the last reply is and names.
  void let_go() {
    kept_.clear();
    if (!block_.empty()) member().heap().free(std::exchange(block_, {}));
  }

  void serve(CallWord word) {
    let_go();
    SlotSink reply(slot_.reply, member().heap());
    CallOutcome outcome = CallOutcome::value;
    bool wanted = word.state != CallState::cancelled;
    if (wanted) {
      ErrorRecord error;
      const bool done = run_catching(
          [&] {
            try {
              call(word.tag, reply);
            } catch (const CallGivenUp&) {
              wanted = false;
            }
          },
          error);
      if (!done) outcome = write_error(reply, error);
    }
    answer(word, reply, outcome, wanted);
  }

  void call(Tag caller, ByteSink& reply) {
    std::span<const std::byte> bytes;
    if (slot_.request_at == 0) {
      bytes = std::span<const std::byte>(slot_.request)
                  .first(std::min<std::size_t>(slot_.request_bytes, slot_.request.size()));
    } else {
      // SUBTLE: the block is the caller's, and given to others after its death. Copied first, then
      // looked whether the caller is over: if not, the copy is of the request.
      const std::byte* data = member().segment().checked(slot_.request_at, slot_.request_bytes);
      request_.assign(data, data + slot_.request_bytes);
      if (member().registry().over(caller)) throw CallGivenUp();
      bytes = request_;
    }
    ByteSource arguments(bytes);
    server_.run_call(slot_.function, slot_.object, this, arguments, reply);
  }

  CallOutcome write_error(SlotSink& reply, ErrorRecord& error) {
    try {
      sign_error(error);
      std::vector<std::byte> encoded;
      encode_error(encoded, error);
      reply.restart();
      reply.write(encoded.data(), encoded.size());
      return CallOutcome::error;
    } catch (const std::exception&) {
      return CallOutcome::no_memory;
    }
  }

  void answer(CallWord word, SlotSink& reply, CallOutcome outcome, bool wanted) {
    if (wanted) {
      kept_ = reply.take_kept();
      slot_.outcome = outcome;
      slot_.reply_bytes = reply.written();
      block_ = reply.release();
      slot_.reply_at = block_.empty() ? 0 : member().segment().offset_of(block_.data);
      slot_.wants_notice = block_.empty() && kept_.empty() ? 0 : 1;
      std::uint32_t called = CallWord{.state = CallState::called, .tag = word.tag}.pack();
      // The commit.
      if (slot_.word.compare_exchange_strong(
              called, CallWord{.state = CallState::answered, .tag = word.tag}.pack())) {
        wake_caller();
        return;
      }
      let_go();
    }
    // Nobody waits; the caller's process uses the slot again when it finds it open.
    slot_.word.store(CallWord{.state = CallState::open, .tag = word.tag}.pack());
    wake_caller();
  }

  void wake_caller() {
    if (slot_.caller_sleeps.load(std::memory_order_seq_cst) != 0) futex_wake_all(slot_.word);
  }

  Server& server_;
  CallSlot& slot_;
  SpinHabit habit_;
  std::vector<std::byte> request_;
  Block block_;               // of the last reply
  std::vector<Handle> kept_;  // what it names
};

// --- Server --------------------------------------------------------------------------------------

Server* Server::here() noexcept { return this_server().load(); }

Server::Server(Family& family, Handle board)
    : family_(family),
      board_handle_(std::move(board)),
      board_(*reinterpret_cast<CallBoard*>(board_handle_.payload().data())),
      remote_(std::make_unique<RemoteServer>(*this)) {
  this_server().store(this);
}

Server::~Server() {
  remote_.reset();
  published_.clear();
  objects_.clear();
  this_server().store(nullptr);
}

void Server::run() {
  board_.server.store(family_.self().bits());
  board_.state.store(CallBoard::kServing);
  futex_wake_all(board_.state);
  std::thread reaper = std::thread([this] { reap(); });
  serve_slots();
  // In order: nothing new begins, what has begun ends (whoever does not want to wait for that kills
  // this process), then the objects go.
  remote_->close();
  stopping_.store(true);
  announce(family_.segment().header());
  for (std::thread& thread : threads_) thread.join();
  reaper.join();
}

void Server::serve_slots() {
  for (;;) {
    const Member::Glance glance = family_.look();
    const FutexWord bell{&board_.bell, board_.bell.load()};
    if (board_.stop.load() != 0) return;
    const std::uint32_t high = std::min(board_.high.load(), CallBoard::kSlots);
    for (std::uint32_t index = 0; index < high; ++index) {
      CallSlot& slot = board_.slots[index];
      if (slot.served.load() != CallSlot::kByThread && slot.word.load() != 0) start_thread(slot);
    }
    family_.sleep(glance, {&bell, 1}, Deadline::never());
  }
}

void Server::start_thread(CallSlot& slot) {
  try {
    // With the signals of a program, not with all blocked: what it calls may start programs.
    threads_.emplace_back([this, &slot] { SlotServer(*this, slot).run(); });
    slot.served.store(CallSlot::kByThread);
  } catch (const std::exception&) {
    slot.served.store(CallSlot::kRefused);
  }
  futex_wake_all(slot.word);  // the caller looks at `served` then
}

void Server::reap() {
  const std::atomic<std::uint32_t>& ended = family_.segment().header().objects_ended;
  while (!stopping_.load()) {
    const Member::Glance glance = family_.look();
    const FutexWord word{&ended, ended.load()};
    destroy_gone();
    if (stopping_.load()) return;
    family_.sleep(glance, {&word, 1}, Deadline::never());
  }
}

void Server::destroy_gone() {
  std::vector<std::shared_ptr<Managed>> gone;  // destroyed without the lock
  const std::scoped_lock guard(reaping_);
  {
    const std::scoped_lock table(mutex_);
    std::erase_if(objects_, [&](auto& entry) {
      if (!family_.objects().gone(entry.second->ref)) return false;
      gone.push_back(std::move(entry.second));
      return true;
    });
  }
  gone.clear();
}

Handle Server::add(std::unique_ptr<Managed> object) {
  Handle handle = Handle::create(
      {.kind = static_cast<std::uint32_t>(ObjectKind::managed), .contents = object->type()},
      sizeof(ManagedPayload));
  const std::scoped_lock guard(mutex_);
  object->number = ++next_number_;
  object->ref = handle.ref();
  const ManagedPayload payload{
      .board = board_handle_.ref(), .number = object->number, .reserved = 0};
  std::memcpy(handle.payload().data(), &payload, sizeof payload);
  const std::uint64_t number = object->number;
  objects_.emplace(number, std::move(object));
  return handle;
}

std::shared_ptr<Managed> Server::find(std::uint64_t number) {
  const std::scoped_lock guard(mutex_);
  const auto found = objects_.find(number);
  return found == objects_.end() ? nullptr : found->second;
}

Handle Server::handle_of(const Managed& object) {
  return Handle::adopt(
      object.ref,
      {.kind = static_cast<std::uint32_t>(ObjectKind::managed), .contents = object.type()},
      sizeof(ManagedPayload));
}

std::size_t Server::count() {
  destroy_gone();
  const std::scoped_lock guard(mutex_);
  return objects_.size();
}

void Server::publish(const std::string& name, Handle object, TypeLabel label) {
  Published before;  // let go of without the lock
  const std::scoped_lock guard(mutex_);
  Published& place = published_[name];
  before = std::exchange(place, Published{std::move(object), std::move(label)});
}

void Server::unpublish(const std::string& name) {
  Published before;
  const std::scoped_lock guard(mutex_);
  const auto found = published_.find(name);
  if (found == published_.end()) {
    throw ArgumentError(fmt::format("nothing is published as \"{}\"", name));
  }
  before = std::move(found->second);
  published_.erase(found);
}

Handle Server::published(const std::string& name, const TypeLabel& label) {
  const std::scoped_lock guard(mutex_);
  const auto found = published_.find(name);
  if (found == published_.end()) {
    throw ArgumentError(fmt::format("nothing is published as \"{}\"", name));
  }
  const TypeLabel& own = found->second.label;
  if (own == label) return found->second.object;
  throw TypeMismatch(fmt::format(
      "\"{}\" is {} of {} bytes here, and was asked for as {} of {} bytes: {}", name, own.name,
      own.bytes, label.name, label.bytes,
      own.name == label.name ? "the other side is another build" : "it is of another type"));
}

void Server::run_call(FunctionId function, std::uint64_t object, const CallGiver* giver,
                      ByteSource& arguments, ByteSink& reply) {
  struct Known {
    FunctionId id;
    CallThunk thunk = nullptr;
  };
  thread_local Known last;
  if (last.thunk == nullptr || last.id != function) {
    last = {function, reinterpret_cast<CallThunk>(resolve_thunk(function, ThunkKind::call))};
  }
  std::shared_ptr<Managed> found;
  if (object != 0) {
    found = find(object);
    if (!found) {
      throw ObjectGone(
          fmt::format("object {} of the manager is gone: the last proxy of it has gone", object));
    }
  }
  const CallThunk thunk = last.thunk;
  CallRun run{.object = found.get(), .giver = giver, .arguments = arguments, .reply = reply};
  thunk(run);
}

void sign_error(ErrorRecord& error) {
  if (error.process.empty()) error.process = own_name();
}

// --- the process ---------------------------------------------------------------------------------

namespace {

void run_server(ByteSource& source, void (*decoded)()) {
  const auto start = decode<ServerStart>(source);
  ignore_interrupt();  // Ctrl-C is the parent's to handle
  Family& family = *Family::current();
  own_name() = fmt::format("{} (pid {})", family.registry().name(family.self()), current_pid());
  Server server(family, Handle::adopt(start.board, kBoardType, sizeof(CallBoard)));
  decoded();
  server.run();
}

}  // namespace

FunctionId server_function() { return thunk_id<&run_server, ThunkKind::process>(); }

}  // namespace brood::detail
