// Layer: channel
// What a callable takes, where that is known, and how its arguments are kept until it is called.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/type_list.hpp>

namespace brood::detail {

/// The parameters of a callable that has one signature: a function, a pointer to a member, an
/// object of a class with one operator(). The object that a member belongs to is not among them.
/// Others, such as generic lambdas, have kKnown = false.
template <class F>
struct Signature {
  static constexpr bool kKnown = false;
};

template <class... Params>
struct KnownSignature {
  static constexpr bool kKnown = true;
  using Parameters = TypeList<Params...>;
};

template <class R, class... Ps>
struct Signature<R (*)(Ps...)> : KnownSignature<Ps...> {};
template <class R, class... Ps>
struct Signature<R (*)(Ps...) noexcept> : KnownSignature<Ps...> {};

// NOLINTBEGIN(bugprone-macro-parentheses): qualifiers are no expression
#define BROOD_MEMBER_SIGNATURE(qualifiers)                               \
  template <class R, class C, class... Ps>                               \
  struct Signature<R (C::*)(Ps...) qualifiers> : KnownSignature<Ps...> { \
    using Class = C;                                                     \
  };
BROOD_MEMBER_SIGNATURE()
BROOD_MEMBER_SIGNATURE(const)
BROOD_MEMBER_SIGNATURE(&)
BROOD_MEMBER_SIGNATURE(const&)
BROOD_MEMBER_SIGNATURE(&&)
BROOD_MEMBER_SIGNATURE(const&&)
BROOD_MEMBER_SIGNATURE(noexcept)
BROOD_MEMBER_SIGNATURE(const noexcept)
BROOD_MEMBER_SIGNATURE(& noexcept)
BROOD_MEMBER_SIGNATURE(const& noexcept)
BROOD_MEMBER_SIGNATURE(&& noexcept)
BROOD_MEMBER_SIGNATURE(const&& noexcept)
#undef BROOD_MEMBER_SIGNATURE
// NOLINTEND(bugprone-macro-parentheses)

template <class M, class C>
  requires std::is_object_v<M>
struct Signature<M C::*> : KnownSignature<> {
  using Class = C;
};

template <class F>
  requires(std::is_class_v<F> && requires { &F::operator(); } &&
           Signature<decltype(&F::operator())>::kKnown)
struct Signature<F> : KnownSignature<> {
  using Parameters = typename Signature<decltype(&F::operator())>::Parameters;
};

/// What is kept of an argument for a parameter of type P: a value of its type; for a view, the
/// object that it looks at.
template <class P>
struct Storage {
  using type = std::decay_t<P>;
};
template <class C, class Traits>
struct Storage<std::basic_string_view<C, Traits>> {
  using type = std::basic_string<C, Traits>;
};
template <class T, std::size_t N>
  requires(N == std::dynamic_extent && !std::same_as<std::remove_const_t<T>, bool>)
struct Storage<std::span<T, N>> {
  // A span of what may be changed would change a copy.
  using type =
      std::conditional_t<std::is_const_v<T>, std::vector<std::remove_const_t<T>>, std::span<T, N>>;
};
template <class P>
using storage_t = typename Storage<std::remove_cv_t<
    std::conditional_t<std::is_rvalue_reference_v<P>, std::remove_reference_t<P>,
                       std::conditional_t<std::is_const_v<std::remove_reference_t<P>>,
                                          std::remove_reference_t<P>, P>>>>::type;

/// Storage for the first arguments of a callable, as many as there are in Actual. Where nothing is
/// known, or the number is wrong, as the arguments are.
template <class Parameters, class... Actual>
struct StorageFor {
  using type = std::tuple<std::decay_t<Actual>...>;
  static constexpr bool kFits = false;
};
template <class... Ps, class... Actual>
  requires(sizeof...(Ps) == sizeof...(Actual))
struct StorageFor<TypeList<Ps...>, Actual...> {
  using type = std::tuple<storage_t<Ps>...>;
  static constexpr bool kFits = true;
};

/// The object of a member: as given if it is of the class or of one derived from it, or points to
/// one; otherwise it is converted to the class.
template <class Class, class Actual>
using object_storage_t = std::conditional_t<std::is_base_of_v<Class, std::decay_t<Actual>> ||
                                                !std::is_convertible_v<Actual, Class>,
                                            std::decay_t<Actual>, Class>;

template <class F, class... Actual>
struct StoredArguments : StorageFor<void, Actual...> {
  static constexpr bool kFits = true;
};
template <class F, class... Actual>
  requires Signature<F>::kKnown
struct StoredArguments<F, Actual...> : StorageFor<typename Signature<F>::Parameters, Actual...> {};
template <class F, class Object, class... Actual>
  requires requires { typename Signature<F>::Class; }
struct StoredArguments<F, Object, Actual...> {
  using Others = StorageFor<typename Signature<F>::Parameters, Actual...>;
  using Class = typename Signature<F>::Class;
  using type = decltype(std::tuple_cat(std::declval<std::tuple<object_storage_t<Class, Object>>>(),
                                       std::declval<typename Others::type>()));
  static constexpr bool kFits = Others::kFits;
};

/// The values that are kept, and sent, for a call `f(actual...)`. Where f's parameters are known,
/// the arguments are converted to them.
template <class F, class... Actual>
using stored_arguments_t = typename StoredArguments<std::decay_t<F>, Actual...>::type;

/// How a callable is kept: functions as pointers.
template <class F>
using stored_callable_t = std::decay_t<F>;

}  // namespace brood::detail
