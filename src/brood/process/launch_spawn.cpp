#include <vector>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/program.hpp>
#include <brood/process/family.hpp>
#include <brood/process/launch.hpp>

namespace brood::detail {

Launched launch_by_spawn(Family& family, Tag tag, std::span<const int> descriptors) {
  if (!family.has_runtime()) {
    throw StartError(add_runtime_hint(
        "spawn executes the program again, and without a Runtime the child would not know itself"));
  }
  family.ensure_watched();  // first, so that the child has the way to the same fork server
  const std::shared_ptr<const Fd> server = family.server_socket();
  const int pid = family.execute_member("child", tag, server.get(), descriptors);
  Launched launched{.process = ProcessHandle::open_child(pid), .pid = pid, .own_child = true};
  family.ask_to_watch(tag, launched.process);
  return launched;
}

}  // namespace brood::detail
