#pragma once

#include <brood/sandbox.hpp>

namespace brood::detail {

/// From now on, and for ever, this process may do what `sandbox` says. Throws SystemError, for
/// instance where the kernel has no seccomp; then some of it may hold already.
void enter_sandbox(const Sandbox& sandbox);

}  // namespace brood::detail
