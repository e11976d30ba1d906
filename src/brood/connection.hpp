// Layer: channel
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/carries_descriptors.hpp>
#include <brood/channel/codec.hpp>
#include <brood/channel/descriptor_box.hpp>
#include <brood/channel/message.hpp>
#include <brood/channel/transport.hpp>
#include <brood/errors.hpp>
#include <brood/platform/deadline.hpp>

namespace brood {

namespace detail {
struct ConnectionAccess;
}
struct Address;
struct ConnectOptions;

/// One end of a connection between two processes, or two threads: values and bytes go in as
/// messages and come out at the other end, whole and in order.
///
///     brood::Pipe pipe;
///     pipe.first.send(std::map<std::string, int>{{"one", 1}});
///     auto map = pipe.second.recv<std::map<std::string, int>>();
///
/// Who may use it at once: any number of threads may send and receive; messages of several senders
/// do not mix, and each is received once. Moving, closing and destroying it is for one thread,
/// while no other uses it.
///
/// Where its bytes live: in the kernel, and large messages in memory files without a name, of which
/// no more than a few are on their way (then senders wait). Nothing is buffered in this object, so
/// descriptor() is readable exactly while there is a message, or the end. One that is encrypted
/// (see Listener) has messages that are coming in private memory; its descriptor() may be readable
/// for the beginning of one, too.
///
/// When a holder dies: what it had sent is delivered, then recv() throws EndOfStream, at once. A
/// message that was not sent to its end was not sent. Sending to it throws EndOfStream; no signal
/// is raised. An end goes to another process as an argument of a Process, or through
/// another connection: then it is there and no more here. In a child made by StartMethod::fork
/// every other end that its parent had is at its end. Memory ordering: what happened before send()
/// is visible after the recv() that returned it.
///
/// Errors: EndOfStream; StateError when it is closed, or of the other direction; MessageTooLarge;
/// DecodeError for bytes that are not of the type asked for (the message is gone then, the next can
/// be received); SystemError. Waiting without a deadline is what the name without `_for` does;
/// `try_..._for` returns false or nullopt when the time has passed, and then nothing was sent or
/// received.
class Connection {
 public:
  static constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

  /// Closed.
  Connection() = default;
  Connection(Connection&& other) noexcept = default;
  Connection& operator=(Connection&& other) noexcept = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() = default;

  /// Sends a value. One with a connection or descriptor in it is moved from: it is at the other end
  /// then, and no more here.
  template <class T>
  void send(T&& value) {
    send_until(std::forward<T>(value), detail::Deadline::never());
  }
  template <class T, class Rep, class Period>
  [[nodiscard]] bool try_send_for(T&& value, std::chrono::duration<Rep, Period> timeout) {
    return send_until(std::forward<T>(value), detail::Deadline::after(timeout));
  }
  /// Receives a value of the type that was sent.
  template <class T>
  T recv() {
    return std::move(*recv_until<T>(detail::Deadline::never()));
  }
  template <class T, class Rep, class Period>
  [[nodiscard]] std::optional<T> try_recv_for(std::chrono::duration<Rep, Period> timeout) {
    return recv_until<T>(detail::Deadline::after(timeout));
  }

  /// Sends bytes as one message; it may be empty.
  void send_bytes(std::span<const std::byte> bytes);
  void send_bytes(std::string_view text) { send_bytes(std::as_bytes(std::span(text))); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_send_bytes_for(std::span<const std::byte> bytes,
                                        std::chrono::duration<Rep, Period> timeout) {
    return send_bytes_until(bytes, detail::Deadline::after(timeout));
  }
  /// Receives the bytes of a message; MessageTooLarge, and the message is gone, if there are more
  /// than `most`.
  std::vector<std::byte> recv_bytes(std::uint64_t most = kNoLimit);
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::vector<std::byte>> try_recv_bytes_for(
      std::chrono::duration<Rep, Period> timeout) {
    return recv_bytes_until(kNoLimit, detail::Deadline::after(timeout));
  }
  /// Receives them to `to`, and returns how many. Throws BufferTooShort, which has the message.
  std::size_t recv_bytes_into(std::span<std::byte> to);
  template <class Rep, class Period>
  [[nodiscard]] std::optional<std::size_t> try_recv_bytes_into_for(
      std::span<std::byte> to, std::chrono::duration<Rep, Period> timeout) {
    return recv_bytes_into_until(to, detail::Deadline::after(timeout));
  }

  /// Whether there is a message, or the end, now or within `timeout`.
  [[nodiscard]] bool poll() const { return poll_until(detail::Deadline::now()); }
  template <class Rep, class Period>
  [[nodiscard]] bool poll(std::chrono::duration<Rep, Period> timeout) const {
    return poll_until(detail::Deadline::after(timeout));
  }

  /// Lets go of this end: the other end's is reached when it has received everything.
  void close() noexcept { transport_.reset(); }
  [[nodiscard]] bool closed() const noexcept { return transport_ == nullptr; }
  /// Which directions this end has.
  [[nodiscard]] bool readable() const noexcept { return !closed() && readable_; }
  [[nodiscard]] bool writable() const noexcept { return !closed() && writable_; }
  /// For poll, epoll and the like; it belongs to this object. Throws StateError when closed.
  [[nodiscard]] int descriptor() const;
  [[nodiscard]] int fileno() const { return descriptor(); }

 private:
  friend struct Pipe;
  friend class Listener;
  friend Connection connect(const Address& address, const ConnectOptions& options);
  friend struct detail::Codec<Connection>;
  friend struct detail::ConnectionAccess;
  Connection(std::unique_ptr<detail::Transport> transport, bool readable, bool writable);

  template <class T>
  bool send_until(T&& value, detail::Deadline deadline) {
    using Value = std::remove_cvref_t<T>;
    constexpr bool kMoves = detail::kCarriesDescriptors<Value>;
    static_assert(!kMoves || !(std::is_lvalue_reference_v<T> || std::is_const_v<T>),
                  "a value with a connection or descriptor in it goes to the other end: pass it as "
                  "std::move(value)");
    require_writable();
    detail::DescriptorOutbox outbox;
    detail::MessageSink sink(transport_->passes_descriptors());
    sink.set_outbox(&outbox);
    detail::encode(sink, value);
    if (!send_encoded(sink, outbox, deadline)) return false;
    if constexpr (kMoves) [[maybe_unused]]
      const Value gone(std::forward<T>(value));
    return true;
  }

  template <class T>
  std::optional<T> recv_until(detail::Deadline deadline) {
    std::optional<detail::Incoming> message = receive(deadline);
    if (!message) return std::nullopt;
    detail::DescriptorInbox inbox(std::move(message->descriptors));
    detail::ByteSource source(encoded(*message), &inbox);
    std::optional<T> value(detail::decode<T>(source));
    if (source.remaining() != 0) source.throw_corrupt("the end of a message");
    transport_->recycle(*message);
    return value;
  }

  void require_open() const;
  void require_readable() const;
  void require_writable() const;
  [[nodiscard]] bool poll_until(detail::Deadline deadline) const;
  bool send_encoded(detail::MessageSink& sink, const detail::DescriptorOutbox& outbox,
                    detail::Deadline deadline);
  bool send_message(const detail::Outgoing& message, detail::Deadline deadline);
  bool send_bytes_until(std::span<const std::byte> bytes, detail::Deadline deadline);
  std::optional<detail::Incoming> receive(detail::Deadline deadline);
  std::optional<std::vector<std::byte>> recv_bytes_until(std::uint64_t most,
                                                         detail::Deadline deadline);
  std::optional<std::size_t> recv_bytes_into_until(std::span<std::byte> to,
                                                   detail::Deadline deadline);
  /// The bytes of a value. Throws DecodeError if the message is none.
  static std::span<const std::byte> encoded(detail::Incoming& message);

  std::unique_ptr<detail::Transport> transport_;  // none: closed
  bool readable_ = false;
  bool writable_ = false;
};

struct PipeOptions {
  /// Both ends send and receive; otherwise `first` receives and `second` sends.
  bool duplex = true;
  /// Longer messages are refused at both ends.
  std::uint64_t max_message_bytes = Connection::kNoLimit;
};

/// Two connected ends.
///
///     auto [mine, theirs] = brood::Pipe();
///
/// Throws SystemError.
struct Pipe {
  explicit Pipe(const PipeOptions& options = {});

  Connection first;
  Connection second;
};

namespace detail {

/// For those in this library who need more of it.
struct ConnectionAccess {
  /// As try_send_bytes_for and try_recv_bytes_for.
  static bool send(Connection& connection, std::span<const std::byte> bytes, Deadline deadline) {
    return connection.send_bytes_until(bytes, deadline);
  }
  static std::optional<std::vector<std::byte>> receive(Connection& connection, Deadline deadline) {
    return connection.recv_bytes_until(Connection::kNoLimit, deadline);
  }
  static bool poll(const Connection& connection, Deadline deadline) {
    return connection.poll_until(deadline);
  }
  /// From any thread: whoever sends or receives sees the end.
  static void interrupt(const Connection& connection) noexcept {
    if (connection.transport_) connection.transport_->interrupt();
  }
};

template <>
struct Codec<Connection> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1;
  static constexpr bool kCarriesDescriptors = true;
  static void write(Encoder& to, const Connection& connection);
  static Connection read(Decoder& from);
};

}  // namespace detail
}  // namespace brood
