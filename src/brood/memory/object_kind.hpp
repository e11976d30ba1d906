#pragma once

#include <cstdint>
#include <string_view>

#include <brood/memory/object_table.hpp>

namespace brood::detail {

/// The classes whose objects are shared; 0 is none.
enum class ObjectKind : std::uint32_t {
  lock = 1,
  rlock,
  semaphore,
  bounded_semaphore,
  condition,
  event,
  barrier,
  shared_lock,
  value,
  array,
  guarded,
  shared_array,
  shareable_list,
  queue,
  dict,
  list,
  set,
  name_space,
  manager,
  managed,
};

/// Whether it is announced when an object of this kind is gone: see SegmentHeader::objects_ended.
constexpr bool end_is_announced(std::uint32_t kind) {
  return kind == static_cast<std::uint32_t>(ObjectKind::managed);
}

template <class T>
constexpr std::string_view name_of_type() {
  return __PRETTY_FUNCTION__;
}

/// A number for T, the same in all processes of a family, as they run one build. Two types may
/// share one: it notices damage and mistakes, no more.
template <class T>
constexpr std::uint32_t number_of_type() {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : name_of_type<T>()) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  return hash;
}

template <class Contents>
constexpr ObjectType object_type(ObjectKind kind) {
  return {.kind = static_cast<std::uint32_t>(kind), .contents = number_of_type<Contents>()};
}

}  // namespace brood::detail
