#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace brood::detail {

/// The control group of a process, of one hierarchy.
struct ControlGroup {
  int version = 2;              ///< 1 or 2
  std::filesystem::path mount;  ///< where the hierarchy is mounted
  std::string path;             ///< of the group in it: "/user.slice/job-7"

  [[nodiscard]] std::filesystem::path folder() const {
    return mount / std::filesystem::path(path).relative_path();
  }
};

/// The groups of this process that may have to do with a controller, "cpu" or "memory": of version
/// 2, and of version 1 where the controller is in use there. Empty without /proc. Throws
/// std::bad_alloc and what std::filesystem throws.
std::vector<ControlGroup> own_control_groups(std::string_view controller);

}  // namespace brood::detail
