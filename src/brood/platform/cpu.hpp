#pragma once

namespace brood::detail {

/// CPUs that the calling thread may run on (its affinity); at least 1.
int affinity_count() noexcept;

/// CPUs that the control groups of this process allow it in time, rounded up (v2 `cpu.max`, v1
/// `cpu.cfs_quota_us`, the tightest on the way to the root); 0 when there is no limit or it cannot
/// be read.
int cgroup_quota() noexcept;

}  // namespace brood::detail
