// Layer: channel
// Values as bytes: all that other files need of it.
//
//     VectorSink sink;
//     encode(sink, std::map<std::string, int>{{"one", 1}});
//     ByteSource source(sink.bytes());
//     auto copy = decode<std::map<std::string, int>>(source);
//
// Bytes mean something only to the same build of the program on the same kind of machine: numbers
// are written as they lie in memory, and nothing says of which type they are.
#pragma once

#include <type_traits>

#include <cereal/cereal.hpp>

#include <brood/channel/archive.hpp>
#include <brood/channel/bytes.hpp>
#include <brood/channel/codec_containers.hpp>
#include <brood/channel/codec_shared_memory.hpp>
#include <brood/channel/codec_values.hpp>
#include <brood/channel/function_pointer.hpp>
#include <brood/channel/handle_codec.hpp>
#include <brood/channel/sendable.hpp>
#include <brood/errors.hpp>

namespace brood::detail {

/// Writes `value`. Throws what the sink throws, and DecodeError if the value is nested too deeply.
template <class T>
void encode(ByteSink& sink, const T& value) {
  require_sendable<T>();
  if constexpr (kCrossing<T> == Crossing::image) {
    sink.write(&value, sizeof(T));
  } else if constexpr (Sendable<T>) {
    Encoder(sink).put(value);
  }
}

/// Reads a value; what follows it stays in the source. Throws DecodeError for truncated or damaged
/// bytes, which never do worse harm than another value of the type.
template <class T>
T decode(ByteSource& source) {
  require_sendable<T>();
  if constexpr (!Sendable<T>) {
    __builtin_unreachable();
  } else if constexpr (kCrossing<T> == Crossing::image) {
    return read_image<T>(source);
  } else {
    try {
      return Decoder(source).get<T>();
    } catch (const cereal::Exception& error) {
      throw DecodeError(error.what());
    }
  }
}

}  // namespace brood::detail
