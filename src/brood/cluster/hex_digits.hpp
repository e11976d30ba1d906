#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace brood::detail {

/// Two digits for each byte, of 0-9a-f.
std::string hex_digits(std::span<const std::byte> bytes);
/// The same of so many bytes by chance, for names that nobody guesses.
std::string random_hex_digits(std::size_t bytes);

}  // namespace brood::detail
