// Layer: process
#pragma once

#include <memory>

namespace brood {

namespace detail {
class Family;
}

/// A program's right to have children: construct one as the first line of main, before threads are
/// started, files opened and options read.
///
///     int main(int argc, char** argv) {
///       brood::Runtime runtime(argc, argv);
///       ...
///     }
///
/// What it does: makes the memory that this process and its descendants share, and forks the fork
/// server, a small process from which children start cleanly and quickly, and which ends the whole
/// family if this process dies. In a process that Brood executed (`spawn`) the constructor runs the
/// child's function and exits: what follows in main is not reached.
///
/// Use: one at a time in a process, from the thread that constructed it. Its destructor waits for
/// the children that are left (daemons are terminated) and for the fork server; afterwards nothing
/// of the family is left. If the process ends without it (exit, a signal), the fork server does
/// that. In a forked child it is inert: the child belongs to the same family.
///
/// Without a Runtime, the first use founds a family, with StartMethod::fork as the default and
/// without StartMethod::spawn, if no other thread runs; otherwise that use throws StateError.
///
/// Errors: StateError when there is one already; SystemError when the system has no memory,
/// descriptors or processes left (then nothing is left behind).
class Runtime {
 public:
  Runtime();
  /// `argv`: what `spawn` executes the program with; kept as it is now. Without it, the command
  /// line as the kernel has it. If `--brood-agent URL` is in it, or ends with `--brood-agent` (then
  /// the environment's BROOD_CLUSTER_URL counts), and the program has a ClusterPool, it is an
  /// agent: the constructor works for the cluster, and exits.
  Runtime(int argc, const char* const* argv);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  ~Runtime();

 private:
  std::shared_ptr<detail::Family> family_;
};

}  // namespace brood
