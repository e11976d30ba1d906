// What the calls of a map are made of, as types.
#pragma once

#include <cstddef>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/callable.hpp>
#include <brood/channel/carries_descriptors.hpp>

namespace brood::detail {

/// What F is stored to be called with when a tuple's (or pair's) elements are the arguments.
template <class F, class Tuple, class = std::make_index_sequence<std::tuple_size_v<Tuple>>>
struct SpreadArguments;
template <class F, class Tuple, std::size_t... I>
struct SpreadArguments<F, Tuple, std::index_sequence<I...>> {
  using type = stored_arguments_t<F, std::tuple_element_t<I, Tuple>...>;
};
template <class F, class Tuple>
using spread_arguments_t = typename SpreadArguments<F, std::remove_cvref_t<Tuple>>::type;

/// What a map of F over columns of Ts results in; the refusals of what cannot cross.
template <bool Spread, class F, class... Ts>
struct MapResult {
  static constexpr auto check() {
    require_callable<F, Ts...>();
    refuse_descriptors<F, Ts...>();
    return std::type_identity<std::remove_cvref_t<std::invoke_result_t<F&, Ts...>>>{};
  }
  using type = typename decltype(check())::type;
};
template <class F, class... Ts>
struct MapResult<true, F, std::tuple<Ts...>> : MapResult<false, F, Ts...> {};

/// What a map of F over ranges stores of each item: one value of each, or the one tuple whose
/// elements are the arguments.
template <bool Spread, class F, class... Ranges>
struct MapArguments {
  using type = stored_arguments_t<F, std::ranges::range_reference_t<Ranges>...>;
};
template <class F, class Range>
struct MapArguments<true, F, Range> {
  using type = std::tuple<spread_arguments_t<F, std::ranges::range_value_t<Range>>>;
};
template <bool Spread, class F, class... Ranges>
using map_arguments_t = typename MapArguments<Spread, F, Ranges...>::type;

}  // namespace brood::detail
