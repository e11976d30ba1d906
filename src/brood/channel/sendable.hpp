// Layer: channel
// Which types can cross to another process, and the sentences for those that cannot.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

#include <brood/channel/crossing.hpp>

namespace brood::detail {

enum class Refusal {
  none,
  text_pointer,
  raw_pointer,
  reference,
  view,
  std_function,
  process_bound,
  capturing_lambda,
  base_class,
  unique_array,
  polymorphic_pointer,
  cereal_half,
  cereal_immovable,
  unrestorable,
  unknown,
};

/// Whether T is the type of a lambda expression, by its name in the compiler's words:
/// "main()::<lambda(int)>" (gcc), "(lambda at main.cpp:3:9)" (clang).
template <class T>
constexpr bool names_a_lambda() {
  std::string_view name = __PRETTY_FUNCTION__;
  name.remove_prefix(name.find("T = ") + 4);
#ifdef __clang__
  return name.starts_with("(lambda at ");
#else
  name = name.substr(0, name.find_last_of(']'));
  const std::size_t at = name.rfind("<lambda(");
  return at != name.npos && name.find('>', name.rfind(')')) + 1 == name.size() &&
         name.find("::", name.rfind(')')) == name.npos;
#endif
}

template <class T>
inline constexpr bool kIsLambda =
    std::is_class_v<T> && !std::is_aggregate_v<T> && names_a_lambda<T>();

template <class T>
inline constexpr bool kIsStdFunction = false;
template <class Signature>
inline constexpr bool kIsStdFunction<std::function<Signature>> = true;

template <class T>
inline constexpr bool kIsReferenceWrapper = false;
template <class T>
inline constexpr bool kIsReferenceWrapper<std::reference_wrapper<T>> = true;

template <class T>
inline constexpr bool kIsView = false;
template <class C, class Traits>
inline constexpr bool kIsView<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool kIsView<std::span<T, N>> = true;

template <class T>
inline constexpr bool kIsSmartPointer = false;
template <class T, class D>
inline constexpr bool kIsSmartPointer<std::unique_ptr<T, D>> = true;
template <class T>
inline constexpr bool kIsSmartPointer<std::shared_ptr<T>> = true;
template <class T>
inline constexpr bool kIsSmartPointer<std::weak_ptr<T>> = true;

/// Threads, locks, condition variables, atomics, futures, streams: by what they can do, so that
/// their headers are not needed.
template <class T>
concept ProcessBound = requires(T& x) {
  x.lock();
  x.unlock();
} || requires(T& x) { x.joinable(); } || requires(T& x) { x.notify_one(); } || requires(T& x) {
  x.is_lock_free();
} || requires(T& x) { x.rdbuf(); } || requires(T& x) {
  x.valid();
  x.wait();
};

template <Refusal Why, class Leaf>
struct Verdict {
  static constexpr Refusal kWhy = Why;
  using leaf = Leaf;
};
using Fine = Verdict<Refusal::none, void>;

template <class T, class Open>
constexpr auto judge();

/// Of the first part that is wrong. Open: the classes that are being judged, because a class may
/// hold a container of its own kind.
template <class Open>
constexpr auto judge_parts(TypeList<>) {
  return Fine{};
}
template <class Open, class First, class... Rest>
constexpr auto judge_parts(TypeList<First, Rest...>) {
  using Found = decltype(judge<std::remove_const_t<std::remove_all_extents_t<First>>, Open>());
  if constexpr (Found::kWhy != Refusal::none) {
    return Found{};
  } else {
    return judge_parts<Open>(TypeList<Rest...>{});
  }
}

/// Why a type that does not cross does not.
template <class T>
constexpr Refusal why_not() {
  if constexpr (std::is_reference_v<T> || kIsReferenceWrapper<T>) {
    return Refusal::reference;
  } else if constexpr (std::is_pointer_v<T>) {
    using Pointee = std::remove_cv_t<std::remove_pointer_t<T>>;
    return std::same_as<Pointee, char> ? Refusal::text_pointer : Refusal::raw_pointer;
  } else if constexpr (kIsView<T>) {
    return Refusal::view;
  } else if constexpr (kIsStdFunction<T>) {
    return Refusal::std_function;
  } else if constexpr (kIsLambda<T>) {
    return Refusal::capturing_lambda;
  } else if constexpr (kIsSmartPointer<T>) {
    if constexpr (std::is_array_v<typename T::element_type> ||
                  !std::is_polymorphic_v<typename T::element_type>) {
      return Refusal::unique_array;
    } else {
      return Refusal::polymorphic_pointer;
    }
  } else if constexpr (ProcessBound<T>) {
    return Refusal::process_bound;
  } else if constexpr (AggregateWithBase<T>) {
    return Refusal::base_class;
  } else {
    return Refusal::unknown;
  }
}

/// Whether an aggregate can be made of its fields. One with arrays is made first and then filled.
template <class T, class... Fields>
constexpr bool restored_from_fields(TypeList<Fields...>) {
  if constexpr ((std::is_array_v<Fields> || ...)) {
    return requires { T{}; } && (!std::is_const_v<std::remove_all_extents_t<Fields>> && ...);
  } else {
    return kHoldsValues<T>;
  }
}

template <class T, class Open>
constexpr auto judge() {
  if constexpr (!std::is_object_v<T> || Open::template contains<T>) {
    using Found = Verdict<std::is_object_v<T> ? Refusal::none : why_not<T>(), T>;
    return Found{};
  } else if constexpr (kCrossing<T> == Crossing::codec) {
    return judge_parts<Open>(typename Codec<T>::Parts{});
  } else if constexpr (kCrossing<T> == Crossing::cereal) {
    if constexpr (kCerealSaves<T> != 1 || kCerealLoads<T> != 1) {
      return Verdict<Refusal::cereal_half, T>{};
    } else if constexpr (!std::move_constructible<T>) {
      return Verdict<Refusal::cereal_immovable, T>{};
    } else {
      return Fine{};
    }
  } else if constexpr (kCrossing<T> == Crossing::fields) {
    using Found = decltype(judge_parts<typename Open::template With<T>>(FieldTypes<T>{}));
    if constexpr (Found::kWhy != Refusal::none) {
      return Found{};
    } else if constexpr (!restored_from_fields<T>(FieldTypes<T>{})) {
      return Verdict<Refusal::unrestorable, T>{};
    } else {
      return Fine{};
    }
  } else if constexpr (kCrossing<T> == Crossing::none) {
    return Verdict<why_not<T>(), T>{};
  } else {
    return Fine{};
  }
}

template <class T>
using VerdictOn = decltype(judge<std::remove_cv_t<T>, TypeList<>>());

/// Types whose values can cross to another process.
template <class T>
concept Sendable = VerdictOn<T>::kWhy == Refusal::none;

/// The compiler's message for the first part of a type that cannot cross. `Leaf` shows in the
/// message which type it is.
template <class Leaf, Refusal why>
constexpr void refuse() {
  static_assert(why != Refusal::text_pointer,
                "a pointer to char cannot cross to another process: pass a std::string");
  static_assert(why != Refusal::raw_pointer,
                "a raw pointer cannot cross to another process: its address means nothing there; "
                "pass the object itself, a container, or an object in shared memory");
  static_assert(why != Refusal::reference,
                "a reference cannot cross to another process: pass the object by value");
  static_assert(why != Refusal::view,
                "a view such as std::string_view or std::span cannot cross to another process: it "
                "only points to its elements; pass a std::string or a std::vector");
  static_assert(why != Refusal::std_function,
                "a std::function cannot cross to another process, because nobody can see what is "
                "in it: pass the function, lambda or function object itself, or brood::bind(...)");
  static_assert(why != Refusal::process_bound,
                "a thread, lock, condition variable, atomic, future or stream belongs to its "
                "process and cannot cross to another: use brood's own (brood::Lock, brood::Value "
                "and so on), which can");
  static_assert(why != Refusal::capturing_lambda,
                "a lambda that captures cannot cross to another process; pass what it captures as "
                "arguments: brood::bind(lambda, values...)");
  static_assert(why != Refusal::base_class,
                "an aggregate with a base class cannot cross to another process as it is: give it "
                "a serialize() function as for cereal, or make the base a member");
  static_assert(why != Refusal::unique_array,
                "a smart pointer to an array or with a deleter of its own cannot cross to another "
                "process: use a std::vector, or std::unique_ptr<T> as it is");
  static_assert(why != Refusal::polymorphic_pointer,
                "a smart pointer to a polymorphic class would lose the derived part: register the "
                "classes as for cereal (cereal/types/polymorphic.hpp), or use a std::variant");
  static_assert(
      why != Refusal::cereal_half,
      "cereal needs exactly one function to save this type and one to load it: serialize, "
      "or save and load, or save_minimal and load_minimal");
  static_assert(why != Refusal::cereal_immovable,
                "a type that its cereal functions restore must be movable to cross to another "
                "process");
  static_assert(why != Refusal::unrestorable,
                "an aggregate with a member that is a reference, or that cannot be assigned, "
                "cannot cross to another process: make the member an ordinary value");
  static_assert(
      why != Refusal::unknown,
      "this type cannot be serialised: give it a serialize() function as for cereal, make "
      "it an aggregate (no constructors, nothing private), or, if its bytes may simply be "
      "copied, specialise brood::enable_bytewise");
}

/// Compiles if T is Sendable; otherwise the compiler says in one sentence what to do instead.
template <class T>
constexpr void require_sendable() {
  refuse<typename VerdictOn<T>::leaf, VerdictOn<T>::kWhy>();
}

}  // namespace brood::detail
