// Layer: channel
// Which types have descriptors of the process in them, and so cannot go where only bytes can.
#pragma once

#include <tuple>
#include <type_traits>

#include <brood/channel/codec.hpp>
#include <brood/channel/crossing.hpp>
#include <brood/channel/type_list.hpp>

namespace brood::detail {

template <class T, class Open>
constexpr bool carries();

template <class Open, class... Parts>
constexpr bool any_carries(TypeList<Parts...>) {
  return (carries<std::remove_const_t<std::remove_all_extents_t<Parts>>, Open>() || ...);
}

/// Open: the classes that are being asked, because a class may hold a container of its own kind.
template <class T, class Open>
constexpr bool carries() {
  if constexpr (!std::is_object_v<T> || Open::template contains<T>) {
    return false;
  } else if constexpr (kCrossing<T> == Crossing::codec) {
    if constexpr (requires { Codec<T>::kCarriesDescriptors; }) {
      return Codec<T>::kCarriesDescriptors;
    } else {
      return any_carries<typename Open::template With<T>>(typename Codec<T>::Parts{});
    }
  } else if constexpr (kCrossing<T> == Crossing::fields) {
    return any_carries<typename Open::template With<T>>(FieldTypes<T>{});
  } else {
    return false;
  }
}

/// Whether a value of T holds a connection or descriptor, as far as the type says: one that is
/// written by functions for cereal is found out when that is done.
template <class T>
inline constexpr bool kCarriesDescriptors = carries<std::remove_cvref_t<T>, TypeList<>>();

/// Compiles unless one of Ts carries a descriptor.
template <class... Ts>
constexpr void refuse_descriptors() {
  static_assert(!(kCarriesDescriptors<Ts> || ...),
                "a connection or descriptor cannot be in what a pool computes with: its workers "
                "run before there is a task, and a task may run twice; send it through a "
                "brood::Connection");
}

}  // namespace brood::detail
