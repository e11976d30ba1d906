// Layer: channel
// In which way values of a type cross to another process.
#pragma once

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

#include <cereal/cereal.hpp>

#include <brood/bytewise.hpp>
#include <brood/channel/bytes.hpp>
#include <brood/channel/fields.hpp>
#include <brood/channel/type_list.hpp>

namespace brood::detail {
class Encoder;
class Decoder;
}  // namespace brood::detail

// For cereal's save_minimal and load_minimal, which find the one archive's type by the other's.
CEREAL_SETUP_ARCHIVE_TRAITS(brood::detail::Decoder, brood::detail::Encoder)
// For cereal's polymorphic pointers: CEREAL_REGISTER_TYPE works with these archives.
CEREAL_REGISTER_ARCHIVE(brood::detail::Encoder)
CEREAL_REGISTER_ARCHIVE(brood::detail::Decoder)

namespace brood::detail {

/// How values of T cross, for types which need something of their own: the containers of the
/// standard library, the handles of this one. A specialisation has
///
///     using Parts = TypeList<...>;         // types that must be able to cross too
///     static constexpr std::size_t kLeast; // the fewest bytes that a value takes
///     static void write(Encoder&, const T&);
///     static T read(Decoder&);             // throws DecodeError; any bytes may come
template <class T>
struct Codec;

template <class T>
concept HasCodec = requires { typename Codec<T>::Parts; };

/// Classes with functions as for cereal: serialize, save and load, save_minimal and load_minimal;
/// members or not, with a version or not.
template <class T>
inline constexpr std::size_t kCerealSaves = [] {
  if constexpr (std::is_class_v<T>) {
    return std::size_t{cereal::traits::detail::count_output_serializers<T, Encoder>::value};
  }
  return std::size_t{0};
}();
template <class T>
inline constexpr std::size_t kCerealLoads = [] {
  if constexpr (std::is_class_v<T>) {
    return std::size_t{cereal::traits::detail::count_input_serializers<T, Decoder>::value};
  }
  return std::size_t{0};
}();

/// std::complex, which is two numbers.
template <class T>
inline constexpr bool kIsComplex = false;
template <template <class> class C, std::floating_point V>
  requires requires(const C<V>& c) {
    { c.real() } -> std::convertible_to<V>;
    { c.imag() } -> std::convertible_to<V>;
  }
inline constexpr bool kIsComplex<C<V>> = sizeof(C<V>) == 2 * sizeof(V);

template <class T>
constexpr bool crosses_bytewise();

/// Whether values of T cross as a copy of their bytes: numbers, enums, arrays and aggregates of
/// such, durations and time points, complex numbers, and what brood::enable_bytewise says. Not all
/// bytes are a valid T if it holds a bool: whoever copies foreign bytes asks valid_image().
template <class T>
inline constexpr bool is_bytewise = crosses_bytewise<T>();

template <class T>
inline constexpr bool kIsBytewiseStd = kIsComplex<T>;
template <class T, std::size_t N>
inline constexpr bool kIsBytewiseStd<std::array<T, N>> = N > 0 && is_bytewise<T>;
template <class Rep, class Period>
inline constexpr bool kIsBytewiseStd<std::chrono::duration<Rep, Period>> = is_bytewise<Rep>;
template <class Clock, class Duration>
inline constexpr bool kIsBytewiseStd<std::chrono::time_point<Clock, Duration>> =
    is_bytewise<Duration>;

template <class... Fields>
constexpr bool all_bytewise(TypeList<Fields...>) {
  return (is_bytewise<std::remove_const_t<std::remove_all_extents_t<Fields>>> && ...);
}

template <class T>
constexpr bool crosses_bytewise() {
  if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    return std::same_as<T, std::remove_cv_t<T>>;
  } else if constexpr (!std::is_class_v<T> && !std::is_union_v<T>) {
    return false;
  } else if constexpr (enable_bytewise<T>) {
    static_assert(
        std::is_trivially_copyable_v<T>,
        "brood::enable_bytewise is only for trivially copyable classes: the bytes of this "
        "one cannot simply be copied");
    return true;
  } else if constexpr (!std::is_trivially_copyable_v<T> || std::is_empty_v<T> ||
                       !std::same_as<T, std::remove_cv_t<T>>) {
    return false;
  } else if constexpr (kIsBytewiseStd<T>) {
    return true;
  } else if constexpr (HasCodec<T> || !std::is_aggregate_v<T> || std::is_union_v<T>) {
    return false;
  } else if constexpr (AggregateWithBase<T> || !kHoldsValues<T> || kCerealSaves<T> != 0 ||
                       kCerealLoads<T> != 0) {
    return false;
  } else {
    return all_bytewise(FieldTypes<T>{});
  }
}

template <class T>
constexpr bool holds_bool();
template <class... Fields>
constexpr bool any_holds_bool(TypeList<Fields...>) {
  return (holds_bool<std::remove_const_t<std::remove_all_extents_t<Fields>>>() || ...);
}

/// Whether some bytes are no value of the bytewise type T.
template <class T>
constexpr bool holds_bool() {
  if constexpr (std::is_enum_v<T>) {
    return std::same_as<std::underlying_type_t<T>, bool>;
  } else if constexpr (!std::is_class_v<T>) {
    return std::same_as<T, bool>;
  } else if constexpr (enable_bytewise<T>) {
    return false;
  } else if constexpr (requires { typename std::tuple_size<T>::type; }) {  // std::array
    return holds_bool<typename T::value_type>();
  } else if constexpr (kIsBytewiseStd<T>) {
    return false;
  } else {
    return any_holds_bool(FieldTypes<T>{});
  }
}

/// Whether the bytes that were copied to `image` are a value of the bytewise type T. The bools in
/// it are looked at as bytes: to read one that is neither 0 nor 1 would be undefined.
template <class T>
bool valid_image(const T& image) {
  using Element = std::remove_const_t<std::remove_all_extents_t<T>>;
  if constexpr (!holds_bool<Element>()) {
    return true;
  } else if constexpr (std::is_array_v<T> || requires { typename std::tuple_size<T>::type; }) {
    for (const auto& element : image) {
      if (!valid_image(element)) return false;
    }
    return true;
  } else if constexpr (std::is_class_v<T>) {
    bool valid = true;
    for_each_field(image, [&](const auto& field) { valid = valid && valid_image(field); });
    return valid;
  } else {
    return *reinterpret_cast<const unsigned char*>(std::addressof(image)) <= 1;
  }
}

/// The bytewise value whose bytes come next. Throws DecodeError if they are none.
template <class T>
T read_image(ByteSource& source) {
  alignas(T) std::byte bytes[sizeof(T)];
  source.read(bytes, sizeof(T));
  const T& image = *std::launder(reinterpret_cast<const T*>(bytes));
  if (!valid_image(image)) [[unlikely]]
    source.throw_corrupt("a bool");
  return image;
}

enum class Crossing {
  codec,    ///< as its Codec says
  image,    ///< as a copy of its bytes
  cereal,   ///< by its functions for cereal
  nothing,  ///< it has no state
  fields,   ///< field by field
  none,     ///< not at all
};

template <class T>
constexpr Crossing crossing_of() {
  if constexpr (HasCodec<T>) {
    return is_bytewise<T> ? Crossing::image : Crossing::codec;
  } else if constexpr (is_bytewise<T>) {
    return Crossing::image;
  } else if constexpr (!std::is_class_v<T> || !std::same_as<T, std::remove_cv_t<T>>) {
    return Crossing::none;
  } else if constexpr (kCerealSaves<T> != 0 || kCerealLoads<T> != 0) {
    return Crossing::cereal;
  } else if constexpr (std::is_empty_v<T> && std::is_trivially_copyable_v<T> &&
                       std::default_initializable<T>) {
    return Crossing::nothing;
  } else if constexpr (Aggregate<T>) {
    return Crossing::fields;
  } else {
    return Crossing::none;
  }
}

template <class T>
inline constexpr Crossing kCrossing = crossing_of<T>();

template <class T>
constexpr std::size_t least_bytes();
template <class... Fields>
constexpr std::size_t least_bytes_of_all(TypeList<Fields...>) {
  return (std::size_t{0} + ... + least_bytes<std::remove_const_t<Fields>>());
}

/// The fewest bytes that a value of T takes; what T's functions for cereal write is not known.
template <class T>
constexpr std::size_t least_bytes() {
  if constexpr (std::is_array_v<T>) {
    return std::extent_v<T> * least_bytes<std::remove_const_t<std::remove_extent_t<T>>>();
  } else if constexpr (kCrossing<T> == Crossing::codec) {
    return Codec<T>::kLeast;
  } else if constexpr (kCrossing<T> == Crossing::image) {
    return sizeof(T);
  } else if constexpr (kCrossing<T> == Crossing::fields) {
    return least_bytes_of_all(FieldTypes<T>{});
  } else {
    return 0;
  }
}

}  // namespace brood::detail
