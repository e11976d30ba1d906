#include <brood/wait.hpp>

#include <brood/errors.hpp>
#include <brood/platform/poller.hpp>

namespace brood::detail {

std::vector<std::size_t> wait_until(std::span<const Waitable> objects, Deadline deadline) {
  if (objects.empty() && deadline.is_never()) {
    throw StateError("wait: there is nothing to wait for, and no timeout");
  }
  std::vector<int> fds;
  fds.reserve(objects.size());
  for (const Waitable& object : objects) fds.push_back(object.descriptor());
  const std::vector<bool> readable = wait_readable(fds, deadline);
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < readable.size(); ++i) {
    if (readable[i]) ready.push_back(i);
  }
  return ready;
}

}  // namespace brood::detail
