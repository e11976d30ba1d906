#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace brood::detail {

// Bytes over a stream socket. None of these raises SIGPIPE, and none waits but where it says so;
// signals are waited over.

/// How many bytes were received; 0 at the end, for whatever reason there is one; nullopt if there
/// is nothing now. Throws SystemError.
std::optional<std::size_t> receive_some(int socket, std::span<std::byte> to);

/// The same, and waits until there is something; not nullopt, unless the socket does not block.
std::optional<std::size_t> await_some(int socket, std::span<std::byte> to);

/// How many bytes the kernel took; 0 if none now; nullopt if nobody will receive them any more.
/// Throws SystemError.
std::optional<std::size_t> send_some(int socket, std::span<const std::byte> from);

/// Ends it in both directions, also for threads that wait for it: of any socket.
void shut_down(int socket) noexcept;

/// Before it is closed: nothing will be sent any more, and what has come and was not received is
/// dropped. TCP takes that for a reason to drop what is on its way to the other end, too.
void finish_stream(int socket) noexcept;

}  // namespace brood::detail
