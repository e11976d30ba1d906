// Layer: channel
// How handles to shared objects cross: as the names of their objects.
#pragma once

#include <cstddef>
#include <utility>

#include <brood/channel/archive.hpp>
#include <brood/memory/handle.hpp>
#include <brood/memory/object_kind.hpp>

namespace brood::detail {

/// Whether T is a public class that is a handle to a shared object. Such a class has HandleAccess
/// as a friend and, perhaps in private,
///
///     static constexpr ObjectType kObjectType;   // see object_type()
///     static constexpr std::size_t kLeastBytes;  // of the payload
///     Handle handle_;
///     explicit T(Handle);                        // throws DecodeError if the payload is wrong
///     const Handle& needed() const;              // optional: another object that must be there
///     too
///
/// and says so: template <> inline constexpr bool kIsSharedObject<Lock> = true;
template <class T>
inline constexpr bool kIsSharedObject = false;

struct HandleAccess {
  template <class T>
  static const Handle& handle(const T& object) {
    return object.handle_;
  }
  template <class T>
  static void keep(ByteSink& sink, const T& object) {
    sink.keep(object.handle_);
    if constexpr (requires { object.needed(); }) sink.keep(object.needed());
  }
  template <class T>
  static T adopt(ObjectRef ref) {
    return T(Handle::adopt(ref, T::kObjectType, T::kLeastBytes));
  }
};

template <class T>
  requires kIsSharedObject<T>
struct Codec<T> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = sizeof(ObjectRef);
  static void write(Encoder& to, const T& object) {
    to.put(HandleAccess::handle(object).ref());
    HandleAccess::keep(to.sink(), object);
  }
  static T read(Decoder& from) { return HandleAccess::adopt<T>(from.get<ObjectRef>()); }
};

/// Hashes a handle: the same for all that refer to one object.
template <class T>
struct HandleHash {
  std::size_t operator()(const T& object) const noexcept {
    return HandleAccess::handle(object).hash();
  }
};

}  // namespace brood::detail
