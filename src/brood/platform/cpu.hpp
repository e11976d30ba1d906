#pragma once

namespace brood::detail {

/// CPUs that the calling thread may run on (its affinity); at least 1.
int affinity_count() noexcept;

/// CPUs that the control groups of this process allow it in time, rounded up (v2 `cpu.max`, v1
/// `cpu.cfs_quota_us`, the tightest on the way to the root); 0 when there is no limit or it cannot
/// be read.
int cgroup_quota() noexcept;

/// Binds this process's only thread, and what it starts, to the CPU that is the `index`-th of those
/// it may run on, counted around. Throws SystemError.
void pin_to_cpu(unsigned index);

/// Of this process: -20 (first) to 19 (what others leave).
int niceness() noexcept;
/// Throws SystemError: less than before needs a privilege.
void set_niceness(int niceness);

/// OpenMP, OpenBLAS, MKL and the like compute with so many threads in this process, and in what it
/// executes: by their environment variables, unless the user has set them, and by their functions,
/// where they are loaded. Only while no other thread runs.
void limit_library_threads(int threads) noexcept;

}  // namespace brood::detail
