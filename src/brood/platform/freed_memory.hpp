#pragma once

#include <cstddef>

namespace brood::detail {

/// How much private memory a process keeps that its program has freed. The fresh pages of 50 MB
/// cost ten times as much as writing to them: who computes one large value after the other had
/// better use those of the last one again. It is all a wish to the C library's allocator; another
/// one, and another C library, does as it likes.
///
/// Of the whole process. To be called by one thread at a time; others may allocate meanwhile.

/// From now on freed blocks of up to kMostFreedBlock are kept, up to kMostFreed that lie at the end
/// of the heap; larger ones are given back at once. Before, limits grow with what is freed, up to
/// half of these.
void keep_freed_memory() noexcept;
inline constexpr std::size_t kMostFreedBlock = std::size_t{64} << 20U;
inline constexpr std::size_t kMostFreed = std::size_t{128} << 20U;

/// From now on as little as it can: blocks of 128 KiB and more are given back at once, and what
/// there is now. For who counts what there is. Returns whether it was otherwise; nothing happens if
/// not.
bool stop_keeping_freed_memory() noexcept;

/// Whether more than a little may be kept since keep_freed_memory(). Costs nothing. No before that.
[[nodiscard]] bool may_keep_freed_memory() noexcept;

/// Gives all that is free back to the system, from the middle of the heap too.
void give_back_freed_memory() noexcept;

}  // namespace brood::detail
