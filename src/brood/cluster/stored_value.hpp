// Values as a cluster's server keeps them: outside of any process, for programs that may be others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <brood/channel/carries_descriptors.hpp>
#include <brood/channel/codec.hpp>
#include <brood/memory/object_kind.hpp>

namespace brood::detail {

/// A type, for a reader that may have another. `print`: of the compiler's name of the type, of its
/// size, and of the same of its parts and fields. What a class's functions for cereal write is not
/// in it.
struct StoredType {
  std::uint64_t print = 0;
  std::string name;  // for people
};

constexpr std::uint64_t mixed(std::uint64_t hash, std::string_view text) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return hash;  // FNV-1a
}
constexpr std::uint64_t mixed(std::uint64_t hash, std::size_t number) {
  return (hash ^ number) * 1099511628211U;
}

template <class T, class Open>
constexpr std::uint64_t mixed_type(std::uint64_t hash);
template <class Open, class... Parts>
constexpr std::uint64_t mixed_types(std::uint64_t hash, TypeList<Parts...>) {
  ((hash = mixed_type<std::remove_const_t<Parts>, Open>(hash)), ...);
  return hash;
}

/// Open: the classes that are being looked into, because a class may hold a container of its kind.
template <class T, class Open>
constexpr std::uint64_t mixed_type(std::uint64_t hash) {
  hash = mixed(hash, name_of_type<T>());
  if constexpr (std::is_array_v<T>) {
    return mixed_type<std::remove_const_t<std::remove_all_extents_t<T>>, Open>(hash);
  } else if constexpr (!std::is_object_v<T> || Open::template contains<T>) {
    return hash;
  } else if constexpr (kCrossing<T> == Crossing::codec) {
    return mixed_types<typename Open::template With<T>>(hash, typename Codec<T>::Parts{});
  } else if constexpr (kCrossing<T> == Crossing::fields) {
    return mixed_types<typename Open::template With<T>>(hash, FieldTypes<T>{});
  } else if constexpr (kCrossing<T> == Crossing::image) {
    hash = mixed(hash, sizeof(T));
    if constexpr (std::is_class_v<T> && !enable_bytewise<T> && !HasCodec<T> && !kIsBytewiseStd<T>) {
      return mixed_types<typename Open::template With<T>>(hash, FieldTypes<T>{});
    }
    return hash;
  } else {
    return hash;
  }
}

/// The T of a compiler's text about name_of_type<T>().
std::string readable_type(std::string_view text);

template <class... Ts>
StoredType stored_type() {
  constexpr std::uint64_t kPrint =
      mixed_types<TypeList<>>(14695981039346656037U, TypeList<std::remove_cv_t<Ts>...>{});
  std::string name;
  ((name += (name.empty() ? "" : ", ") + readable_type(name_of_type<Ts>())), ...);
  return {.print = kPrint, .name = std::move(name)};
}

/// Throws ArgumentError: it names something in shared memory.
[[noreturn]] void refuse_shared_memory();

/// Throws TypeMismatch.
[[noreturn]] void refuse_print(const char* noun, const std::string& name, const std::string& type);

/// Throws TypeMismatch if a handle that came as bytes is not one to something of Ts.
template <class... Ts>
void require_print(std::uint64_t print, const char* noun, const std::string& name) {
  const StoredType type = stored_type<Ts...>();
  if (print != type.print) refuse_print(noun, name, type.name);
}

template <class T>
constexpr void require_storable() {
  require_sendable<T>();
  static_assert(!kCarriesDescriptors<T>,
                "a connection or descriptor cannot go to a cluster's server: send values");
}

/// Throws ArgumentError for handles to shared memory.
template <class T>
std::vector<std::byte> stored_bytes(const T& value) {
  VectorSink sink;
  encode(sink, value);
  if (sink.keeps()) refuse_shared_memory();
  return sink.take();
}

template <class T>
T stored_value(std::span<const std::byte> bytes) {
  ByteSource source(bytes);
  return decode<T>(source);
}

}  // namespace brood::detail
