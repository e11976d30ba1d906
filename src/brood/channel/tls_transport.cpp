#include <brood/channel/tls_transport.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <brood/errors.hpp>
#include <brood/platform/byte_stream.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kReceiveBytes = std::size_t{64} << 10U;
/// After its deadline a receiver still takes what is there already, but does not follow somebody
/// who sends faster than it reads.
constexpr int kMostPullsAfterDeadline = 1024;
/// What the other end may make us want to send without reading it.
constexpr std::size_t kMostUnsent = std::size_t{1} << 20U;

template <class T>
void append(std::vector<std::byte>& to, const T& object) {
  const auto bytes = std::as_bytes(std::span(&object, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

}  // namespace

/// A role that one thread has at a time. Ends with the lock held, whatever happened.
class TlsTransport::Turn {
 public:
  Turn(TlsTransport& of, Lock& lock, bool& taken) : of_(of), lock_(lock), taken_(taken) {
    taken_ = true;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (!lock_.owns_lock()) lock_.lock();
    taken_ = false;
    of_.turn_over_.notify_all();  // lint: condition_variable
  }

 private:
  TlsTransport& of_;
  Lock& lock_;
  bool& taken_;
};

TlsTransport::TlsTransport(ForkLocalFd socket, std::unique_ptr<TlsSession> session,
                           std::uint64_t limit)
    : Transport(limit),
      pid_(current_pid()),
      socket_(std::move(socket)),
      session_(std::move(session)),
      parser_(limit) {
  decrypt({});  // what came behind the handshake
}

// SUBTLE: a copy of this process that somebody made by fork(2) has the same keys and counters. Two
// messages encrypted with the same ones would give both away: a copy says nothing.
void TlsTransport::require_own() const {
  if (current_pid() == pid_) return;
  throw StateError("this encrypted connection is another process's, of which this one is a copy");
}

TlsTransport::~TlsTransport() {
  if (current_pid() != pid_) return;
  try {
    // Behind a part of a message nothing can be said.
    if (broken_.empty() && !deaf_ && session_->output().empty()) {
      session_->end();
      static_cast<void>(send_some(socket_.get(), session_->output()));
    }
  } catch (const Error& e) {
    static_cast<void>(e);  // closing the socket says the same
  }
  finish_stream(socket_.get());
}

int TlsTransport::descriptor() {
  const Lock lock(mutex_);
  if (!sign_) sign_.emplace(socket_.get());
  show();
  return sign_->descriptor();
}

// SUBTLE: the socket is not readable when its bytes have been taken, here by poll() or by a thread
// that wanted but one of several messages: the sign says that there is something nevertheless.
void TlsTransport::show() {
  if (sign_) sign_->set(parser_.ready() || over());
}

bool TlsTransport::await_turn(Lock& lock, Deadline deadline) {
  if (deadline.is_never()) {
    turn_over_.wait(lock);  // lint: condition_variable
    return true;
  }
  if (deadline.passed()) return false;
  turn_over_.wait_until(lock, deadline.when());  // lint: condition_variable
  return true;
}

bool TlsTransport::await_message(Lock& lock, Deadline deadline) {
  int late = 0;
  while (!parser_.ready() && !over()) {
    if (receiving_) {
      if (!await_turn(lock, deadline)) return false;
      continue;
    }
    const Turn turn(*this, lock, receiving_);
    if (deadline.passed() && ++late > kMostPullsAfterDeadline) return false;
    if (!pull(lock, deadline)) return false;
  }
  return true;
}

/// Takes what there is, or waits until there is something. False at the deadline.
bool TlsTransport::pull(Lock& lock, Deadline deadline) {
  received_.resize(kReceiveBytes);
  std::optional<std::size_t> got;
  if (deadline.is_never()) {
    // One system call instead of three where nothing is there yet. This thread alone receives.
    lock.unlock();
    got = await_some(socket_.get(), received_);
    lock.lock();
  } else {
    got = receive_some(socket_.get(), received_);
  }
  if (!got) {
    lock.unlock();
    const bool readable = wait_readable(socket_.get(), deadline);
    lock.lock();
    return readable;
  }
  if (*got == 0) {
    ended_ = true;
  } else {
    decrypt(std::span(received_).first(*got));
  }
  show();
  return true;
}

void TlsTransport::decrypt(std::span<const std::byte> bytes) {
  std::array<std::byte, TlsSession::kMostInRecord> plain;  // NOLINT: written before it is read
  try {
    session_->feed(bytes);
    while (const std::size_t count = session_->read(plain)) {
      parser_.feed(std::span(plain).first(count));
    }
    if (session_->ended()) ended_ = true;
    if (session_->output().size() > kMostUnsent) {
      broken_ = "the other end of this connection asks for new keys and does not read them";
    }
  } catch (const DecodeError& e) {
    broken_ = e.what();
  }
}

void TlsTransport::throw_if_over() const {
  if (!broken_.empty()) throw DecodeError(broken_);
  if (ended_) throw_end_of_stream();
}

std::optional<Incoming> TlsTransport::receive(Deadline deadline) {
  require_own();
  Lock lock(mutex_);
  if (!await_message(lock, deadline)) return std::nullopt;
  if (!parser_.ready()) throw_if_over();
  struct ShowAfterwards {
    TlsTransport& of;
    ~ShowAfterwards() { of.show(); }
  } const afterwards{*this};
  return parser_.take();
}

bool TlsTransport::poll(Deadline deadline) {
  require_own();
  Lock lock(mutex_);
  return await_message(lock, deadline);
}

bool TlsTransport::send(const Outgoing& message, Deadline deadline) {
  require_own();
  Lock lock(mutex_);
  while (sending_) {
    if (!await_turn(lock, deadline)) return false;
  }
  const Turn turn(*this, lock, sending_);
  return send_frames(lock, message, deadline);
}

/// Waits until the kernel would take bytes. False at the deadline.
bool TlsTransport::make_room(Lock& lock, Deadline deadline) {
  lock.unlock();
  const bool writable = wait_writable(socket_.get(), deadline);
  lock.lock();
  return writable;
}

/// Hands everything to the kernel. False at the deadline.
bool TlsTransport::flush(Lock& lock, Deadline deadline) {
  while (!session_->output().empty()) {
    const std::optional<std::size_t> sent = send_some(socket_.get(), session_->output());
    if (!sent) {
      deaf_ = true;
      throw_end_of_stream();
    }
    session_->sent(*sent);
    if (*sent == 0 && !make_room(lock, deadline)) return false;
  }
  return true;
}

bool TlsTransport::send_frames(Lock& lock, const Outgoing& message, Deadline deadline) {
  throw_if_over();
  if (deaf_) throw_end_of_stream();
  if (!flush(lock, deadline)) return false;
  if (std::exchange(owes_abandon_, false)) {
    const FrameHeader abandon{.type = FrameHeader::Type::abandon};
    session_->write(std::as_bytes(std::span(&abandon, 1)));
    if (!flush(lock, deadline)) return false;
  }
  std::span<const std::byte> left = message.bytes;
  for (bool first = true; first || !left.empty(); first = false) {
    // SUBTLE: what is encrypted must be sent, or nothing behind it can be understood. So it is
    // encrypted when there is room: for a whole record, unless the kernel is out of memory.
    if (!deadline.is_never() && !make_room(lock, deadline)) {
      owes_abandon_ = !first;
      return false;
    }
    throw_if_over();  // meanwhile
    const std::size_t head = sizeof(FrameHeader) + (first ? sizeof(MessageHeader) : 0);
    const std::span<const std::byte> part =
        left.first(std::min(left.size(), TlsSession::kMostInRecord - head));
    left = left.subspan(part.size());
    frame_.clear();
    append(frame_, FrameHeader{.length = static_cast<std::uint32_t>(head - sizeof(FrameHeader) +
                                                                    part.size()),
                               .type = first ? FrameHeader::Type::begin : FrameHeader::Type::more});
    if (first) append(frame_, MessageHeader{.kind = message.kind, .length = message.length()});
    frame_.insert(frame_.end(), part.begin(), part.end());
    session_->write(frame_);
    if (flush(lock, deadline)) continue;
    if (left.empty()) {
      // A part of the last record: whether it is received cannot be left to a later send.
      broken_ = "a message was half sent when its time was over";
      show();
      finish_stream(socket_.get());
      throw TimeoutError(
          "the time was over in the middle of a message's last part: it will not "
          "arrive, and this connection had to be ended");
    }
    owes_abandon_ = true;
    return false;
  }
  return true;
}

}  // namespace brood::detail
