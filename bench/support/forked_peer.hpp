#pragma once
// A forked process that stands beside what is measured, and never outlives it.

#include <sys/types.h>

namespace bench {

// Forks. In the child 0: it ends with the caller, and has none of its descriptors but the standard
// ones. Throws std::system_error.
pid_t fork_peer();

// Kills what fork_peer() has made, and waits until it has ended.
void end_peer(pid_t pid);

}  // namespace bench
