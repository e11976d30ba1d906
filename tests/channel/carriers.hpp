// Connections over everything that can carry one, so that one test body runs over each.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include <brood/connect.hpp>
#include <brood/connection.hpp>
#include <brood/listener.hpp>

namespace brood::testing {

enum class Carrier : std::uint8_t { pipe, unix_name, unix_tls, tcp };

inline std::string name_of_carrier(const ::testing::TestParamInfo<Carrier>& info) {
  switch (info.param) {
    case Carrier::pipe:
      return "pipe";
    case Carrier::unix_name:
      return "unix";
    case Carrier::unix_tls:
      return "unix_tls";
    case Carrier::tcp:
      return "tcp";
  }
  return "";
}

inline Address address_for(Carrier carrier) {
  if (carrier == Carrier::tcp) return Address::tcp("127.0.0.1", 0);
  static int count = 0;
  return Address::abstract("brood-test-" + std::to_string(::getpid()) + "-" +
                           std::to_string(++count));
}

struct Ends {
  Connection first;   // of whoever accepted
  Connection second;  // of whoever connected
};

struct Limits {
  std::uint64_t first = std::uint64_t{1} << 30U;
  std::uint64_t second = std::uint64_t{1} << 30U;
};

inline Ends make_ends(Carrier carrier, Limits limits = {}) {
  if (carrier == Carrier::pipe) {
    Pipe one({.max_message_bytes = limits.first});
    return {std::move(one.first), std::move(one.second)};
  }
  ListenOptions listen{.max_message_bytes = limits.first};
  ConnectOptions options{.max_message_bytes = limits.second};
  if (carrier != Carrier::unix_name) options.authkey = listen.authkey = "secret";
  Listener listener(address_for(carrier), std::move(listen));
  Ends ends;
  std::thread connecting([&] { ends.second = connect(listener.address(), options); });
  ends.first = listener.accept();
  connecting.join();
  return ends;
}

class EveryCarrier : public ::testing::TestWithParam<Carrier> {
 protected:
  [[nodiscard]] static bool encrypted() {
    return GetParam() == Carrier::unix_tls || GetParam() == Carrier::tcp;
  }
  static Ends ends(Limits limits = {}) { return make_ends(GetParam(), limits); }
};

}  // namespace brood::testing

/// Runs the tests of a suite derived from EveryCarrier over each.
#define BROOD_OVER_EVERY_CARRIER(Suite)                                                        \
  INSTANTIATE_TEST_SUITE_P(                                                                    \
      , Suite,                                                                                 \
      ::testing::Values(::brood::testing::Carrier::pipe, ::brood::testing::Carrier::unix_name, \
                        ::brood::testing::Carrier::unix_tls, ::brood::testing::Carrier::tcp),  \
      ::brood::testing::name_of_carrier)
