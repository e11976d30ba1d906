// Layer: channel
// Pointers to functions and members, which cross as places in a module's code: an address would
// mean nothing in a process that is laid out differently.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <typeinfo>

#include <brood/channel/archive.hpp>

namespace brood::detail {

// Each of these is followed by a checksum of itself and its type, so that damaged bytes are not
// called. It is no protection against bytes that are made to deceive: only from who may be trusted.

/// Writes where a function is. Throws Error if it is not the code of a loaded module.
void put_function(ByteSink& to, const void* address, const std::type_info& type);
/// The function's address in this process. Throws UnknownFunction if its module is not loaded here,
/// DecodeError if the place is not code or the function is of another type.
void* get_function(ByteSource& from, const std::type_info& type);

/// Writes an offset in a class or its table of virtual functions.
void put_member_offset(ByteSink& to, std::uint64_t offset, const std::type_info& type);
std::uint64_t get_member_offset(ByteSource& from, const std::type_info& type);

template <class F>
  requires std::is_function_v<F>
struct Codec<F*> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 3 * sizeof(std::uint64_t);
  static void write(Encoder& to, F* function) {
    put_function(to.sink(), reinterpret_cast<const void*>(function), typeid(F));
  }
  static F* read(Decoder& from) {
    return reinterpret_cast<F*>(get_function(from.source(), typeid(F)));
  }
};

/// In the Itanium C++ ABI a pointer to a member function is two words. The first is the address of
/// the function or, if it is virtual, 1 + its offset in the table; the second is added to `this`.
template <class F, class Class>
  requires std::is_function_v<F>
struct Codec<F Class::*> {
  using Pointer = F Class::*;
  using Words = std::array<std::uint64_t, 2>;
  static_assert(sizeof(Pointer) == sizeof(Words), "not the Itanium C++ ABI");
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1 + 4 * sizeof(std::uint64_t);
  static void write(Encoder& to, Pointer pointer) {
    const auto words = std::bit_cast<Words>(pointer);
    const bool is_virtual = (words[0] & 1U) != 0;
    to.put(is_virtual);
    if (is_virtual) {
      put_member_offset(to.sink(), words[0], typeid(Pointer));
    } else {
      // NOLINTNEXTLINE(performance-no-int-to-ptr)
      put_function(to.sink(), reinterpret_cast<const void*>(words[0]), typeid(Pointer));
    }
    put_member_offset(to.sink(), words[1], typeid(Pointer));
  }
  static Pointer read(Decoder& from) {
    Words words;
    if (from.get<bool>()) {
      words[0] = get_member_offset(from.source(), typeid(Pointer));
    } else {
      words[0] = reinterpret_cast<std::uintptr_t>(get_function(from.source(), typeid(Pointer)));
    }
    words[1] = get_member_offset(from.source(), typeid(Pointer));
    return std::bit_cast<Pointer>(words);
  }
};

template <class Member, class Class>
  requires std::is_object_v<Member>
struct Codec<Member Class::*> {
  using Pointer = Member Class::*;
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 2 * sizeof(std::uint64_t);
  static void write(Encoder& to, Pointer pointer) {
    put_member_offset(to.sink(), std::bit_cast<std::uint64_t>(pointer), typeid(Pointer));
  }
  static Pointer read(Decoder& from) {
    return std::bit_cast<Pointer>(get_member_offset(from.source(), typeid(Pointer)));
  }
};

}  // namespace brood::detail
