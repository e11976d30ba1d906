// Layer: channel
// Numbers and strings of an error record as bytes.
#pragma once

#include <brood/errors.hpp>

#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace brood::detail {

class ErrorWriter {
 public:
  template <std::integral T>
  void number(T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);  // both ends have this machine's byte order
    bytes_.append(bytes, sizeof value);
  }
  void text(std::string_view text) {
    number(static_cast<std::uint32_t>(text.size()));
    bytes_ += text;
  }
  [[nodiscard]] std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Reads what ErrorWriter wrote. The bytes may be anything: throws DecodeError where they end too
/// early or exceed a limit; never allocates more than they hold.
class ErrorReader {
 public:
  explicit ErrorReader(std::string_view bytes) noexcept : rest_(bytes) {}

  template <std::integral T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text(std::size_t limit = ~std::size_t{0}) {
    const auto size = number<std::uint32_t>();
    if (size > limit) throw DecodeError("bytes of an error do not decode: a text is too long");
    return std::string(take(size));
  }
  void end() const {
    if (!rest_.empty()) throw DecodeError("bytes of an error do not decode: too many bytes");
  }

 private:
  std::string_view take(std::size_t size) {
    if (size > rest_.size()) throw DecodeError("bytes of an error do not decode: too few bytes");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
};

}  // namespace brood::detail
