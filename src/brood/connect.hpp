// Layer: channel
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <brood/address.hpp>
#include <brood/connection.hpp>

namespace brood {

struct ConnectOptions {
  /// As the Listener has it. TCP: the family's if none is said. Unix: with one, the connection is
  /// encrypted and both prove it; without, the kernel says that the other is of the same user.
  std::optional<std::string> authkey = {};
  /// For all of it: finding the machine, connecting, proving the key.
  std::chrono::nanoseconds timeout = std::chrono::seconds(20);
  /// Longer messages are refused at this end.
  std::uint64_t max_message_bytes = std::uint64_t{1} << 30U;
};

/// Connects to a Listener, as Python's Client(address).
///
///     brood::Connection connection = brood::connect(brood::Address::path("/run/app/control"));
///     connection.send(std::string("hello"));
///
/// With an authkey the Listener has to be accepting: it returns when both sides have proved the
/// key. Any thread may call it. Errors: AuthenticationError when the other side has another key, no
/// key, another user, or is no Listener; TimeoutError; SystemError when nobody listens there
/// (ENOENT, ECONNREFUSED) or the network says no; ArgumentError for an impossible address.
Connection connect(const Address& address, const ConnectOptions& options = {});

}  // namespace brood
