#include <brood/cluster/envelope.hpp>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/keyed_hash.hpp>
#include <brood/cluster/hex_digits.hpp>
#include <brood/errors.hpp>

namespace brood::detail {
namespace {

static_assert(Envelope::kBytes == sizeof(KeyedHash));

std::string derived(std::string_view key, std::string_view text) {
  const KeyedHash hash = keyed_hash(key, std::as_bytes(std::span(text)));
  return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}

}  // namespace

Envelope::Envelope(std::string_view key, std::string_view label) : key_(derived(key, label)) {}

std::string Envelope::key_about(std::string_view about) const {
  return about.empty() ? key_ : derived(key_, about);
}

std::vector<std::byte> Envelope::seal(std::span<const std::byte> bytes,
                                      std::string_view about) const {
  const KeyedHash hash = keyed_hash(key_about(about), bytes);
  std::vector<std::byte> sealed;
  sealed.reserve(bytes.size() + hash.size());
  sealed.insert(sealed.end(), bytes.begin(), bytes.end());
  sealed.insert(sealed.end(), hash.begin(), hash.end());
  return sealed;
}

std::vector<std::byte> Envelope::seal(std::vector<std::byte>&& bytes) const {
  const KeyedHash hash = keyed_hash(key_, bytes);
  bytes.insert(bytes.end(), hash.begin(), hash.end());
  return std::move(bytes);
}

std::span<const std::byte> Envelope::open(std::span<const std::byte> bytes,
                                          std::string_view about) const {
  KeyedHash said{};
  if (bytes.size() < said.size()) {
    throw DecodeError(fmt::format("{} bytes are nothing that a cluster signed", bytes.size()));
  }
  const auto body = bytes.first(bytes.size() - said.size());
  std::ranges::copy(bytes.last(said.size()), said.begin());
  if (!equal(said, keyed_hash(key_about(about), body))) {
    throw AuthenticationError(
        "bytes in the cluster were not signed with its key: another key, or a stranger");
  }
  return body;
}

std::string Envelope::proof(std::string_view about) const {
  return hex_digits(keyed_hash(key_, std::as_bytes(std::span(about))));
}

}  // namespace brood::detail
