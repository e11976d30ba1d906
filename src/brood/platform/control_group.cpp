#include <brood/platform/control_group.hpp>

#include <fstream>
#include <sstream>

namespace brood::detail {
namespace {

/// Whether a list as "cpu,cpuacct" names it.
bool lists(const std::string& text, std::string_view controller) {
  std::istringstream list(text);
  for (std::string entry; std::getline(list, entry, ',');) {
    if (entry == controller) return true;
  }
  return false;
}

struct Mounts {
  std::string v2;
  std::string v1;
};

Mounts find_mounts(std::string_view controller) {
  Mounts mounts;
  std::ifstream file("/proc/self/mounts");
  std::string device;
  std::string where;
  std::string type;
  std::string options;
  std::string rest;
  while (file >> device >> where >> type >> options && std::getline(file, rest)) {
    if (type == "cgroup2" && mounts.v2.empty()) mounts.v2 = where;
    if (type == "cgroup" && mounts.v1.empty() && lists(options, controller)) mounts.v1 = where;
  }
  return mounts;
}

}  // namespace

std::vector<ControlGroup> own_control_groups(std::string_view controller) {
  std::vector<ControlGroup> found;
  const Mounts mounts = find_mounts(controller);
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:cpu,cpuacct:/path" or "0::/path"
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty() && !mounts.v2.empty()) {
      found.push_back({.version = 2, .mount = mounts.v2, .path = path});
    } else if (lists(controllers, controller) && !mounts.v1.empty()) {
      found.push_back({.version = 1, .mount = mounts.v1, .path = path});
    }
  }
  return found;
}

}  // namespace brood::detail
