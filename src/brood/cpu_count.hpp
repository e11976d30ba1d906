// Layer: process
#pragma once

namespace brood {

/// How many CPUs this process may use, at least 1: the least of its affinity and its control
/// groups' time quota (rounded up). The environment variable BROOD_CPU_COUNT, a positive number,
/// overrides it. Read anew at every call.
int cpu_count();

}  // namespace brood
