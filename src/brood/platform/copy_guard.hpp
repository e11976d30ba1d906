// Layer: platform
#pragma once

#include <cstddef>

namespace brood::detail {

/// From now on copies of this process that somebody makes by fork(2) cannot touch [memory, memory +
/// bytes): a copy that does is ended, by _exit(1) and `message` on stderr where the handler of
/// leave_crash_note_in() is there, else by SIGSEGV. Until it does, it may do what it likes: execute
/// another program, say. Those that fork_member() makes are no such copies. Nothing is paid for it
/// but at a fork.
///
/// `memory` is aligned to the page. `message` is kept. Only while no other thread runs; again
/// replaces what was said before.
void guard_against_copies(std::byte* memory, std::size_t bytes, const char* message);

/// For a handler of SIGSEGV: ends this process as said above if it is such a copy and the address
/// is guarded.
void end_if_copy(const void* address) noexcept;

/// As fork(2); what it makes is no copy to be kept out, and guards nothing itself.
int fork_member() noexcept;

}  // namespace brood::detail
