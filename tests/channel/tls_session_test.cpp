// Two sides of TLS in one thread, and a server with a certificate, which this one must not like.
#include <brood/channel/tls_session.hpp>

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <brood/errors.hpp>

namespace brood::detail::tls_session_test {
namespace {

using Side = TlsContext::Side;

TlsSession session(Side side, std::string_view key) {
  return TlsSession(std::make_shared<const TlsContext>(side, key));
}

/// What one has to say goes to the other, in pieces of `step` bytes.
void deliver(TlsSession& from, TlsSession& to, std::size_t step = 100'000) {
  const auto output = from.output().first(std::min(step, from.output().size()));
  const std::vector<std::byte> bytes(output.begin(), output.end());
  from.sent(bytes.size());
  to.feed(bytes);
}

/// True when both are done.
bool shake_hands(TlsSession& client, TlsSession& server, std::size_t step = 100'000) {
  for (int i = 0; i < 3000; ++i) {
    const bool done = client.handshake();
    deliver(client, server, step);
    if (server.handshake() && done) return true;
    deliver(server, client, step);
  }
  return false;
}

std::string read_all(TlsSession& from) {
  std::string text;
  std::vector<std::byte> buffer(TlsSession::kMostInRecord);
  while (const std::size_t count = from.read(buffer)) {
    text.append(reinterpret_cast<const char*>(buffer.data()), count);
  }
  return text;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(TlsSession, BothSidesWithOneKeyUnderstandEachOther) {
  for (const std::string& key : {std::string("key"), std::string(), std::string(256, '\0')}) {
    TlsSession client = session(Side::client, key);
    TlsSession server = session(Side::server, key);
    ASSERT_TRUE(shake_hands(client, server));
    client.write(bytes_of("to the server"));
    server.write(bytes_of("to the client"));
    EXPECT_EQ(
        std::string(reinterpret_cast<const char*>(client.output().data()), client.output().size())
            .find("server"),
        std::string::npos)
        << "it is encrypted";
    deliver(client, server);
    deliver(server, client);
    EXPECT_EQ(read_all(server), "to the server");
    EXPECT_EQ(read_all(client), "to the client");
    client.end();
    deliver(client, server);
    EXPECT_EQ(read_all(server), "");
    EXPECT_TRUE(server.ended());
    EXPECT_FALSE(client.ended());
  }
}

TEST(TlsSession, AHandshakeByteByByteIsOne) {
  TlsSession client = session(Side::client, "key");
  TlsSession server = session(Side::server, "key");
  EXPECT_TRUE(shake_hands(client, server, 1));
}

TEST(TlsSession, AnotherKeyIsRefusedByTheServerAndTheClientIsTold) {
  TlsSession client = session(Side::client, "key");
  TlsSession server = session(Side::server, "other");
  EXPECT_FALSE(client.handshake());
  deliver(client, server);
  EXPECT_THROW(server.handshake(), AuthenticationError);
  ASSERT_FALSE(server.output().empty()) << "an alert";
  deliver(server, client);
  EXPECT_THROW(client.handshake(), AuthenticationError);
}

TEST(TlsSession, AByteThatIsChangedOnTheWayIsNoticed) {
  for (const std::size_t at : {0U, 5U, 20U}) {
    TlsSession client = session(Side::client, "key");
    TlsSession server = session(Side::server, "key");
    ASSERT_TRUE(shake_hands(client, server));
    client.write(bytes_of("a text"));
    std::vector<std::byte> bytes(client.output().begin(), client.output().end());
    bytes[at] ^= std::byte{1};
    server.feed(bytes);
    EXPECT_THROW(read_all(server), DecodeError) << at;
  }
}

TEST(TlsSession, ARecordThatIsSentAgainOrLeftOutIsNoticed) {
  TlsSession client = session(Side::client, "key");
  TlsSession server = session(Side::server, "key");
  ASSERT_TRUE(shake_hands(client, server));
  client.write(bytes_of("one"));
  const std::vector<std::byte> one(client.output().begin(), client.output().end());
  client.sent(one.size());
  server.feed(one);
  EXPECT_EQ(read_all(server), "one");
  server.feed(one);
  EXPECT_THROW(read_all(server), DecodeError);
}

TEST(TlsSession, TheKeyIsChangedBeforeItIsWornOut) {
  TlsSession client = session(Side::client, "key");
  TlsSession server = session(Side::server, "key");
  ASSERT_TRUE(shake_hands(client, server));
  std::vector<std::byte> buffer(16);
  std::size_t largest = 0;
  for (std::uint64_t i = 0; i < TlsSession::kRecordsPerKey + 10; ++i) {
    client.write(bytes_of("x"));
    largest = std::max(largest, client.output().size());
    deliver(client, server);
    ASSERT_EQ(server.read(buffer), 1U) << i;
  }
  EXPECT_GT(largest, 40U) << "one of them had a message about the key with it";
}

/// A TLS server as others run them: with a certificate that it made itself, and without the key.
class CertificateServer {
 public:
  CertificateServer() : context_(SSL_CTX_new(TLS_server_method())), key_(EVP_EC_gen("P-256")) {
    X509* const certificate = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key_);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_sign(certificate, key_, EVP_sha256());
    SSL_CTX_use_certificate(context_, certificate);
    SSL_CTX_use_PrivateKey(context_, key_);
    X509_free(certificate);
    session_ = SSL_new(context_);
    SSL_set_bio(session_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(session_);
  }
  CertificateServer(const CertificateServer&) = delete;
  CertificateServer& operator=(const CertificateServer&) = delete;
  ~CertificateServer() {
    SSL_free(session_);
    EVP_PKEY_free(key_);
    SSL_CTX_free(context_);
  }

  std::vector<std::byte> answer(std::span<const std::byte> bytes) {
    BIO_write(SSL_get_rbio(session_), bytes.data(), static_cast<int>(bytes.size()));
    SSL_do_handshake(session_);
    ERR_clear_error();
    std::vector<std::byte> out(20'000);
    out.resize(static_cast<std::size_t>(
        std::max(BIO_read(SSL_get_wbio(session_), out.data(), static_cast<int>(out.size())), 0)));
    return out;
  }

 private:
  SSL_CTX* context_;
  EVP_PKEY* key_;
  SSL* session_ = nullptr;
};

TEST(TlsSession, AServerWithACertificateInsteadOfTheKeyIsRefused) {
  CertificateServer server;
  TlsSession client = session(Side::client, "key");
  EXPECT_FALSE(client.handshake());
  const std::vector<std::byte> answer = server.answer(client.output());
  ASSERT_GT(answer.size(), 300U) << "a certificate and more";
  client.feed(answer);
  try {
    client.handshake();
    ADD_FAILURE() << "it was let in";
  } catch (const AuthenticationError& e) {
    EXPECT_NE(std::string(e.what()).find("certificate"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace brood::detail::tls_session_test
