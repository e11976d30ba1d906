#include <brood/process/launch.hpp>

namespace brood::detail {

Launched launch(Family& family, Tag tag, StartMethod method, std::span<const int> descriptors) {
  switch (method) {
    case StartMethod::fork:
      return launch_by_fork(family, tag, descriptors);
    case StartMethod::spawn:
      return launch_by_spawn(family, tag, descriptors);
    case StartMethod::forkserver:
      break;
  }
  return launch_by_forkserver(family, tag, descriptors);
}

}  // namespace brood::detail
