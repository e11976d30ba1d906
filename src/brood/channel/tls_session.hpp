// Layer: channel
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

// Of OpenSSL, whose headers no header of ours includes.
struct ssl_ctx_st;
struct ssl_st;

namespace brood::detail {

/// One side of TLS 1.3 in which both prove that they have the same key, and nothing else is proved
/// or accepted: no certificates, no tickets, no early data; always with a key exchange of its own,
/// so that who learns the key later cannot read what was recorded. Immutable; any thread may use
/// it.
class TlsContext {
 public:
  enum class Side : std::uint8_t { server, client };
  /// The key may be any bytes, also none. Throws Error if this OpenSSL cannot do it.
  TlsContext(Side side, std::string_view authkey);
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  ~TlsContext();

  [[nodiscard]] Side side() const { return side_; }
  [[nodiscard]] std::span<const unsigned char> key() const { return key_; }

 private:
  friend class TlsSession;
  struct Free {
    void operator()(ssl_ctx_st* context) const noexcept;
  };
  Side side_;
  std::array<unsigned char, 32> key_{};
  std::unique_ptr<ssl_ctx_st, Free> context_;
};

/// TLS as a machine for bytes: no socket, no waiting. What came from the other side goes in by
/// feed(), what is for it comes out of output(). Used by one thread at a time.
class TlsSession {
 public:
  /// So much goes into one record.
  static constexpr std::size_t kMostInRecord = 16384;
  /// After so many another key is used: AES-GCM is good for some millions.
  static constexpr std::uint64_t kRecordsPerKey = std::uint64_t{1} << 16U;

  explicit TlsSession(std::shared_ptr<const TlsContext> context);

  /// Bytes from the other side.
  void feed(std::span<const std::byte> bytes);
  /// Bytes for it; the first `count` of them are on their way. Valid until the next call.
  [[nodiscard]] std::span<const std::byte> output() const;
  void sent(std::size_t count);

  /// Goes on as far as what was fed allows; true when both have proved the key. Throws
  /// AuthenticationError: what is in output() should be sent nevertheless.
  bool handshake();

  /// Encrypts up to kMostInRecord bytes into one record. Throws Error when it has failed before.
  void write(std::span<const std::byte> bytes);
  /// Decrypts into `to`; 0 if more must be fed. Throws DecodeError if it is not what was sent.
  std::size_t read(std::span<std::byte> to);
  /// The other side has said that it sends no more.
  [[nodiscard]] bool ended() const { return ended_; }
  /// Says so to the other side.
  void end();

 private:
  struct Free {
    void operator()(ssl_st* session) const noexcept;
  };
  std::shared_ptr<const TlsContext> context_;
  std::unique_ptr<ssl_st, Free> session_;
  std::uint64_t written_ = 0;  // records
  bool ended_ = false;
};

}  // namespace brood::detail
