// Layer: channel
#pragma once

#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/callable.hpp>

namespace brood {

namespace detail {
struct BoundAccess;
}

/// A callable with its first arguments, which it holds by value: what brood::bind() returns.
///
/// It can be called, and be sent wherever a value can, if the callable and the values can. A value
/// like any other: copies share nothing, and each belongs to one thread at a time.
template <class F, class... Values>
class Bound {
 public:
  Bound(F f, std::tuple<Values...> values) : f_(std::move(f)), values_(std::move(values)) {}

  /// f(values..., rest...)
  template <class... Rest>
    requires std::is_invocable_v<const F&, const Values&..., Rest...>
  decltype(auto) operator()(Rest&&... rest) const {
    return std::apply(
        [&](const Values&... values) -> decltype(auto) {
          return std::invoke(f_, values..., std::forward<Rest>(rest)...);
        },
        values_);
  }

 private:
  friend detail::BoundAccess;
  F f_;
  std::tuple<Values...> values_;
};

namespace detail {

struct BoundAccess {
  template <class F, class... Values>
  static const F& function(const Bound<F, Values...>& bound) {
    return bound.f_;
  }
  template <class F, class... Values>
  static const std::tuple<Values...>& values(const Bound<F, Values...>& bound) {
    return bound.values_;
  }
};

template <class F, class... Values>
struct Codec<Bound<F, Values...>> {
  using Parts = TypeList<F, Values...>;
  static constexpr std::size_t kLeast = least_bytes_of_all(Parts{});
  static void write(Encoder& to, const Bound<F, Values...>& bound) {
    to.put(BoundAccess::function(bound));
    to.put(BoundAccess::values(bound));
  }
  static Bound<F, Values...> read(Decoder& from) {
    auto f = from.get<F>();
    return {std::move(f), from.get<std::tuple<Values...>>()};
  }
};

/// Splits the parameters: those which are bound, and those which are left.
template <std::size_t Count, class Bound, class Left>
struct SplitParameters;
template <class... Bs, class... Ls>
struct SplitParameters<0, TypeList<Bs...>, TypeList<Ls...>> {
  static constexpr bool kEnough = true;
  using BoundOnes = TypeList<Bs...>;
  using Left = TypeList<Ls...>;
};
template <std::size_t Count, class... Bs, class First, class... Ls>
  requires(Count > 0)
struct SplitParameters<Count, TypeList<Bs...>, TypeList<First, Ls...>>
    : SplitParameters<Count - 1, TypeList<Bs..., First>, TypeList<Ls...>> {};
template <std::size_t Count, class... Bs>
  requires(Count > 0)
struct SplitParameters<Count, TypeList<Bs...>, TypeList<>> {
  static constexpr bool kEnough = false;
  using BoundOnes = void;
  using Left = TypeList<>;
};

/// Of a callable whose first Count arguments are bound.
template <class F, std::size_t Count>
  requires Signature<F>::kKnown
using SplitSignature =
    SplitParameters < (
                          requires { typename Signature<F>::Class; } && Count > 0)
        ? Count - 1
        : Count,
      TypeList<>, typename Signature<F>::Parameters > ;

template <class F, class... Values>
  requires(Signature<F>::kKnown &&
           !(sizeof...(Values) == 0 && requires { typename Signature<F>::Class; }))
struct Signature<Bound<F, Values...>> {
  static constexpr bool kKnown = true;
  using Parameters = typename SplitSignature<F, sizeof...(Values)>::Left;
};

template <class F, class... Actual>
struct BoundStorage {
  using type = std::tuple<std::decay_t<Actual>...>;
  static constexpr bool kEnough = true;
  static constexpr bool kChangesCopy = false;
};
template <class F, class... Actual>
  requires(Signature<F>::kKnown && !requires { typename Signature<F>::Class; })
struct BoundStorage<F, Actual...> {
  using Split = SplitSignature<F, sizeof...(Actual)>;
  using type = typename StorageFor<typename Split::BoundOnes, Actual...>::type;
  static constexpr bool kEnough = Split::kEnough;
  static constexpr bool kChangesCopy = any_changes_argument(typename Signature<F>::Parameters{});
};
template <class F, class Object, class... Actual>
  requires requires { typename Signature<F>::Class; }
struct BoundStorage<F, Object, Actual...> {
  using Split = SplitSignature<F, 1 + sizeof...(Actual)>;
  using Others = StorageFor<typename Split::BoundOnes, Actual...>;
  using type = decltype(std::tuple_cat(
      std::declval<std::tuple<object_storage_t<typename Signature<F>::Class, Object>>>(),
      std::declval<typename Others::type>()));
  static constexpr bool kEnough = Split::kEnough;
  static constexpr bool kChangesCopy = any_changes_argument(typename Signature<F>::Parameters{});
};

template <class F, class... Actual>
constexpr CallRefusal judge_bind() {
  if constexpr (kIsStdFunction<F>) {
    return CallRefusal::std_function;
  } else if constexpr (kIsLambda<F> && !Sendable<F>) {
    return CallRefusal::capturing_lambda;
  } else if constexpr (!kIsFunctionPointer<F> && !std::is_member_pointer_v<F> &&
                       !std::is_class_v<F>) {
    return CallRefusal::not_callable;
  } else if constexpr (!BoundStorage<F, Actual...>::kEnough) {
    return CallRefusal::wrong_count;
  } else if constexpr (BoundStorage<F, Actual...>::kChangesCopy) {
    return CallRefusal::changes_copy;
  } else if constexpr (!all_convert(
                           TypeList<Actual...>{},
                           std::type_identity<typename BoundStorage<F, Actual...>::type>{})) {
    return CallRefusal::not_convertible;
  } else {
    return CallRefusal::none;
  }
}

}  // namespace detail

/// A callable that calls f(values..., rest...), and can cross to another process: what a capturing
/// lambda cannot, as nobody can see what it captures. The values are copied, and converted to f's
/// parameters where these are known. Refused by the compiler if f or a value cannot cross.
///
///     double scaled(double by, double x) { return by * x; }
///     pool.map(brood::bind(scaled, 2.5), numbers);
///     pool.map(brood::bind([](const Model& m, int n) { return m.run(n); }, model), inputs);
///
/// f is called as a constant with constant values, so it can be called any number of times.
template <class F, class... Values>
auto bind(F&& f, Values&&... values) {
  using Function = detail::stored_callable_t<F>;
  constexpr detail::CallRefusal why = detail::judge_bind<Function, Values...>();
  detail::refuse_call<Function, why>();
  if constexpr (why == detail::CallRefusal::none) {
    using Storage = typename detail::BoundStorage<Function, Values...>::type;
    detail::require_sendable<Function>();
    if constexpr (detail::Sendable<Function>) detail::require_sendable<Storage>();
    return [&]<class... Stored>(std::type_identity<std::tuple<Stored...>>) {
      return Bound<Function, Stored...>(Function(std::forward<F>(f)),
                                        Storage(std::forward<Values>(values)...));
    }(std::type_identity<Storage>{});
  }
}

}  // namespace brood
