#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace brood::detail {

/// HMAC-SHA256 (RFC 2104): who does not know the key cannot make it.
using KeyedHash = std::array<std::byte, 32>;

/// Any key, also an empty one. Throws Error if OpenSSL cannot.
KeyedHash keyed_hash(std::string_view key, std::span<const std::byte> bytes);

/// Takes as long for any two, so that nobody learns by trying.
bool equal(const KeyedHash& a, const KeyedHash& b) noexcept;

}  // namespace brood::detail
