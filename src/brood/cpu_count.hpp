// Layer: process
#pragma once

namespace brood {

/// How many CPUs this process may use, at least 1: the least of its affinity and its control
/// groups' time quota (rounded up). The environment variable BROOD_CPU_COUNT, a positive number,
/// overrides it; a pool's workers, and what they start, have their share in it (see
/// PoolOptions::cpus_per_worker). Read anew at every call.
int cpu_count();

namespace detail {
/// This process, and what it starts, shall use so many. Only while no other thread runs.
void share_cpus(int cpus);
}  // namespace detail

}  // namespace brood
