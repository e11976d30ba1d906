#pragma once

#include <cstddef>

#include <brood/memory/member.hpp>

namespace brood::testing {

/// How many shared objects the family has, of whatever kind.
inline std::size_t shared_objects() { return detail::Member::require()->objects().count(); }

}  // namespace brood::testing
