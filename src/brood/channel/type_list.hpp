// Layer: channel
#pragma once

#include <concepts>
#include <cstddef>

namespace brood::detail {

/// Types, and nothing else.
template <class... Ts>
struct TypeList {
  static constexpr std::size_t size = sizeof...(Ts);
  template <class T>
  static constexpr bool contains = (std::same_as<T, Ts> || ...);
  template <class T>
  using With = TypeList<Ts..., T>;
};

}  // namespace brood::detail
