#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace brood::detail {

/// How many processes the kernel has killed for want of memory, by the text of `memory.events`,
/// `memory.oom_control` or /proc/vmstat; nullopt if it does not say.
std::optional<std::uint64_t> oom_kills_in(std::string_view text);

/// Tells deaths by the kernel's out-of-memory killer from other deaths by SIGKILL: it counts them,
/// for each control group.
///
/// It looks at the group of the process that made it, in which the groups below are counted too
/// (not with version 1), or at the whole machine where there is no such group. Who was killed it
/// cannot say: a SIGKILL from elsewhere right after such a death is taken for another. A member of
/// an object; one thread at a time; nothing is shared and nothing survives a fork that needs it.
class OomWatch {
 public:
  /// From now on. Where nothing can be read, nobody is ever said to have died of it.
  OomWatch() noexcept;
  /// Reads these files instead.
  explicit OomWatch(std::vector<std::string> files);

  /// A process has died of SIGKILL: whether it was that. Once for each that has died.
  bool has_killed() noexcept;

 private:
  [[nodiscard]] std::uint64_t count() const;

  std::vector<std::string> files_;
  std::uint64_t seen_ = 0;
  std::uint64_t left_ = 0;  // kills that were counted, and whose dead have not been asked about
  std::chrono::steady_clock::time_point left_since_;
};

}  // namespace brood::detail
