#pragma once

#include <brood/memory/tag.hpp>

namespace brood::detail {

class Family;

/// Watches the watcher: a process that the fork server forks, and which does nothing as long as
/// that one lives. When the fork server dies it takes over the watch (but not the forking), so that
/// the root's death ends the family even then. It goes when a new fork server comes.
///
/// `tag` is this process's reserved record, `server` the fork server's. Does not return.
[[noreturn]] void run_guardian(Family& family, Tag tag, Tag server, int server_pid);

}  // namespace brood::detail
