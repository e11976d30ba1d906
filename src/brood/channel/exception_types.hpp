// Layer: channel
// The exception types that are thrown again as themselves in the process that asks for a result.
#pragma once

#include <brood/errors.hpp>
#include <brood/platform/throw_probe.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

namespace brood::detail {

/// One type of exception that can be taken apart and built again. Entries live as long as the
/// module that defines them, and are never changed once entered.
struct ExceptionType {
  const std::type_info* type;
  /// What is to be kept of the object beside what(); may throw. nullptr: nothing.
  std::string (*encode)(const void* object);
  /// Throws the exception built from the failure and what encode() kept. Returns when that cannot
  /// be done. `nested`: with the exception being handled as its cause.
  void (*raise)(const ExceptionType& self, const std::shared_ptr<const RemoteFailure>& failure,
                std::string_view payload, bool nested);
  const ExceptionType* next = nullptr;  ///< of the list of entered ones
};

/// Enters a type, for good. Any thread, any time, also before main. Of several entries of one type
/// the last is used.
void enter_exception_type(ExceptionType& entry) noexcept;

/// The entry of the exception's own type (not of a base), seen through what std::throw_with_nested
/// and raise() wrap around it; nullptr when there is none.
const ExceptionType* find_exception_type(const CaughtException& exception);
/// By typeid(E).name().
const ExceptionType* find_exception_type(std::string_view mangled_name) noexcept;

/// The name of a thrown type as it stands in programs: "std::filesystem::filesystem_error", without
/// libstdc++'s inline namespaces and tags, and without what std::throw_with_nested wraps around it.
std::string readable_type(const std::type_info& thrown);

/// What every exception thrown again has beside its own type: the trace, and its entry, so that it
/// can be passed on once more.
class RethrownTrace : public RemoteTrace {
 public:
  RethrownTrace(std::shared_ptr<const RemoteFailure> failure, const ExceptionType& entry) noexcept
      : RemoteTrace(std::move(failure)), entry_(&entry) {}
  [[nodiscard]] const ExceptionType& entry() const noexcept { return *entry_; }

 private:
  const ExceptionType* entry_;
};

/// An E from another process: `catch (const E&)` takes it, remote_trace() finds the rest.
template <class E>
class Rethrown : public E, public RethrownTrace {
 public:
  Rethrown(E&& object, std::shared_ptr<const RemoteFailure> failure, const ExceptionType& entry)
      : E(std::move(object)), RethrownTrace(std::move(failure), entry) {}

  // The original text, whatever E's constructors would make of it. Overrides E's where E has one.
  const char* what() const noexcept { return failure().message.c_str(); }  // NOLINT
};

/// Made in a handler: the exception being handled is its cause, for std::rethrow_if_nested.
template <class E>
class WithCause : public E, public std::nested_exception {
 public:
  explicit WithCause(E object) : E(std::move(object)) {}
};

template <class E>
[[noreturn]] void throw_with_trace(E object, const std::shared_ptr<const RemoteFailure>& failure,
                                   const ExceptionType& entry, bool nested) {
  if constexpr (std::is_final_v<E>) {
    throw std::move(object);  // nothing can be added to it
  } else {
    Rethrown<E> rethrown(std::move(object), failure, entry);
    // An E that brings its own nested_exception took the cause when it was built.
    if constexpr (!std::is_base_of_v<std::nested_exception, E>) {
      if (nested) throw WithCause<Rethrown<E>>(std::move(rethrown));
    }
    throw rethrown;
  }
}

/// An entry for E, from `Build`: E(message, payload), which may throw when it cannot.
template <class E, auto Build>
void raise_exception(const ExceptionType& self, const std::shared_ptr<const RemoteFailure>& failure,
                     std::string_view payload, bool nested) {
  std::optional<E> object;
  try {
    object.emplace(Build(failure->message, payload));
  } catch (...) {
    return;
  }
  throw_with_trace<E>(std::move(*object), failure, self, nested);
}

template <class E>
E build_from_message(const std::string& message, std::string_view) {
  if constexpr (std::is_constructible_v<E, const std::string&>) {
    return E(message);
  } else if constexpr (std::is_constructible_v<E, const char*>) {
    return E(message.c_str());
  } else {
    return E();
  }
}

template <class E, auto Decode>
E build_from_payload(const std::string&, std::string_view payload) {
  return Decode(payload);
}

}  // namespace brood::detail
