#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <brood/channel/bytes.hpp>
#include <brood/channel/thunk.hpp>
#include <brood/memory/object_kind.hpp>
#include <brood/memory/objects.hpp>

namespace brood::detail {

/// What is known of a type wherever it is used, to notice that two builds do not mean the same.
struct TypeLabel {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t alignment = 0;
  friend bool operator==(const TypeLabel&, const TypeLabel&) = default;
};

template <class T>
TypeLabel label_of() {
  return {.name = std::string(name_of_type<T>()), .bytes = sizeof(T), .alignment = alignof(T)};
}

/// An object in the server, whose class is known to thunks only. Threads of the server use it; it
/// is destroyed by whichever lets go last.
class Managed {
 public:
  using Destroy = void (*)(void*);
  Managed(void* object, Destroy destroy, std::uint32_t type, bool concurrent)
      : object_(object), destroy_(destroy), type_(type), concurrent_(concurrent) {}
  Managed(const Managed&) = delete;
  Managed& operator=(const Managed&) = delete;
  ~Managed() { destroy_(object_); }

  /// Throws DecodeError if it is no T.
  template <class T>
  [[nodiscard]] T& as() const {
    if (type_ != number_of_type<T>()) throw_other_type(name_of_type<T>());
    return *static_cast<T*>(object_);
  }
  [[nodiscard]] std::uint32_t type() const { return type_; }

  std::uint64_t number = 0;
  ObjectRef ref;  // the shared object that proxies are handles of

 private:
  friend class ManagedTurn;
  [[noreturn]] static void throw_other_type(std::string_view wanted);

  void* object_;
  Destroy destroy_;
  std::uint32_t type_;
  bool concurrent_;
  std::recursive_mutex mutex_;
};

/// The call that this thread of the server is about to run may have been given up.
class CallGiver {
 public:
  CallGiver() = default;
  CallGiver(const CallGiver&) = delete;
  CallGiver& operator=(const CallGiver&) = delete;
  /// Nobody waits for it any more, and it need not be begun.
  [[nodiscard]] virtual bool given_up() const = 0;

 protected:
  ~CallGiver() = default;
};

/// Thrown through a thunk whose call nobody wants any more; caught by the server.
struct CallGivenUp {};

/// A call's turn at an object: methods of one object run one after the other, unless its class says
/// that it does not mind. From the decoded arguments to the returned result.
class ManagedTurn {
 public:
  /// Throws CallGivenUp.
  ManagedTurn(Managed& object, const CallGiver* giver);

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

/// What a thunk of kind `call` sees: the object, if the call is of one, the arguments to decode,
/// and where the result is encoded to.
struct CallRun {
  Managed* object;
  const CallGiver* giver;
  ByteSource& arguments;
  ByteSink& reply;

  /// The object of a method. Throws DecodeError.
  [[nodiscard]] Managed& needed() const {
    if (object == nullptr) throw_no_object();
    return *object;
  }

 private:
  [[noreturn]] static void throw_no_object();
};
using CallThunk = void (*)(CallRun& run);

}  // namespace brood::detail
