#pragma once

#include <array>
#include <cstdint>

#include <brood/channel/thunk.hpp>
#include <brood/manager/call_board.hpp>

namespace brood::detail {

/// What a client and a served manager say to each other; see docs/design/manager.md. All of these
/// cross bytewise, in front of arguments or results.

/// Who a client is, among those of one manager: 128 random bits.
using SessionId = std::array<std::uint64_t, 2>;

/// The first message of a connection; the answer is a RemoteReply.
struct RemoteHello {
  static constexpr std::uint64_t kMagic = 0x31524547'414E414D;  // "MANAGER1"
  std::uint64_t magic = kMagic;
  SessionId session{};
  std::uint64_t begins = 0;  // 1: the session's first connection
};

struct RemoteRequest {
  enum class Kind : std::uint32_t {
    call = 1,
    drop,  ///< the client does not refer to `object` any more; no reply
  };
  Kind kind = Kind::call;
  std::uint32_t for_proxy = 0;  // 1: the result is a proxy, and the reply is its object's number
  std::uint64_t object = 0;
  FunctionId function{};
};

/// In front of a result or an ErrorRecord.
struct RemoteReply {
  CallOutcome outcome = CallOutcome::value;
};

}  // namespace brood::detail
