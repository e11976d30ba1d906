// Layer: manager
// The types of calls: which arguments a method takes, how they cross, and the thunk that calls it.
#pragma once

#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/callable.hpp>
#include <brood/channel/codec.hpp>
#include <brood/manager/managed.hpp>
#include <brood/manager/pending_call.hpp>

namespace brood {

/// Whether methods of one T may run at once, in several threads of the server. By default they run
/// one after the other. Specialise it for classes that are safe:
///
///     template <> inline constexpr bool brood::concurrent_calls<Counters> = true;
template <class T>
// NOLINTNEXTLINE(readability-identifier-naming): as std::ranges::enable_view
inline constexpr bool concurrent_calls = false;

namespace detail {

/// What is kept of the arguments of F, but for the object that it is called on.
template <class F, class Parameters>
struct WithoutObject;
template <class F, class Object, class... Ps>
struct WithoutObject<F, TypeList<Object, Ps...>> {
  using type = TypeList<Ps...>;
};
template <class F>
struct WithoutObject<F, TypeList<>> {
  using type = void;
};

template <class F, class... Actual>
struct MethodArguments : StorageFor<void, Actual...> {  // a generic one: as given
  static constexpr bool kFits = true;
  static constexpr bool kChanges = false;
};
template <class F, class... Actual>
  requires(Signature<F>::kKnown && requires { typename Signature<F>::Class; })
struct MethodArguments<F, Actual...> : StorageFor<typename Signature<F>::Parameters, Actual...> {
  static constexpr bool kChanges = any_changes_argument(typename Signature<F>::Parameters{});
};
template <class F, class... Actual>
  requires(Signature<F>::kKnown && !requires { typename Signature<F>::Class; })
struct MethodArguments<F, Actual...>
    : StorageFor<typename WithoutObject<F, typename Signature<F>::Parameters>::type, Actual...> {
  static constexpr bool kChanges = [] {
    using Rest = typename WithoutObject<F, typename Signature<F>::Parameters>::type;
    if constexpr (std::is_void_v<Rest>) {
      return false;
    } else {
      return any_changes_argument(Rest{});
    }
  }();
};

/// Calls f on the object with stored arguments, which are moved to it.
template <class F, class T, class... Stored>
decltype(auto) invoke_on(F& f, T& object, std::tuple<Stored...>&& arguments) {
  return std::apply(
      [&](Stored&... stored) -> decltype(auto) {
        return std::invoke(f, object, std::move(stored)...);
      },
      arguments);
}

/// F, called with a T and Actual: what crosses, or why not, in one sentence.
template <class F, class T, class... Actual>
struct MethodCall {
  using Function = stored_callable_t<F>;
  using Arguments = typename MethodArguments<Function, Actual...>::type;

  static constexpr bool kCallable = [] {
    if constexpr (!MethodArguments<Function, Actual...>::kFits ||
                  MethodArguments<Function, Actual...>::kChanges) {
      return false;
    } else {
      return all_convert(TypeList<Actual...>{}, std::type_identity<Arguments>{}) &&
             []<class... Stored>(std::type_identity<std::tuple<Stored...>>) {
               return std::is_invocable_v<Function&, T&, Stored...>;
             }(std::type_identity<Arguments>{});
    }
  }();

  template <class Never = void>
  static constexpr void check() {
    using Kept = MethodArguments<Function, Actual...>;
    static_assert(Kept::kFits,
                  "this method takes another number of arguments (default arguments do not count: "
                  "pass them, or call a lambda that does)");
    if constexpr (Kept::kFits) {
      static_assert(!Kept::kChanges,
                    "a parameter by non-const reference cannot be changed from another process: it "
                    "would change a copy; take it by value or const reference and return the "
                    "result");
      if constexpr (!Kept::kChanges) {
        static_assert(kCallable,
                      "this cannot be called on an object of the proxy's class with these "
                      "arguments: pass a pointer to a member of it or of a base, or a function "
                      "whose first parameter is a reference to it");
        require_sendable<Arguments>();
      }
    }
  }

  static auto result_type() {
    if constexpr (kCallable) {
      using R = decltype(invoke_on(std::declval<Function&>(), std::declval<T&>(),
                                   std::declval<Arguments&&>()));
      return std::type_identity<std::remove_cvref_t<R>>{};  // a reference: a copy of what it is to
    } else {
      return std::type_identity<void>{};
    }
  }
  using Result = typename decltype(result_type())::type;
};

template <class F, class T, class Arguments, class R>
void run_on_object(F& f, CallRun& run, Arguments&& arguments) {
  Managed& object = run.needed();
  T& target = object.template as<T>();
  if constexpr (std::is_void_v<R>) {
    const ManagedTurn turn(object, run.giver);
    invoke_on(f, target, std::forward<Arguments>(arguments));
  } else {
    const R result = [&]() -> R {
      const ManagedTurn turn(object, run.giver);
      return invoke_on(f, target, std::forward<Arguments>(arguments));
    }();
    encode(run.reply, result);
  }
}

/// The thunk of a method known when it was compiled.
template <auto Method, class T, class Arguments, class R>
void run_method(CallRun& run) {
  auto method = Method;
  run_on_object<decltype(method), T, Arguments, R>(method, run, decode<Arguments>(run.arguments));
}

/// The thunk of a callable that comes with the call.
template <class Function, class T, class Arguments, class R>
void run_function(CallRun& run) {
  auto function = decode_callable<Function>(run.arguments);
  run_on_object<Function, T, Arguments, R>(function, run, decode<Arguments>(run.arguments));
}

/// Takes an object into this process's server. Throws StateError if it is none.
Handle add_here(std::unique_ptr<Managed> object);
/// Says to whoever asked where its new object is; it is held until that has read it.
void reply_with_handle(CallRun& run, const Handle& handle);

template <class T, class... Args>
std::unique_ptr<Managed> make_managed_object(Args&&... args) {
  auto object = [&] {
    if constexpr (std::is_constructible_v<T, Args...>) {
      return std::make_unique<T>(std::forward<Args>(args)...);
    } else {
      return std::unique_ptr<T>(new T{std::forward<Args>(args)...});  // an aggregate
    }
  }();
  auto managed = std::make_unique<Managed>(
      object.get(), [](void* it) { delete static_cast<T*>(it); }, number_of_type<T>(),
      concurrent_calls<T>);
  static_cast<void>(object.release());  // it is Managed's
  return managed;
}

/// The thunk that makes an object.
template <class T, class Arguments>
void run_make(CallRun& run) {
  auto arguments = decode<Arguments>(run.arguments);
  reply_with_handle(
      run,
      std::apply([](auto&... args) { return add_here(make_managed_object<T>(std::move(args)...)); },
                 arguments));
}

/// The thunk of a method whose result is to stay in the server.
template <auto Method, class T, class Arguments, class R>
void run_method_for_proxy(CallRun& run) {
  auto method = Method;
  auto arguments = decode<Arguments>(run.arguments);
  Managed& object = run.needed();
  T& target = object.template as<T>();
  std::unique_ptr<Managed> made;
  {
    const ManagedTurn turn(object, run.giver);
    made = make_managed_object<R>(invoke_on(method, target, std::move(arguments)));
  }
  reply_with_handle(run, add_here(std::move(made)));
}

template <class R>
R take_result(PendingCall& call, Deadline deadline) {
  ByteSource source(call.finish(deadline));
  if constexpr (!std::is_void_v<R>) return decode<R>(source);
}

}  // namespace detail
}  // namespace brood
