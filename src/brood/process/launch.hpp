#pragma once

#include <span>

#include <brood/memory/tag.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/start_method.hpp>

namespace brood::detail {

class Family;

/// A process that has been started.
struct Launched {
  ProcessHandle process;
  int pid = 0;
  bool own_child = false;  // this process's to reap; otherwise the fork server's
};

/// Starts the process that the reserved record `tag` describes, which gets copies of `descriptors`
/// with its arguments. Each method is one file. Throws StartError or SystemError; then there is no
/// process, and the record is still reserved.
Launched launch(Family& family, Tag tag, StartMethod method, std::span<const int> descriptors);

Launched launch_by_fork(Family& family, Tag tag, std::span<const int> descriptors);
Launched launch_by_spawn(Family& family, Tag tag, std::span<const int> descriptors);
Launched launch_by_forkserver(Family& family, Tag tag, std::span<const int> descriptors);

}  // namespace brood::detail
