// Layer: channel
// What may be called in another process: how it crosses, with which arguments, and the sentences
// for what cannot.
//
// Pointers to functions and members cross as places in a module (see function_pointer.hpp); lambdas
// without captures and other objects without state by their type alone; objects with state, among
// them what brood::bind() makes, like any value.
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/codec.hpp>
#include <brood/channel/signature.hpp>

namespace brood::detail {

template <class F>
inline constexpr bool kIsFunctionPointer =
    std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>;

/// Calls f with stored arguments, which are moved to it; the object of a member function is passed
/// as an lvalue if the function wants one.
template <class F, class... Stored>
decltype(auto) invoke_stored(F&& f, std::tuple<Stored...>&& arguments) {
  return std::apply(
      [&]<class... As>(As&&... as) -> decltype(auto) {
        if constexpr (std::is_member_object_pointer_v<std::decay_t<F>>) {
          return std::decay_t<decltype(std::invoke(f, std::forward<As>(as)...))>(
              std::invoke(f, std::forward<As>(as)...));
        } else if constexpr (std::is_invocable_v<F, As...>) {
          return std::invoke(std::forward<F>(f), std::forward<As>(as)...);
        } else {
          return
              [&]<class Object, class... Rest>(Object&& object, Rest&&... rest) -> decltype(auto) {
                return std::invoke(f, object, std::forward<Rest>(rest)...);
              }(std::forward<As>(as)...);
        }
      },
      std::move(arguments));
}

template <class F, class Tuple>
struct CallWith;
template <class F, class... Stored>
struct CallWith<F, std::tuple<Stored...>> {
  template <class Object, class... Rest>
  static constexpr bool on_lvalue(TypeList<Object, Rest...>) {
    return std::is_member_function_pointer_v<F> && std::is_invocable_v<F&, Object&, Rest...>;
  }
  static constexpr bool on_lvalue(TypeList<>) { return false; }

  static constexpr bool kValid =
      std::is_invocable_v<F&, Stored...> || on_lvalue(TypeList<Stored...>{});
  /// It could be called if it might change the arguments.
  static constexpr bool kWantsLvalues = !kValid && std::is_invocable_v<F&, Stored&...>;
};

/// What a call returns, as far as it crosses: what it returns when the arguments are passed as they
/// are stored.
template <class F, class... Actual>
using result_t = decltype(invoke_stored(std::declval<stored_callable_t<F>&>(),
                                        std::declval<stored_arguments_t<F, Actual...>&&>()));

enum class CallRefusal {
  none,
  std_function,
  capturing_lambda,
  not_callable,
  wrong_count,
  changes_copy,
  not_convertible,
  wrong_arguments,
  reference_result,
  pointer_result,
};

template <class P>
inline constexpr bool kChangesArgument =
    std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>;

template <class... Ps>
constexpr bool any_changes_argument(TypeList<Ps...>) {
  return (kChangesArgument<Ps> || ...);
}

template <class... Actual, class... Stored>
constexpr bool all_convert(TypeList<Actual...>, std::type_identity<std::tuple<Stored...>>) {
  return (std::is_convertible_v<Actual, Stored> && ...);
}

template <class F, class... Actual>
constexpr CallRefusal judge_call() {
  if constexpr (kIsStdFunction<F>) {
    return CallRefusal::std_function;
  } else if constexpr (kIsLambda<F> && !Sendable<F>) {
    return CallRefusal::capturing_lambda;
  } else if constexpr (!kIsFunctionPointer<F> && !std::is_member_pointer_v<F> &&
                       !std::is_class_v<F>) {
    return CallRefusal::not_callable;
  } else if constexpr (!StoredArguments<F, Actual...>::kFits) {
    return CallRefusal::wrong_count;
  } else {
    using Stored = stored_arguments_t<F, Actual...>;
    if constexpr (Signature<F>::kKnown) {
      if constexpr (any_changes_argument(typename Signature<F>::Parameters{})) {
        return CallRefusal::changes_copy;
      }
    }
    if constexpr (!all_convert(TypeList<Actual...>{}, std::type_identity<Stored>{})) {
      return CallRefusal::not_convertible;
    } else if constexpr (CallWith<F, Stored>::kWantsLvalues) {
      return CallRefusal::changes_copy;
    } else if constexpr (!CallWith<F, Stored>::kValid) {
      return CallRefusal::wrong_arguments;
    } else if constexpr (std::is_reference_v<result_t<F, Actual...>>) {
      return CallRefusal::reference_result;
    } else if constexpr (std::is_pointer_v<result_t<F, Actual...>> &&
                         !kIsFunctionPointer<result_t<F, Actual...>>) {
      return CallRefusal::pointer_result;
    } else {
      return CallRefusal::none;
    }
  }
}

template <class F, CallRefusal why>
constexpr void refuse_call() {
  static_assert(why != CallRefusal::std_function,
                "a std::function cannot cross to another process, because nobody can see what is "
                "in it: pass the function, lambda or function object itself, or brood::bind(...)");
  static_assert(why != CallRefusal::capturing_lambda,
                "a lambda that captures cannot cross to another process; pass what it captures as "
                "arguments: brood::bind(lambda, values...)");
  static_assert(why != CallRefusal::not_callable,
                "this cannot be called: pass a function, a lambda without captures, a function "
                "object, a pointer to a member, or brood::bind(...)");
  static_assert(why != CallRefusal::wrong_count,
                "this function takes another number of arguments (default arguments do not count: "
                "pass them, or wrap the function in a lambda)");
  static_assert(why != CallRefusal::changes_copy,
                "a parameter by non-const reference cannot be changed from another process: it "
                "would change a copy; take it by value or const reference and return the result");
  static_assert(why != CallRefusal::not_convertible,
                "an argument does not convert to the type of the function's parameter");
  static_assert(why != CallRefusal::wrong_arguments,
                "this callable cannot be called with values of these types");
  static_assert(why != CallRefusal::reference_result,
                "the result is a reference, which cannot cross to another process: return it by "
                "value");
  static_assert(why != CallRefusal::pointer_result,
                "the result is a raw pointer, which cannot cross to another process: return the "
                "object by value, or a std::unique_ptr or std::string");
}

template <class... Ts>
constexpr bool all_sendable(std::type_identity<std::tuple<Ts...>>) {
  return (Sendable<Ts> && ...);
}

/// Whether F can be called with Actual in another process, and its result come back.
template <class F, class... Actual>
constexpr bool is_callable() {
  using Function = stored_callable_t<F>;
  if constexpr (judge_call<Function, Actual...>() != CallRefusal::none) {
    return false;
  } else if constexpr (!Sendable<Function> ||
                       !all_sendable(std::type_identity<stored_arguments_t<F, Actual...>>{})) {
    return false;
  } else {
    using Result = result_t<F, Actual...>;
    return std::is_void_v<Result> || Sendable<Result>;
  }
}

/// A callable of type F can be called in another process with arguments of these types.
template <class F, class... Actual>
concept CallableWith = is_callable<F, Actual...>();

/// Compiles if CallableWith<F, Actual...>; otherwise the compiler says in one sentence why it is
/// not.
template <class F, class... Actual>
constexpr void require_callable() {
  using Function = stored_callable_t<F>;
  constexpr CallRefusal why = judge_call<Function, Actual...>();
  refuse_call<Function, why>();
  if constexpr (why == CallRefusal::none) {
    require_sendable<Function>();
    using Stored = stored_arguments_t<F, Actual...>;
    if constexpr (Sendable<Function>) require_sendable<Stored>();
    if constexpr (Sendable<Function> && Sendable<Stored>) {
      using Result = result_t<F, Actual...>;
      if constexpr (!std::is_void_v<Result>) require_sendable<Result>();
    }
  }
}

template <class F>
void encode_callable(ByteSink& sink, const F& f) {
  encode(sink, f);
}

/// Throws DecodeError; UnknownFunction if the module that has the function is not loaded here.
template <class F>
F decode_callable(ByteSource& source) {
  return decode<F>(source);
}

}  // namespace brood::detail
