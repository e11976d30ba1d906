#include <brood/channel/tls_handshake.hpp>

#include <array>
#include <optional>
#include <utility>

#include <brood/channel/tls_transport.hpp>
#include <brood/errors.hpp>
#include <brood/platform/byte_stream.hpp>
#include <brood/platform/poller.hpp>

namespace brood::detail {
namespace {

/// Both sides of a handshake need less than a thousand bytes.
constexpr std::size_t kMostReceived = std::size_t{16} << 10U;

}  // namespace

TlsHandshake::TlsHandshake(Fd socket, std::shared_ptr<const TlsContext> context)
    : socket_(std::move(socket)), session_(std::make_unique<TlsSession>(std::move(context))) {}

void TlsHandshake::send_output() {
  while (!session_->output().empty()) {
    const std::optional<std::size_t> sent = send_some(socket_.get(), session_->output());
    // So little fits into the buffer of any new connection.
    if (!sent || *sent == 0) {
      throw AuthenticationError("the other side went away before it had proved its authkey");
    }
    session_->sent(*sent);
  }
}

bool TlsHandshake::step() {
  std::array<std::byte, 4096> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (;;) {
    bool done = false;
    try {
      done = session_->handshake();
    } catch (const AuthenticationError&) {
      // The other side shall learn that it was refused; if it is not there, that is no news.
      static_cast<void>(send_some(socket_.get(), session_->output()));
      finish_stream(socket_.get());
      throw;
    }
    send_output();
    if (done) return true;
    const std::optional<std::size_t> got = receive_some(socket_.get(), buffer);
    if (!got) return false;
    if (*got == 0) {
      throw AuthenticationError("the other side went away before it had proved its authkey");
    }
    received_ += *got;
    if (received_ > kMostReceived) {
      throw AuthenticationError("the other side sent far more than is needed to prove an authkey");
    }
    session_->feed(std::span(buffer).first(*got));
  }
}

void TlsHandshake::run(Deadline deadline) {
  while (!step()) {
    if (!wait_readable(socket_.get(), deadline)) {
      throw TimeoutError(
          "connected, but the other side did not prove its authkey in time: is it a Listener, and "
          "does it accept?");
    }
  }
}

std::unique_ptr<Transport> TlsHandshake::finish(std::uint64_t limit) && {
  return std::make_unique<TlsTransport>(std::move(socket_), std::move(session_), limit);
}

}  // namespace brood::detail
