// Bytes that whoever reaches the server may have written, and how they are known to be ours.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace brood::detail {

/// Signs and opens bytes under a key of its own for each use, derived from the cluster's once. Any
/// threads at once.
class Envelope {
 public:
  /// What the signature adds.
  static constexpr std::size_t kBytes = 32;

  /// `label`: the use. What was signed for one is nothing to another.
  Envelope(std::string_view key, std::string_view label);

  /// The bytes, the signature behind them. `about`: what they belong to, as the key of a value:
  /// signed too, and not in them.
  [[nodiscard]] std::vector<std::byte> seal(std::span<const std::byte> bytes,
                                            std::string_view about = {}) const;
  /// The same, of bytes that nobody else needs.
  [[nodiscard]] std::vector<std::byte> seal(std::vector<std::byte>&& bytes) const;
  /// What was sealed, which is a part of `bytes`. Throws AuthenticationError for another key, label
  /// or `about`, DecodeError for what is too short to be signed.
  [[nodiscard]] std::span<const std::byte> open(std::span<const std::byte> bytes,
                                                std::string_view about = {}) const;
  /// The signature alone, as 64 hexadecimal digits.
  [[nodiscard]] std::string proof(std::string_view about) const;

 private:
  [[nodiscard]] std::string key_about(std::string_view about) const;

  std::string key_;
};

}  // namespace brood::detail
