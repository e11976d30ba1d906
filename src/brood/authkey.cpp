#include <brood/authkey.hpp>

#include <chrono>
#include <memory>
#include <thread>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/memory/this_thread.hpp>
#include <brood/platform/deadline.hpp>

namespace brood {

std::string authkey() { return detail::Member::require()->segment().header().authkey.read(); }

void set_authkey(std::string_view key) {
  using detail::AuthKeyCell;
  if (key.size() > AuthKeyCell::kMostBytes) {
    throw ArgumentError(
        fmt::format("an authkey of {} bytes: it may have {}", key.size(), AuthKeyCell::kMostBytes));
  }
  const std::shared_ptr<detail::Member> member = detail::Member::require();
  const detail::Tag self = detail::ThisThread::tag();
  const auto dead = [&](detail::Tag tag) { return !member->registry().alive(tag); };
  // It takes a living one a microsecond.
  const auto deadline = detail::Deadline::after(std::chrono::seconds(5));
  while (!member->segment().header().authkey.try_write(key, self, dead)) {
    if (deadline.passed()) {
      throw TimeoutError("another process has begun to set the authkey, and does not go on");
    }
    std::this_thread::yield();
  }
}

}  // namespace brood
