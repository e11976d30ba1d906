#include <brood/channel/bytes.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {

void VectorSink::reserve(std::size_t capacity) {
  const std::size_t used = written();
  buffer_.resize(capacity);
  set_buffer(buffer_.data(), used, buffer_.size());
}

void VectorSink::grow(std::size_t at_least) {
  constexpr std::size_t kFirst = 256;
  reserve(std::max({kFirst, written() + at_least, 2 * buffer_.size()}));
}

void ByteSource::throw_truncated(std::size_t wanted) const {
  throw DecodeError(fmt::format(
      "cannot decode: {} bytes are wanted at byte {}, but there are only {} in all; the bytes are "
      "truncated, damaged, or of a value of another type",
      wanted, position(), position() + remaining()));
}

void ByteSource::throw_corrupt(const char* what) const {
  throw DecodeError(
      fmt::format("cannot decode: wrong bytes for {} before byte {} of {}; the bytes are damaged, "
                  "or of a value "
                  "of another type",
                  what, position(), position() + remaining()));
}

}  // namespace brood::detail
