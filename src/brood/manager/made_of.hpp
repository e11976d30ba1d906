#pragma once

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/sendable.hpp>
#include <brood/channel/thunk.hpp>

namespace brood::detail {

/// What is sent of an argument for a parameter that is not known: of a text its characters.
template <class Arg>
using given_t = std::conditional_t<std::is_convertible_v<std::decay_t<Arg>, const char*>,
                                   std::string, std::decay_t<Arg>>;
template <class... Args>
using made_of_t = std::tuple<given_t<Args>...>;

/// Compiles if a T can be made in another process of Args; otherwise the compiler says why not.
template <class T, class... Args>
constexpr void require_makeable() {
  static_assert(
      std::is_constructible_v<T, given_t<Args>...> || requires {
        T{std::declval<given_t<Args>>()...};
      }, "this class has no constructor that takes these arguments");
  require_sendable<made_of_t<Args...>>();
}

/// The thunk that finds what is published, by a name and a TypeLabel.
FunctionId get_function();

}  // namespace brood::detail
