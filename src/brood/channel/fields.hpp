// Layer: channel
// The fields of an aggregate. Boost.PFR names them; they are counted here, because PFR takes a
// field that is an array for as many fields as it has elements.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <boost/pfr/core.hpp>

#include <brood/channel/type_list.hpp>

#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wmissing-braces"
#pragma clang diagnostic ignored "-Wmissing-field-initializers"
#pragma clang diagnostic ignored "-Wundefined-inline"
#pragma clang diagnostic ignored "-Wundefined-internal"
#endif

namespace brood::detail {

/// Converts to whatever a field is. References suit classes that can be copied, values the others.
struct AnyReference {
  std::size_t index;
  template <class T>
  operator T&() const&&;  // NOLINT(google-explicit-constructor)
  template <class T>
  operator T&() const&;  // NOLINT(google-explicit-constructor)
};
struct AnyValue {
  std::size_t index;
  template <class T>
  operator T() const&&;  // NOLINT(google-explicit-constructor)
};
template <class T>
using AnyField = std::conditional_t<std::is_copy_constructible_v<T>, AnyReference, AnyValue>;

/// Converts to a base class of T and to nothing else.
template <class T>
struct AnyBaseOf {
  template <class Base>
    requires(std::is_base_of_v<Base, T> && !std::same_as<Base, T>)
  operator Base&() const;  // NOLINT(google-explicit-constructor)
  template <class Base>
    requires(std::is_base_of_v<Base, T> && !std::same_as<Base, T>)
  operator Base&&() const;  // NOLINT(google-explicit-constructor)
};
struct ConvertsToNothing {};

/// An aggregate that derives from another class: its fields cannot be listed. (A first field that
/// can be made of anything, such as std::any, is not a base.)
template <class T>
concept AggregateWithBase = std::is_class_v<T> && std::is_aggregate_v<T> && requires {
  T{AnyBaseOf<T>{}};
} && !requires { T{ConvertsToNothing{}}; };

/// A class whose fields can be listed.
template <class T>
concept Aggregate = std::is_class_v<T> && std::is_aggregate_v<T> && !AggregateWithBase<T>;

template <class T, std::size_t... I>
constexpr bool takes_values(std::index_sequence<I...>) {
  return requires { T{AnyField<T>{I}...}; };
}

/// Whether T can be initialised with so many values.
template <class T, std::size_t Count>
inline constexpr bool kTakesValues = takes_values<T>(std::make_index_sequence<Count>{});

template <class T, std::size_t... Before, std::size_t... After>
constexpr bool takes_braces(std::index_sequence<Before...>, std::index_sequence<After...>) {
  return requires { T{AnyField<T>{Before}..., {}, AnyField<T>{After}...}; };
}

/// Whether `T{any..., {}, any...}` is valid, with so many before the braces and after them.
template <class T, std::size_t Before, std::size_t After>
inline constexpr bool kTakesBraces =
    takes_braces<T>(std::make_index_sequence<Before>{}, std::make_index_sequence<After>{});

/// The last number of values that T takes: Low is known to be taken, High not to be.
template <class T, std::size_t Low, std::size_t High>
constexpr std::size_t most_values() {
  if constexpr (High - Low <= 1) {
    return Low;
  } else {
    constexpr std::size_t middle = Low + (High - Low) / 2;
    if constexpr (kTakesValues<T, middle>) {
      return most_values<T, middle, High>();
    } else {
      return most_values<T, Low, middle>();
    }
  }
}

/// How many values T takes, each element of an array being one.
template <class T, std::size_t From = 1>
constexpr std::size_t count_values() {
  if constexpr (std::is_empty_v<T>) {
    return 0;
  } else if constexpr (requires { T{}; }) {
    // All counts up to the last are taken: doubling, then halving.
    if constexpr (kTakesValues<T, From>) {
      return count_values<T, 2 * From>();
    } else {
      return most_values<T, From / 2, From>();
    }
  } else {
    // The first fields must be given: upwards to the first count that is taken, then to the last.
    static_assert(From <= sizeof(T) * 8, "the fields of this aggregate cannot be counted");
    if constexpr (kTakesValues<T, From> && !kTakesValues<T, From + 1>) {
      return From;
    } else {
      return count_values<T, From + 1>();
    }
  }
}

/// The smallest width from Low to High of the field at Index with which all behind it still fit.
template <class T, std::size_t Count, std::size_t Index, std::size_t Low, std::size_t High>
constexpr std::size_t array_width() {
  if constexpr (Low < High) {
    constexpr std::size_t middle = Low + (High - Low) / 2;
    if constexpr (kTakesBraces<T, Index, Count - Index - middle>) {
      return array_width<T, Count, Index, Low, middle>();
    } else {
      return array_width<T, Count, Index, middle + 1, High>();
    }
  } else {
    return kTakesBraces<T, Index, Count - Index - Low> ? Low : 1;
  }
}

/// How many of the Count values the field which begins at Index takes. A pair of braces
/// initialises a whole array, so if it is one, those behind it become too many.
template <class T, std::size_t Count, std::size_t Index>
constexpr std::size_t field_width() {
  if constexpr (Index + 1 >= Count || kTakesBraces<T, Index, Count - Index - 1>) {
    return 1;
  } else {
    return array_width<T, Count, Index, 2, Count - Index>();
  }
}

template <class T, std::size_t Count, std::size_t Index = 0>
constexpr std::size_t count_fields() {
  if constexpr (Index >= Count) {
    return 0;
  } else {
    return 1 + count_fields<T, Count, Index + field_width<T, Count, Index>()>();
  }
}

/// Whether no field is a reference, which the list of their types does not show: then neither `T{}`
/// nor assignment would be possible. (Nor are they if a field is constant and cannot be `{}`.)
template <class T>
inline constexpr bool kHoldsValues = requires { T{}; } || std::is_move_assignable_v<T>;

/// How many fields the aggregate has; an array counts as one.
template <Aggregate T>
inline constexpr std::size_t kFieldCount = count_fields<T, count_values<T>()>();

/// References to the fields, in order.
template <class T>
  requires Aggregate<std::remove_const_t<T>>
constexpr auto tie_fields(T& value) {
  using Count = boost::pfr::detail::size_t_<kFieldCount<std::remove_const_t<T>>>;
  return boost::pfr::detail::tie_as_tuple(value, Count{});
}

template <class... References>
TypeList<std::remove_reference_t<References>...> referred_types(
    const boost::pfr::detail::sequence_tuple::tuple<References...>&);

/// The types of the fields, in order, with their const.
template <Aggregate T>
using FieldTypes = decltype(referred_types(tie_fields(std::declval<T&>())));

/// Calls `use(field)` for each field in order.
template <class T, class Use>
constexpr void for_each_field(T& value, Use use) {
  [&]<class... References>(boost::pfr::detail::sequence_tuple::tuple<References...> fields) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (use(boost::pfr::detail::sequence_tuple::get<I>(fields)), ...);
    }(std::index_sequence_for<References...>{});
  }(tie_fields(value));
}

}  // namespace brood::detail

#ifdef __clang__
#pragma clang diagnostic pop
#endif
