// A snapshot as text, for people and for programs.
#pragma once

#include <string>

#include "snapshot.hpp"

namespace brood::top {

/// One JSON object, in one line.
std::string as_json(const Snapshot& snapshot);
/// Lines of at most `width` columns.
std::string as_text(const Snapshot& snapshot, std::size_t width);

}  // namespace brood::top
