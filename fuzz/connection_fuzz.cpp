// What comes over a network, to the three things that read it. The first byte says to which:
// the frames of an authenticated peer; a server's handshake; a client's. Whatever the bytes are, a
// message comes out, more is wanted, or DecodeError, MessageTooLarge or AuthenticationError is
// thrown; nobody is let in.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include <brood/channel/frame_parser.hpp>
#include <brood/channel/tls_session.hpp>
#include <brood/errors.hpp>

namespace {

using brood::detail::FrameParser;
using brood::detail::TlsContext;
using brood::detail::TlsSession;

constexpr std::uint64_t kLimit = 1000;

/// Cut into pieces, the stream must give the same messages.
void parse(std::span<const std::byte> bytes) {
  struct Seen {
    std::vector<std::vector<std::byte>> messages;
    std::size_t too_large = 0;
    bool refused = false;
    bool operator==(const Seen&) const = default;
  };
  const auto run = [&](std::size_t step) {
    FrameParser parser(kLimit);
    Seen seen;
    const auto take_all = [&] {
      while (parser.ready()) {
        try {
          seen.messages.push_back(parser.take().take_vector());
          if (seen.messages.back().size() > kLimit) std::abort();
        } catch (const brood::MessageTooLarge&) {
          ++seen.too_large;
        }
      }
    };
    try {
      for (std::size_t at = 0; at < bytes.size(); at += step) {
        parser.feed(bytes.subspan(at, std::min(step, bytes.size() - at)));
        take_all();
      }
    } catch (const brood::DecodeError&) {
      seen.refused = true;
    }
    take_all();
    return seen;
  };
  if (!(run(bytes.size() + 1) == run(3))) std::abort();
}

void shake_hands(TlsContext::Side side, std::span<const std::byte> bytes) {
  static const auto server =
      std::make_shared<const TlsContext>(TlsContext::Side::server, "key of the fuzzer");
  static const auto client =
      std::make_shared<const TlsContext>(TlsContext::Side::client, "key of the fuzzer");
  TlsSession session(side == TlsContext::Side::server ? server : client);
  if (session.handshake()) std::abort();
  // In two pieces: what is wanted after the first is another state.
  for (const auto part : {bytes.first(bytes.size() / 2), bytes.subspan(bytes.size() / 2)}) {
    session.feed(part);
    // NOTE: nobody can have the other side's random numbers, so nothing recorded fits.
    if (session.handshake()) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  try {
    switch (data[0] % 3) {
      case 0:
        parse(bytes);
        break;
      case 1:
        shake_hands(TlsContext::Side::server, bytes);
        break;
      default:
        shake_hands(TlsContext::Side::client, bytes);
    }
  } catch (const brood::AuthenticationError&) {
    return 0;
  }
  return 0;
}
