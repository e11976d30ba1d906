#pragma once

#include <brood/memory/tag.hpp>
#include <brood/platform/fd.hpp>

namespace brood::detail {

class Family;

/// What a guardian begins with, in a fork of the fork server.
struct GuardianPost {
  Tag tag;     // its reserved record
  Tag server;  // the fork server's
  int server_pid = 0;
  Fd requests;  // the socket that both have
};

/// Watches the watcher: a process that the fork server forks, as clean as that one is, and which
/// does nothing as long as that one lives. When the fork server dies it becomes the fork server:
/// the requests that wait in the socket are served, and members notice nothing. When the root dies
/// it ends the family, whether the fork server does or not.
///
/// Ends with the family, but returns in the guardian that it forks as a fork server: a row of
/// takeovers is a loop, not a stack that grows.
GuardianPost run_guardian(Family& family, GuardianPost post);

}  // namespace brood::detail
