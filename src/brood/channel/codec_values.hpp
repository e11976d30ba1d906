// Layer: channel
// How the standard library's small values cross: pairs, optionals, variants, smart pointers, paths.
#pragma once

#include <array>
#include <bitset>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>

#include <brood/channel/archive.hpp>

namespace brood::detail {

template <class A, class B>
struct Codec<std::pair<A, B>> {
  using Parts = TypeList<A, B>;
  static constexpr std::size_t kLeast = least_bytes_of_all(Parts{});
  static void write(Encoder& to, const std::pair<A, B>& value) {
    to.put<std::remove_const_t<A>>(value.first);
    to.put<std::remove_const_t<B>>(value.second);
  }
  static std::pair<A, B> read(Decoder& from) {
    return std::pair<A, B>{from.get<std::remove_const_t<A>>(), from.get<std::remove_const_t<B>>()};
  }
};

template <class... Ts>
struct Codec<std::tuple<Ts...>> {
  using Parts = TypeList<Ts...>;
  static constexpr std::size_t kLeast = least_bytes_of_all(Parts{});
  static void write(Encoder& to, const std::tuple<Ts...>& value) {
    std::apply([&](const auto&... element) { (to.put<std::remove_const_t<Ts>>(element), ...); },
               value);
  }
  static std::tuple<Ts...> read([[maybe_unused]] Decoder& from) {
    return std::tuple<Ts...>{from.get<std::remove_const_t<Ts>>()...};
  }
};

template <class T, std::size_t N>
struct Codec<std::array<T, N>> {
  using Parts = TypeList<T>;
  static constexpr std::size_t kLeast = N * least_bytes<T>();
  static void write(Encoder& to, const std::array<T, N>& value) {
    for (const T& element : value) to.put<T>(element);
  }
  static std::array<T, N> read([[maybe_unused]] Decoder& from) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return std::array<T, N>{{(static_cast<void>(I), from.get<T>())...}};
    }(std::make_index_sequence<N>{});
  }
};

template <class T>
struct Codec<std::optional<T>> {
  using Parts = TypeList<T>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const std::optional<T>& value) {
    to.put(value.has_value());
    if (value.has_value()) to.put<T>(*value);
  }
  static std::optional<T> read(Decoder& from) {
    if (!from.get<bool>()) return std::nullopt;
    return std::optional<T>(std::in_place, from.get<T>());
  }
};

template <class... Ts>
struct Codec<std::variant<Ts...>> {
  using Parts = TypeList<Ts...>;
  using Index = std::conditional_t<sizeof...(Ts) <= 256, std::uint8_t, std::uint16_t>;
  using Value = std::variant<Ts...>;
  static constexpr std::size_t kLeast = sizeof(Index);
  static void write(Encoder& to, const Value& value) {
    if (value.valueless_by_exception()) throw std::bad_variant_access();
    to.put(static_cast<Index>(value.index()));
    std::visit([&]<class T>(const T& held) { to.put<T>(held); }, value);
  }
  static Value read(Decoder& from) {
    const std::size_t index = from.get<Index>();
    if (index >= sizeof...(Ts)) from.source().throw_corrupt("the index of a variant");
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      using Read = Value (*)(Decoder&);
      static constexpr std::array<Read, sizeof...(Ts)> kReads{[](Decoder& decoder) {
        return Value(std::in_place_index<I>, decoder.get<std::variant_alternative_t<I, Value>>());
      }...};
      return kReads[index](from);
    }(std::index_sequence_for<Ts...>{});
  }
};

template <std::size_t N>
struct Codec<std::bitset<N>> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = (N + 7) / 8;
  static void write(Encoder& to, const std::bitset<N>& bits) {
    for (std::size_t at = 0; at < N; at += 8) {
      unsigned byte = 0;
      for (std::size_t i = at; i < N && i < at + 8; ++i) byte |= unsigned{bits[i]} << (i - at);
      to.put(static_cast<std::uint8_t>(byte));
    }
  }
  static std::bitset<N> read(Decoder& from) {
    std::bitset<N> bits;
    for (std::size_t at = 0; at < N; at += 8) {
      const unsigned byte = from.get<std::uint8_t>();
      if (N - at < 8 && byte >> (N - at) != 0) from.source().throw_corrupt("the end of a bitset");
      for (std::size_t i = at; i < N && i < at + 8; ++i) bits[i] = (byte >> (i - at) & 1U) != 0;
    }
    return bits;
  }
};

/// std::filesystem::path, by what it can do: its header is a large one.
template <class T>
concept FilesystemPath = requires(const T& path) {
  typename T::string_type;
  { path.native() } -> std::same_as<const typename T::string_type&>;
  { path.root_directory() } -> std::same_as<T>;
  { path.lexically_normal() } -> std::same_as<T>;
};

template <FilesystemPath T>
struct Codec<T> {
  using Parts = TypeList<typename T::string_type>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const T& path) { to.put(path.native()); }
  static T read(Decoder& from) { return T(from.get<typename T::string_type>()); }
};

/// Objects behind smart pointers. A polymorphic one would lose what its class adds; cereal knows
/// how to keep it, if its classes are registered.
template <class T>
concept PlainPointee = std::is_object_v<T> && !std::is_array_v<T> && !std::is_polymorphic_v<T>;

template <PlainPointee T>
struct Codec<std::unique_ptr<T>> {
  using Parts = TypeList<T>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const std::unique_ptr<T>& pointer) {
    to.put(pointer != nullptr);
    if (pointer != nullptr) to.put<std::remove_const_t<T>>(*pointer);
  }
  static std::unique_ptr<T> read(Decoder& from) {
    if (!from.get<bool>()) return nullptr;
    return std::unique_ptr<T>(new T(from.get<std::remove_const_t<T>>()));
  }
};

/// Copies of one shared_ptr arrive as copies of one shared_ptr.
template <PlainPointee T>
struct Codec<std::shared_ptr<T>> {
  using Object = std::remove_const_t<T>;
  using Parts = TypeList<T>;
  static constexpr std::size_t kLeast = 1;
  // 0: null; 1: a new object follows; n: the object with the number n - 2
  static void write(Encoder& to, const std::shared_ptr<T>& pointer) {
    if (pointer == nullptr) return to.put_size(0);
    const auto [number, is_new] = to.memory().shared_object(pointer, typeid(Object));
    to.put_size(is_new ? 1 : number + 2);
    if (is_new) to.put<Object>(*pointer);
  }
  static std::shared_ptr<T> read(Decoder& from) {
    const std::size_t code = from.get_number();
    if (code == 0) return nullptr;
    if (code > 1) {
      return std::static_pointer_cast<T>(from.memory().shared_object(code - 2, typeid(Object)));
    }
    const std::size_t number = from.memory().expect_shared_object(typeid(Object));
    if constexpr (std::default_initializable<Object> && std::is_move_assignable_v<Object>) {
      // It may hold itself, so it must be there before it is read.
      auto object = std::make_shared<Object>();
      from.memory().note_shared_object(number, object);
      *object = from.get<Object>();
      return object;
    } else {
      std::shared_ptr<Object> object(new Object(from.get<Object>()));
      from.memory().note_shared_object(number, object);
      return object;
    }
  }
};

template <PlainPointee T>
struct Codec<std::weak_ptr<T>> {
  using Parts = TypeList<T>;
  static constexpr std::size_t kLeast = 1;
  static void write(Encoder& to, const std::weak_ptr<T>& pointer) { to.put(pointer.lock()); }
  static std::weak_ptr<T> read(Decoder& from) { return from.get<std::shared_ptr<T>>(); }
};

}  // namespace brood::detail
