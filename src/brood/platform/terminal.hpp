#pragma once

namespace brood::detail {

/// How wide the terminal is that `fd` refers to; 0 when it is none, or one that cannot rewrite a
/// line. Asked anew each time, as it may change.
int terminal_columns(int fd) noexcept;

}  // namespace brood::detail
