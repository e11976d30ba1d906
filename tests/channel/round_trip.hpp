// A value, written and read again.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include <brood/channel/codec.hpp>

namespace brood::detail {

template <class T>
std::vector<std::byte> encoded(const T& value) {
  VectorSink sink;
  encode(sink, value);
  return sink.take();
}

/// What the other process would get; everything that was written must have been read.
template <class T>
T round_trip(const T& value) {
  const std::vector<std::byte> bytes = encoded(value);
  ByteSource source(bytes);
  T copy = decode<T>(source);
  EXPECT_EQ(source.remaining(), 0U) << "of " << bytes.size() << " bytes";
  return copy;
}

}  // namespace brood::detail
