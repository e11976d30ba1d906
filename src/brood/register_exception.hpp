// Layer: channel
// Exception types of your own that come back from a task or process as themselves, so that
// `catch (const MyError&)` works around get(). Standard types, and Brood's, do without.
//
//     struct BadInput : std::runtime_error { using std::runtime_error::runtime_error; };
//     BROOD_REGISTER_EXCEPTION(BadInput);  // made again from what()
//
//     struct Refused { int code; };        // what it holds is carried by two functions
//     std::string encode_refused(const Refused& e) { return std::to_string(e.code); }
//     Refused decode_refused(std::string_view bytes) { return {std::stoi(std::string(bytes))}; }
//     BROOD_REGISTER_EXCEPTION(Refused, encode_refused, decode_refused);
//
// Whatever the constructors do with it, what() gives the original text. Types that are not
// registered come back as RemoteError, which says the type's name.
#pragma once

#include <brood/channel/exception_types.hpp>

#include <concepts>

namespace brood {

/// Registers E: exactly this type, not those derived from it. Must be called in the process that
/// throws as well as in the one that catches, which the macro does: it registers when the program
/// is loaded. Any thread may call it; twice is the same as once. E must be copyable, and its
/// name unique in the program (so not in an unnamed namespace of several files). A codec's decode
/// may throw when the bytes make no sense; the exception is then a RemoteError.
template <class E>
bool register_exception() noexcept {
  static_assert(std::is_base_of_v<std::exception, E>,
                "brood: this exception has no what() to be made again from; register it with two "
                "functions: std::string encode(const E&) and E decode(std::string_view)");
  static_assert(std::is_constructible_v<E, const std::string&> ||
                    std::is_constructible_v<E, const char*> || std::is_default_constructible_v<E>,
                "brood: this exception cannot be constructed from a string; register it with two "
                "functions: std::string encode(const E&) and E decode(std::string_view)");
  static detail::ExceptionType entry{
      .type = &typeid(E),
      .encode = nullptr,
      .raise = &detail::raise_exception<E, &detail::build_from_message<E>>};
  static const bool entered = (detail::enter_exception_type(entry), true);
  return entered;
}

template <class E, auto Encode, auto Decode>
  requires requires(const E& exception, std::string_view bytes) {
    { Encode(exception) } -> std::convertible_to<std::string>;
    { Decode(bytes) } -> std::convertible_to<E>;
  }
bool register_exception() noexcept {
  static detail::ExceptionType entry{
      .type = &typeid(E),
      .encode = [](const void* object) -> std::string {
        return Encode(*static_cast<const E*>(object));
      },
      .raise = &detail::raise_exception<E, &detail::build_from_payload<E, Decode>>};
  static const bool entered = (detail::enter_exception_type(entry), true);
  return entered;
}

/// Error codes of this category (beside std's generic and system) come back in a std::system_error
/// with the same code. It must live as long as the program.
void register_error_category(const std::error_category& category);

}  // namespace brood

#define BROOD_REGISTER_EXCEPTION(...) BROOD_DETAIL_REGISTER_EXCEPTION(__COUNTER__, __VA_ARGS__)
#define BROOD_DETAIL_REGISTER_EXCEPTION(n, ...) BROOD_DETAIL_REGISTER_EXCEPTION_AS(n, __VA_ARGS__)
#define BROOD_DETAIL_REGISTER_EXCEPTION_AS(n, ...)                    \
  [[maybe_unused]] static const bool brood_registered_exception_##n = \
      ::brood::register_exception<__VA_ARGS__>()
