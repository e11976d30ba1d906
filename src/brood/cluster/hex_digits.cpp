#include <brood/cluster/hex_digits.hpp>

#include <vector>

#include <fmt/format.h>

#include <brood/platform/random.hpp>

namespace brood::detail {

std::string hex_digits(std::span<const std::byte> bytes) {
  std::string digits;
  for (const std::byte byte : bytes) digits += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return digits;
}

std::string random_hex_digits(std::size_t bytes) {
  std::vector<std::byte> random(bytes);
  fill_random(random);
  return hex_digits(random);
}

}  // namespace brood::detail
