#include <brood/channel/tls_session.hpp>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

/// Of the key that TLS uses, so that the authkey itself is good for other things. It changes with
/// the protocol: sides of different versions do not know each other.
constexpr std::string_view kLabel = "brood connection 1";
/// What the client calls the key. It says nothing about it.
constexpr std::string_view kIdentity = "brood";
/// Its hash is that of the key above.
constexpr const char* kCipherName = "TLS_AES_128_GCM_SHA256";
constexpr std::array<unsigned char, 2> kCipherId{0x13, 0x01};

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

/// What OpenSSL has to say; empties its queue of errors, which belongs to the thread.
std::string last_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* const reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  return reason != nullptr ? reason : fmt::format("error {:#x}", code);
}

[[noreturn]] void throw_unable(const char* what) {
  throw Error(fmt::format("OpenSSL cannot {}: {}", what, last_error()));
}

const TlsContext& context_of(SSL* session) {
  return *static_cast<const TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(session)));
}

/// The key as OpenSSL wants it; null if it cannot be made.
SSL_SESSION* key_session(SSL* session) {
  const std::span<const unsigned char> key = context_of(session).key();
  const SSL_CIPHER* const cipher = SSL_CIPHER_find(session, kCipherId.data());
  SSL_SESSION* const made = SSL_SESSION_new();
  if (made != nullptr && cipher != nullptr &&
      SSL_SESSION_set1_master_key(made, key.data(), key.size()) == 1 &&
      SSL_SESSION_set_cipher(made, cipher) == 1 &&
      SSL_SESSION_set_protocol_version(made, TLS1_3_VERSION) == 1) {
    return made;
  }
  SSL_SESSION_free(made);
  return nullptr;
}

}  // namespace

extern "C" {
// The server: which key does the client mean? None: OpenSSL goes on without, and fails for want of
// a certificate.
static int brood_find_key(SSL* session, const unsigned char* identity, std::size_t length,
                          SSL_SESSION** found) {
  const std::string_view name(reinterpret_cast<const char*>(identity), length);
  *found = name == kIdentity ? key_session(session) : nullptr;
  return name == kIdentity && *found == nullptr ? 0 : 1;
}

// The client: which key for this hash?
static int brood_use_key(SSL* session, const EVP_MD* hash, const unsigned char** identity,
                         std::size_t* length, SSL_SESSION** used) {
  *used = nullptr;
  if (hash != nullptr && EVP_MD_is_a(hash, "SHA256") == 0) return 1;
  *used = key_session(session);
  *identity = bytes_of(kIdentity);
  *length = kIdentity.size();
  return *used != nullptr ? 1 : 0;
}
}

void TlsContext::Free::operator()(ssl_ctx_st* context) const noexcept { SSL_CTX_free(context); }
void TlsSession::Free::operator()(ssl_st* session) const noexcept { SSL_free(session); }

TlsContext::TlsContext(Side side, std::string_view authkey)
    : side_(side),
      context_(SSL_CTX_new(side == Side::server ? TLS_server_method() : TLS_client_method())) {
  ERR_clear_error();
  // HKDF-Extract: the label is the salt, so that a key of any length, also none, is one of 32
  // bytes.
  static constexpr unsigned char kNone = 0;
  unsigned int length = 0;
  if (HMAC(EVP_sha256(), kLabel.data(), static_cast<int>(kLabel.size()),
           authkey.empty() ? &kNone : bytes_of(authkey), authkey.size(), key_.data(),
           &length) == nullptr ||
      length != key_.size()) {
    throw_unable("compute HMAC-SHA256");
  }
  SSL_CTX* const context = context_.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, kCipherName) != 1 ||
      SSL_CTX_set1_groups_list(context, "X25519:P-256") != 1 ||
      SSL_CTX_set_num_tickets(context, 0) != 1 || SSL_CTX_set_max_early_data(context, 0) != 1 ||
      SSL_CTX_set_app_data(context, this) != 1) {
    throw_unable("use TLS 1.3");
  }
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  if (side == Side::server) {
    SSL_CTX_set_psk_find_session_callback(context, brood_find_key);
  } else {
    SSL_CTX_set_psk_use_session_callback(context, brood_use_key);
    // A server with a certificate would otherwise be good enough: nobody is trusted to sign one.
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  }
}

TlsContext::~TlsContext() { OPENSSL_cleanse(key_.data(), key_.size()); }

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context)
    : context_(std::move(context)), session_(SSL_new(context_->context_.get())) {
  SSL* const session = session_.get();
  if (session == nullptr) throw_unable("begin a session");
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  if (in == nullptr || out == nullptr) {
    BIO_free(in);
    BIO_free(out);
    throw_unable("make a buffer");
  }
  BIO_set_mem_eof_return(in, -1);  // empty is not the end
  BIO_set_mem_eof_return(out, -1);
  SSL_set_bio(session, in, out);
  if (context_->side() == TlsContext::Side::server) {
    SSL_set_accept_state(session);
  } else {
    SSL_set_connect_state(session);
  }
}

void TlsSession::feed(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const int length = static_cast<int>(bytes.size());
  if (BIO_write(SSL_get_rbio(session_.get()), bytes.data(), length) != length) {
    throw std::bad_alloc();
  }
}

std::span<const std::byte> TlsSession::output() const {
  char* data = nullptr;
  const long length = BIO_get_mem_data(SSL_get_wbio(session_.get()), &data);
  return {reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(std::max(length, 0L))};
}

void TlsSession::sent(std::size_t count) {
  std::array<char, 4096> dropped;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  while (count > 0) {
    const int part = BIO_read(SSL_get_wbio(session_.get()), dropped.data(),
                              static_cast<int>(std::min(count, dropped.size())));
    if (part <= 0) return;
    count -= static_cast<std::size_t>(part);
  }
}

bool TlsSession::handshake() {
  ERR_clear_error();
  const int done = SSL_do_handshake(session_.get());
  if (done == 1) {
    // SUBTLE: with the key it is taken for the resumption of a session. Whoever got here otherwise
    // has proved something else.
    if (SSL_session_reused(session_.get()) == 1) return true;
    throw AuthenticationError("the other side did not use the authkey");
  }
  const int error = SSL_get_error(session_.get(), done);
  if (error == SSL_ERROR_WANT_READ) return false;
  throw AuthenticationError(
      fmt::format("the other side has another authkey, or is none of Brood's: {}", last_error()));
}

void TlsSession::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  ERR_clear_error();
  if (++written_ % kRecordsPerKey == 0 &&
      SSL_key_update(session_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) != 1) {
    throw_unable("change the key");
  }
  const int length = static_cast<int>(bytes.size());
  if (SSL_write(session_.get(), bytes.data(), length) != length) throw_unable("encrypt");
}

std::size_t TlsSession::read(std::span<std::byte> to) {
  if (ended_) return 0;
  // Behind the last record: OpenSSL takes as long to see that there is nothing as to read a short
  // one.
  if (BIO_pending(SSL_get_rbio(session_.get())) == 0 && SSL_has_pending(session_.get()) == 0)
    return 0;
  ERR_clear_error();
  const int got = SSL_read(session_.get(), to.data(), static_cast<int>(to.size()));
  if (got > 0) return static_cast<std::size_t>(got);
  switch (SSL_get_error(session_.get(), got)) {
    case SSL_ERROR_WANT_READ:
      return 0;
    case SSL_ERROR_ZERO_RETURN:
      ended_ = true;
      return 0;
    default:
      throw DecodeError(
          fmt::format("what came is not what the other end sent: {}; this connection is of no use "
                      "any more",
                      last_error()));
  }
}

void TlsSession::end() {
  ERR_clear_error();
  SSL_shutdown(session_.get());
  ERR_clear_error();
}

}  // namespace brood::detail
