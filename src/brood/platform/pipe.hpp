#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include <brood/platform/fd.hpp>
#include <brood/platform/fork_local_fd.hpp>

namespace brood::detail {

/// A pipe of bytes.
struct BytePipe {
  ForkLocalFd out;  ///< reading does not wait
  Fd in;
};

/// Throws SystemError.
BytePipe make_pipe();

/// How many bytes were read; 0 at the end: nobody can write any more; nullopt if there is nothing
/// now. Throws SystemError.
std::optional<std::size_t> read_some(int fd, std::span<std::byte> to);

/// Up to 4096 bytes, by one write: to a descriptor that is writable, be it a pipe that blocks, it
/// does not wait. How many were taken; nullopt if nobody takes them. For a thread that blocks
/// SIGPIPE.
std::optional<std::size_t> write_piece(int fd, std::span<const std::byte> from) noexcept;

}  // namespace brood::detail
