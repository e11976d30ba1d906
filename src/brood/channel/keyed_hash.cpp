#include <brood/channel/keyed_hash.hpp>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <brood/errors.hpp>

namespace brood::detail {

KeyedHash keyed_hash(std::string_view key, std::span<const std::byte> bytes) {
  static constexpr unsigned char kNone = 0;
  KeyedHash hash{};
  unsigned int length = 0;
  const void* const secret = key.empty() ? static_cast<const void*>(&kNone) : key.data();
  if (HMAC(EVP_sha256(), secret, static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
           reinterpret_cast<unsigned char*>(hash.data()), &length) == nullptr ||
      length != hash.size()) {
    throw Error("OpenSSL cannot compute HMAC-SHA256");
  }
  return hash;
}

bool equal(const KeyedHash& a, const KeyedHash& b) noexcept {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace brood::detail
