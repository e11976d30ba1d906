#pragma once

#include <brood/memory/tag.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

class Family;

/// Watches the watcher: a process that the fork server forks, as clean as that one is, and which
/// does nothing as long as that one lives. When the fork server dies it becomes the fork server:
/// the requests that wait in the socket are served, and members notice nothing. When the root dies
/// it ends the family, whether the fork server does or not.
///
/// `tag` is this process's reserved record, `server` the fork server's, `requests` the socket that
/// both have. Does not return.
[[noreturn]] void run_guardian(Family& family, Tag tag, Tag server, int server_pid, Fd requests);

}  // namespace brood::detail
