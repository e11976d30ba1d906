// Layer: platform
// Text to a descriptor that may be anything.
#pragma once

#include <string_view>

namespace brood::detail {

/// Writes `text` to `fd` with one write(2), so that lines of several processes do not mix (further
/// ones only for what did not fit in). False when some of it could not be written; no SIGPIPE is
/// raised when nobody reads it. Any thread may call it.
bool write_text(int fd, std::string_view text) noexcept;

}  // namespace brood::detail
