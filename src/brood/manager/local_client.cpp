#include <brood/manager/local_client.hpp>

#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/exception_data.hpp>
#include <brood/channel/spin_habit.hpp>
#include <brood/errors.hpp>
#include <brood/manager/managed.hpp>
#include <brood/manager/server.hpp>
#include <brood/platform/signal_name.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// How long whoever must say how the server ended may take.
constexpr auto kPatience = 200ms;

/// The clients of this process. Never destroyed: proxies may outlive main.
struct Clients {
  std::mutex mutex;
  std::map<std::pair<const Member*, ObjectRef>, std::weak_ptr<LocalClient>> all;
};
Clients& clients() {
  static auto* all = new Clients;
  return *all;
}

}  // namespace

// --- LocalClient ---------------------------------------------------------------------------------

std::shared_ptr<LocalClient> LocalClient::of(const Handle& board) {
  Clients& known = clients();
  const std::scoped_lock guard(known.mutex);
  const std::pair key(&board.member(), board.ref());
  if (std::shared_ptr<LocalClient> client = known.all[key].lock()) return client;
  // NOTE: those that linger are let go of outside of the lock on them, as the last who has one may.
  std::vector<std::shared_ptr<LocalClient>> lingering;
  std::erase_if(known.all, [&](const auto& entry) {
    if (auto other = entry.second.lock()) lingering.push_back(std::move(other));
    return entry.second.expired();
  });
  for (const auto& other : lingering) other->sweep();
  auto client = std::make_shared<LocalClient>(board);
  known.all[key] = client;
  return client;
}

std::shared_ptr<LocalClient> LocalClient::of(ObjectRef board) {
  return of(Handle::adopt(board, kBoardType, sizeof(CallBoard)));
}

LocalClient::LocalClient(Handle board)
    : board_handle_(std::move(board)),
      board_(reinterpret_cast<CallBoard*>(board_handle_.payload().data())),
      owner_(member().self()) {}

LocalClient::~LocalClient() {
  // In a copy of the process what it refers to is the original's.
  if (!member().is_this_process() || owner_ != member().self()) return;
  for (const std::uint32_t slot : free_) board_->slots[slot].word.store(CallWord{}.pack());
}

void LocalClient::set_process(std::shared_ptr<ChildProcess> process) {
  const std::scoped_lock guard(mutex_);
  process_ = std::move(process);
}

bool LocalClient::is_server() const {
  const Server* const server = Server::here();
  return server != nullptr && server->board().ref() == board_handle_.ref();
}

void LocalClient::require_serving() const {
  if (board_->stop.load() != 0) {
    throw ManagerClosed("the manager was shut down, and its objects are gone");
  }
}

void LocalClient::throw_lost() {
  require_serving();
  const Tag tag = server();
  Registry& registry = member().registry();
  std::shared_ptr<ChildProcess> process;
  {
    const std::scoped_lock guard(mutex_);
    process = process_;
  }
  std::optional<ExitCode> code;
  const Deadline patience = Deadline::after(kPatience);
  if (process && process->made_here()) {
    process->join(patience);
    code = process->exit_code();
  } else {
    // It is its parent's to find out, and the watchdog's.
    for (;;) {
      const Member::Glance glance = member().look();
      const Record& record = registry.record(tag);
      const FutexWord event{&record.event, record.event.load()};
      const RecordState state = registry.state(tag);
      if (state == RecordState::ended) code = record.exit_code.load();
      if (state != RecordState::live || patience.passed()) break;
      member().sleep(glance, {&event, 1}, patience);
    }
  }
  const std::optional<RecordWord> word = registry.word(tag);
  const std::string who =
      word ? fmt::format("manager {} (pid {})", registry.name(tag), registry.record(tag).pid.load())
           : std::string("the manager");
  if (!code || *code == 255) throw ManagerLost(who + " has died, and its objects with it");
  if (*code < 0) {
    throw ManagerLost(fmt::format("{} was killed by {}, and its objects are gone with it", who,
                                  signal_name(-*code)));
  }
  throw ManagerLost(
      fmt::format("{} exited with code {}, and its objects are gone with it", who, *code));
}

// In the child of a fork there is one thread, and the slots are its parent's.
void LocalClient::begin_anew_if_forked() noexcept {
  if (owner_ == member().self()) return;
  owner_ = member().self();
  free_.clear();
  leftovers_.clear();  // the blocks are the parent's
  lingers_.reset();
  process_.reset();
}

std::uint32_t LocalClient::take_slot() {
  const std::scoped_lock guard(mutex_);
  begin_anew_if_forked();
  if (!leftovers_.empty()) sweep_leftovers();
  if (!free_.empty()) {
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  free_.reserve(free_.size() + leftovers_.size() + 1);  // give_back() does not throw
  if (const auto slot = claim_slot()) return *slot;
  throw SharedMemoryFull(fmt::format(
      "{} calls of one manager are under way, or may be at any time from as many threads, which is "
      "the most",
      CallBoard::kSlots));
}

std::optional<std::uint32_t> LocalClient::claim_slot() {
  const std::uint32_t mine = CallWord{.state = CallState::open, .tag = owner_}.pack();
  for (std::uint32_t index = 0; index < CallBoard::kSlots; ++index) {
    CallSlot& slot = board_->slots[index];
    std::uint32_t word = slot.word.load();
    if (word != 0) continue;
    // Before it is taken, so that the server looks so far.
    for (std::uint32_t high = board_->high.load(); high <= index;) {
      if (board_->high.compare_exchange_weak(high, index + 1)) break;
    }
    if (!slot.word.compare_exchange_strong(word, mine)) continue;
    if (slot.served.load() != CallSlot::kByThread) ring();
    return index;
  }
  return std::nullopt;
}

void LocalClient::ring() noexcept {
  board_->bell.fetch_add(1);
  futex_wake_all(board_->bell);
}

void LocalClient::give_back(std::uint32_t slot) noexcept {
  const std::scoped_lock guard(mutex_);
  free_.push_back(slot);
}

void LocalClient::leave_over(Leftover leftover) noexcept {
  const std::scoped_lock guard(mutex_);
  leftovers_.push_back(std::move(leftover));
  // What it keeps is needed until the method has begun, and the slot is given back afterwards.
  lingers_ = shared_from_this();
}

void LocalClient::sweep() noexcept {
  const std::scoped_lock guard(mutex_);
  begin_anew_if_forked();
  sweep_leftovers();
}

void LocalClient::sweep_leftovers() noexcept {
  std::erase_if(leftovers_, [&](Leftover& leftover) {
    const CallWord word = CallWord::unpack(board_->slots[leftover.slot].word.load());
    if (word.servers_turn() && member().registry().alive(server())) return false;
    member().heap().free(std::exchange(leftover.request, {}));
    if (word.state == CallState::open) free_.push_back(leftover.slot);
    return true;
  });
  if (leftovers_.empty()) lingers_.reset();
}

// --- PendingCall ---------------------------------------------------------------------------------

std::span<const std::byte> PendingCall::finish(Deadline deadline) {
  if (!wait(deadline)) {
    cancel();
    throw TimeoutError(
        "the call was not done in time: if its method had begun, it runs on, and the result is "
        "dropped");
  }
  return result();
}

// --- LocalCall -----------------------------------------------------------------------------------

LocalCall::LocalCall(std::shared_ptr<LocalClient> client, Handle object, std::uint64_t number,
                     FunctionId function)
    : client_(std::move(client)), object_(std::move(object)) {
  client_->require_serving();
  index_ = client_->take_slot();
  owner_ = client_->member().self();
  slot_ = &client_->board().slots[index_];
  slot_->function = function;
  slot_->object = number;
  sink_.emplace(slot_->request, client_->member().heap());
}

void LocalCall::require_here() const {
  if (!client_) throw StateError("this call has ended");
  if (owner_ != client_->member().self()) {
    throw StateError("this call is another process's, of which this one is a copy");
  }
}

CallState LocalCall::state() const {
  // acquire: pairs with the server's exchange: the reply is complete.
  return CallWord::unpack(slot_->word.load(std::memory_order_acquire)).state;
}

void LocalCall::send() {
  require_here();
  const Block& block = sink().block();
  slot_->request_bytes = sink().written();
  slot_->request_at = block.empty() ? 0 : client_->member().segment().offset_of(block.data);
  sent_ = true;
  // The commit. SUBTLE: the word, then the look at the sleeper; the server says that it sleeps
  // before it looks at the word.
  slot_->word.store(CallWord{.state = CallState::called, .tag = owner_}.pack(),
                    std::memory_order_seq_cst);
  if (slot_->server_sleeps.load(std::memory_order_seq_cst) != 0) futex_wake_all(slot_->word);
  if (slot_->served.load() == CallSlot::kRefused) client_->ring();  // it may try once more
}

bool LocalCall::ready() const {
  require_here();
  return state() == CallState::answered || !client_->member().registry().alive(client_->server());
}

void LocalCall::look_for_the_end() {
  if (!client_->member().registry().alive(client_->server())) {
    if (state() != CallState::answered) client_->throw_lost();
  } else if (slot_->served.load() == CallSlot::kRefused) {
    throw SharedMemoryFull("the manager's server cannot start one more thread to serve this call");
  }
}

bool LocalCall::wait(Deadline deadline) {
  require_here();
  const std::uint32_t called = CallWord{.state = CallState::called, .tag = owner_}.pack();
  static thread_local SpinHabit habit;
  if (!deadline.is_now()) habit.spin_while(slot_->word, called);
  if (state() == CallState::answered) return true;
  const Tag server = client_->server();
  for (;;) {
    const Member::Glance glance = client_->member().look();
    slot_->caller_sleeps.store(1, std::memory_order_seq_cst);
    const std::uint32_t word = slot_->word.load(std::memory_order_seq_cst);
    if (word == called) {
      look_for_the_end();
      if (deadline.passed()) break;
      const FutexWord one{&slot_->word, word};
      client_->member().sleep(glance, {&one, 1}, {&server, 1}, deadline);
    }
    if (state() == CallState::answered) break;
  }
  // relaxed: a mark that stays costs the server a wake-up.
  slot_->caller_sleeps.store(0, std::memory_order_relaxed);
  return state() == CallState::answered;
}

std::span<const std::byte> LocalCall::result() {
  require_here();
  look_for_the_end();
  std::span<const std::byte> bytes;
  if (slot_->reply_at == 0) {
    bytes = std::span<const std::byte>(slot_->reply)
                .first(std::min<std::size_t>(slot_->reply_bytes, slot_->reply.size()));
  } else {
    // SUBTLE: the block is the server's, and given to others after its death. Copied first, then
    // looked whether it lives: if so, the copy is of the reply.
    const std::byte* data =
        client_->member().segment().checked(slot_->reply_at, slot_->reply_bytes);
    reply_.assign(data, data + slot_->reply_bytes);
    if (!client_->member().registry().alive(client_->server())) client_->throw_lost();
    bytes = reply_;
  }
  switch (slot_->outcome) {
    case CallOutcome::value:
      return bytes;
    case CallOutcome::error:
      throw_error(decode_error(bytes));
    default:
      throw SharedMemoryFull("the call failed, and there was no memory left to say why");
  }
}

void LocalCall::let_go(CallState how) noexcept {
  const std::shared_ptr<LocalClient> client = std::exchange(client_, nullptr);
  if (!client) return;
  Block request = sink().release();
  if (!client->member().is_this_process() || owner_ != client->member().self()) {
    request = {};  // the slot and the block are the original's
    sink_.reset();
    return;
  }
  std::uint32_t called = CallWord{.state = CallState::called, .tag = owner_}.pack();
  if (sent_ && slot_->served.load() != CallSlot::kRefused) {
    const std::uint32_t next = CallWord{.state = how, .tag = owner_}.pack();
    if (slot_->word.compare_exchange_strong(called, next)) {
      client->leave_over({.slot = index_,
                          .object = std::move(object_),
                          .kept = sink().take_kept(),
                          .request = request});
      return;
    }
    const bool notice = slot_->wants_notice != 0;
    slot_->word.store(CallWord{.state = CallState::open, .tag = owner_}.pack());
    if (notice && slot_->server_sleeps.load(std::memory_order_seq_cst) != 0) {
      futex_wake_all(slot_->word);
    }
  } else {
    slot_->word.store(CallWord{.state = CallState::open, .tag = owner_}.pack());
  }
  client->member().heap().free(request);
  sink_.reset();
  client->give_back(index_);
}

/// Waits for a call among other things.
class LocalCall::CallWatch final : public Watch {
 public:
  explicit CallWatch(std::shared_ptr<PendingResult> call)
      : call_(std::static_pointer_cast<LocalCall>(std::move(call))) {}

  bool look(std::vector<FutexWord>& words, Deadline& /*soon*/) override {
    if (!call_->client_) return true;  // its result has been fetched
    CallSlot& slot = *call_->slot_;
    const LocalClient& client = *call_->client_;
    const FutexWord life = client.member().registry().life(client.server()).watch();
    slot.caller_sleeps.store(1, std::memory_order_seq_cst);
    const std::uint32_t word = slot.word.load(std::memory_order_seq_cst);
    if (call_->ready()) return true;
    words.push_back({&slot.word, word});
    words.push_back(life);
    return false;
  }

 private:
  std::shared_ptr<LocalCall> call_;
};

std::shared_ptr<Watch> LocalCall::watch(std::shared_ptr<PendingResult> self) {
  require_here();
  return std::make_shared<CallWatch>(std::move(self));
}

// --- CallHere ------------------------------------------------------------------------------------

void CallHere::send() {
  ByteSource source(arguments_.bytes());
  Server::here()->run_call(function_, number_, nullptr, source, reply_);
}

std::span<const std::byte> CallHere::result() { return reply_.bytes(); }

std::shared_ptr<Watch> CallHere::watch(std::shared_ptr<PendingResult> /*self*/) {
  struct Ready final : Watch {
    bool look(std::vector<FutexWord>& /*words*/, Deadline& /*soon*/) override { return true; }
  };
  return std::make_shared<Ready>();
}

}  // namespace brood::detail
