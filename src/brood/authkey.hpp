// Layer: channel
#pragma once

#include <string>
#include <string_view>

namespace brood {

/// The secret by which the processes of a family know each other over a network: what Listener and
/// connect() use for a TCP address if no other key is said.
///
///     brood::set_authkey(read_secret());  // the same in programs that shall talk to each other
///
/// A family begins with 32 random bytes, so that nobody else can talk to it. All its processes see
/// one key, whichever of them sets it and whenever they were started; connections that are open,
/// and listeners that are, stay with the one that they began with. Any thread may call these; a
/// process that is killed in set_authkey() has set it or has not.
///
/// A key is any bytes, up to 256; an empty one is valid, and anybody's guess. A peer that can try
/// many keys in its own time finds a word or a name: use random bytes, 16 or more.
///
/// Errors: StateError where there is no family and none can be founded; ArgumentError for a key
/// that is too long; TimeoutError when another process is stopped while it sets the key.
[[nodiscard]] std::string authkey();
void set_authkey(std::string_view key);

}  // namespace brood
