// Layer: platform
#pragma once

#include <cstddef>
#include <cstdint>

namespace brood {

/// What the workers of a pool may do: for libraries and inputs that are not trusted. A plain value;
/// nothing in it is shared.
///
///     brood::Pool pool({.sandbox = brood::Sandbox{}});  // compute, and nothing else
///     brood::Pool readers({.sandbox = brood::Sandbox{.files = brood::Sandbox::Files::read}});
///
/// It begins when the initializer has ended, which so may open what the tasks need, and lasts until
/// the worker's end, for all of its threads and whatever they start. What it forbids fails with
/// EPERM, as an error of the task, who may go on; nothing else dies. In any case forbidden: to
/// signal, trace or read other processes; to become another user or get privileges, those that the
/// worker has as root included; to change the system: mounts, namespaces, modules, clocks, keys;
/// older and stranger interfaces of the kernel (System V memory, io_uring, bpf, userfaultfd, those
/// of 32-bit programs, which end the worker). No core is dumped.
///
/// The kernel enforces it (seccomp). It keeps a worker from the rest of the machine, not from its
/// own family: it can still write into the family's shared memory, and so harm the pool's process,
/// if it was written to do that; and what it inherited stays open to it: with StartMethod::fork
/// that is all that this process has open, so prefer the other two. Times are limited by
/// CallOptions, as ever.
struct Sandbox {
  enum class Files : std::uint8_t {
    none,   ///< no file is opened; whether one exists can be asked
    read,   ///< any that the user may read
    write,  ///< as outside
  };
  Files files = Files::none;
  bool network = false;    ///< sockets
  bool programs = false;   ///< to execute them; they need `processes` and `files`, mostly
  bool processes = false;  ///< fork; threads may be started in any case
  /// Bytes of private memory that a worker may have beyond what it has when the sandbox begins, as
  /// in CallOptions::memory, but for all of its items together; and how many descriptors it may
  /// have open. 0: as outside.
  std::size_t memory = 0;
  std::size_t open_files = 0;
};

}  // namespace brood
