#include <brood/manager/remote_client.hpp>

#include <chrono>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/random.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// How often somebody who waits for several things looks at a connection.
constexpr auto kBetweenLooks = 1ms;

}  // namespace

// --- RemoteClient --------------------------------------------------------------------------------

RemoteClient::RemoteClient(Address address, ConnectOptions options)
    : address_(std::move(address)), options_(std::move(options)), pid_(current_pid()) {
  fill_random(std::as_writable_bytes(std::span(session_)));
  first_ = open(true);
  idle_.push_back(open(false));
}

Connection RemoteClient::open(bool begins) {
  Connection connection = connect(address_, options_);
  VectorSink hello;
  encode(hello, RemoteHello{.session = session_, .begins = begins ? 1U : 0U});
  try {
    connection.send_bytes(hello.bytes());
    const auto welcome = ConnectionAccess::receive(connection, Deadline::after(options_.timeout));
    if (!welcome) throw TimeoutError("who listens there did not say that it is a manager in time");
    ByteSource source(*welcome);
    static_cast<void>(decode<RemoteReply>(source));
  } catch (const EndOfStream&) {
    throw_lost();
  }
  return connection;
}

void RemoteClient::require_here() const {
  if (current_pid() == pid_) return;
  throw StateError(
      "a proxy of a manager that this process was connected to before it was copied: connect "
      "again");
}

void RemoteClient::throw_lost() const {
  throw ManagerLost(fmt::format(
      "the manager at {} ended the connection: it was shut down, has died, or cannot be reached",
      address_.to_string()));
}

Connection RemoteClient::take() {
  require_here();
  {
    const std::scoped_lock guard(mutex_);
    if (closed_) throw ManagerClosed("this connection to a manager was closed");
    if (!idle_.empty()) {
      Connection connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
    // Nothing is ever sent to the first: it can only have ended.
    if (first_.poll()) throw_lost();
  }
  try {
    return open(false);
  } catch (const ManagerLost&) {
    throw;
  } catch (const Error& e) {
    throw ManagerLost(fmt::format("the manager at {} cannot be reached any more: {}",
                                  address_.to_string(), e.what()));
  }
}

void RemoteClient::give_back(Connection connection) noexcept {
  const std::scoped_lock guard(mutex_);
  if (!closed_) idle_.push_back(std::move(connection));
}

void RemoteClient::drop(std::uint64_t number) noexcept {
  if (current_pid() != pid_) return;
  try {
    VectorSink request;
    encode(request, RemoteRequest{.kind = RemoteRequest::Kind::drop, .object = number});
    const std::scoped_lock guard(mutex_);
    if (!closed_) static_cast<void>(first_.try_send_bytes_for(request.bytes(), 1s));
  } catch (const std::exception&) {
    // It is gone, and has let go of everything.
  }
}

void RemoteClient::close() noexcept {
  const std::scoped_lock guard(mutex_);
  closed_ = true;
  idle_.clear();
  first_.close();
}

// --- RemoteCall ----------------------------------------------------------------------------------

RemoteCall::RemoteCall(std::shared_ptr<RemoteClient> client, std::shared_ptr<RemoteObject> object,
                       FunctionId function, bool for_proxy)
    : client_(std::move(client)), object_(std::move(object)) {
  encode(request_, RemoteRequest{.for_proxy = for_proxy ? 1U : 0U,
                                 .object = object_ ? object_->number() : 0,
                                 .function = function});
}

void RemoteCall::send() {
  if (request_.keeps()) {
    throw StateError(
        "an argument has a shared object in it (a lock, a queue, a proxy ...), which means nothing "
        "at the other end of a connection");
  }
  connection_ = client_->take();
  try {
    connection_.send_bytes(request_.bytes());
  } catch (const EndOfStream&) {
    connection_.close();
    client_->throw_lost();
  } catch (...) {
    connection_.close();
    throw;
  }
}

bool RemoteCall::ready() const { return reply_ || connection_.closed() || connection_.poll(); }

bool RemoteCall::wait(Deadline deadline) {
  if (reply_) return true;
  try {
    reply_ = ConnectionAccess::receive(connection_, deadline);
  } catch (const EndOfStream&) {
    connection_.close();
    client_->throw_lost();
  } catch (...) {
    connection_.close();
    throw;
  }
  if (!reply_) return false;
  client_->give_back(std::move(connection_));
  return true;
}

std::span<const std::byte> RemoteCall::result() {
  // Ready is also what has come in and was not read yet.
  if (!wait(Deadline::never()) || !reply_) throw StateError("this call has not been answered");
  ByteSource source(*reply_);
  const auto head = decode<RemoteReply>(source);
  const std::span<const std::byte> bytes =
      std::span<const std::byte>(*reply_).subspan(source.position());
  if (head.outcome == CallOutcome::value) return bytes;
  throw_error(decode_error(bytes));
}

// Who has not been answered cannot use the connection again.
void RemoteCall::release() noexcept {
  connection_.close();
  client_.reset();
  object_.reset();
}

class RemoteCall::CallWatch final : public Watch {
 public:
  explicit CallWatch(std::shared_ptr<PendingResult> call)
      : call_(std::static_pointer_cast<RemoteCall>(std::move(call))) {}
  bool look(std::vector<FutexWord>& /*words*/, Deadline& soon) override {
    if (!call_->client_ || call_->ready()) return true;
    soon = soon.sooner(Deadline::after(kBetweenLooks));
    return false;
  }

 private:
  std::shared_ptr<RemoteCall> call_;
};

std::shared_ptr<Watch> RemoteCall::watch(std::shared_ptr<PendingResult> self) {
  return std::make_shared<CallWatch>(std::move(self));
}

}  // namespace brood::detail
