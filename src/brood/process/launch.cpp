#include <brood/process/launch.hpp>

namespace brood::detail {

Launched launch(Family& family, Tag tag, StartMethod method) {
  switch (method) {
    case StartMethod::fork:
      return launch_by_fork(family, tag);
    case StartMethod::spawn:
      return launch_by_spawn(family, tag);
    case StartMethod::forkserver:
      break;
  }
  return launch_by_forkserver(family, tag);
}

}  // namespace brood::detail
