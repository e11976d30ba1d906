// Layer: channel
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace brood {

/// Where a Listener can be found: a value, which can be sent anywhere.
///
///     brood::Address::path("/run/app/control")      // a Unix socket, for this user alone
///     brood::Address::abstract("app")               // the same without a file
///     brood::Address::tcp("127.0.0.1", 4711)        // a network
///
/// Whether it makes sense is looked at when it is used: then ArgumentError is thrown for a Unix
/// name that is empty, longer than 107 bytes, or has a NUL in it, and for an empty host. A relative
/// path is relative to the working directory of whoever uses it.
struct Address {
  enum class Kind : std::uint8_t { path, abstract, tcp };

  static Address path(std::string path) { return {Kind::path, std::move(path), 0}; }
  static Address abstract(std::string name) { return {Kind::abstract, std::move(name), 0}; }
  /// Port 0 is for listening: one that is free, which the Listener then tells.
  static Address tcp(std::string host, std::uint16_t port) {
    return {Kind::tcp, std::move(host), port};
  }

  Kind kind = Kind::path;
  std::string name;        ///< path, name or host
  std::uint16_t port = 0;  ///< of TCP

  /// For people: "/run/app/control", "@app", "127.0.0.1:4711", "[::1]:4711".
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Address&, const Address&) = default;
};

}  // namespace brood
