// Layer: channel
// Calls the one function among those which cereal knows that a class has. cereal's own archives do
// this too, but only for what they themselves can write: not for aggregates or vectors of them.
#pragma once

#include <cstdint>

#include <cereal/cereal.hpp>

namespace brood::detail {

// Whether T has this function, and means it if it has several (cereal::specialize).
#define BROOD_CEREAL_HAS(function)                                  \
  (cereal::traits::has_##function<T, Archive>::value &&             \
   (cereal::traits::is_specialized_##function<T, Archive>::value || \
    !cereal::traits::is_specialized<T, Archive>::value))

template <class T, class Archive>
void save_by_cereal(Archive& archive, const T& value) {
  T& mutable_value = const_cast<T&>(value);  // serialize() writes too, but its users mean no harm
  if constexpr (BROOD_CEREAL_HAS(member_serialize)) {
    cereal::access::member_serialize(archive, mutable_value);
  } else if constexpr (BROOD_CEREAL_HAS(non_member_serialize)) {
    CEREAL_SERIALIZE_FUNCTION_NAME(archive, mutable_value);
  } else if constexpr (BROOD_CEREAL_HAS(member_save)) {
    cereal::access::member_save(archive, value);
  } else if constexpr (BROOD_CEREAL_HAS(non_member_save)) {
    CEREAL_SAVE_FUNCTION_NAME(archive, value);
  } else if constexpr (BROOD_CEREAL_HAS(member_save_minimal)) {
    archive(cereal::access::member_save_minimal(archive, value));
  } else if constexpr (BROOD_CEREAL_HAS(non_member_save_minimal)) {
    archive(CEREAL_SAVE_MINIMAL_FUNCTION_NAME(archive, value));
  } else {
    const std::uint32_t version = archive.template save_version<T>();
    if constexpr (BROOD_CEREAL_HAS(member_versioned_serialize)) {
      cereal::access::member_serialize(archive, mutable_value, version);
    } else if constexpr (BROOD_CEREAL_HAS(non_member_versioned_serialize)) {
      CEREAL_SERIALIZE_FUNCTION_NAME(archive, mutable_value, version);
    } else if constexpr (BROOD_CEREAL_HAS(member_versioned_save)) {
      cereal::access::member_save(archive, value, version);
    } else if constexpr (BROOD_CEREAL_HAS(non_member_versioned_save)) {
      CEREAL_SAVE_FUNCTION_NAME(archive, value, version);
    } else if constexpr (BROOD_CEREAL_HAS(member_versioned_save_minimal)) {
      archive(cereal::access::member_save_minimal(archive, value, version));
    } else {
      archive(CEREAL_SAVE_MINIMAL_FUNCTION_NAME(archive, value, version));
    }
  }
}

template <class T, class Archive>
void load_by_cereal(Archive& archive, T& value) {
  namespace traits = cereal::traits;
  using Output = typename traits::detail::get_output_from_input<Archive>::type;
  if constexpr (BROOD_CEREAL_HAS(member_serialize)) {
    cereal::access::member_serialize(archive, value);
  } else if constexpr (BROOD_CEREAL_HAS(non_member_serialize)) {
    CEREAL_SERIALIZE_FUNCTION_NAME(archive, value);
  } else if constexpr (BROOD_CEREAL_HAS(member_load)) {
    cereal::access::member_load(archive, value);
  } else if constexpr (BROOD_CEREAL_HAS(non_member_load)) {
    CEREAL_LOAD_FUNCTION_NAME(archive, value);
  } else if constexpr (BROOD_CEREAL_HAS(member_load_minimal)) {
    typename traits::has_member_save_minimal<T, Output>::type minimal{};
    archive(minimal);
    cereal::access::member_load_minimal(archive, value, minimal);
  } else if constexpr (BROOD_CEREAL_HAS(non_member_load_minimal)) {
    typename traits::has_non_member_save_minimal<T, Output>::type minimal{};
    archive(minimal);
    CEREAL_LOAD_MINIMAL_FUNCTION_NAME(archive, value, minimal);
  } else {
    const std::uint32_t version = archive.template loadClassVersion<T>();
    if constexpr (BROOD_CEREAL_HAS(member_versioned_serialize)) {
      cereal::access::member_serialize(archive, value, version);
    } else if constexpr (BROOD_CEREAL_HAS(non_member_versioned_serialize)) {
      CEREAL_SERIALIZE_FUNCTION_NAME(archive, value, version);
    } else if constexpr (BROOD_CEREAL_HAS(member_versioned_load)) {
      cereal::access::member_load(archive, value, version);
    } else if constexpr (BROOD_CEREAL_HAS(non_member_versioned_load)) {
      CEREAL_LOAD_FUNCTION_NAME(archive, value, version);
    } else if constexpr (BROOD_CEREAL_HAS(member_versioned_load_minimal)) {
      typename traits::has_member_versioned_save_minimal<T, Output>::type minimal{};
      archive(minimal);
      cereal::access::member_load_minimal(archive, value, minimal, version);
    } else {
      typename traits::has_non_member_versioned_save_minimal<T, Output>::type minimal{};
      archive(minimal);
      CEREAL_LOAD_MINIMAL_FUNCTION_NAME(archive, value, minimal, version);
    }
  }
}

#undef BROOD_CEREAL_HAS

}  // namespace brood::detail
