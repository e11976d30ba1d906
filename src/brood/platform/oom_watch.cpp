#include <brood/platform/oom_watch.hpp>

#include <unistd.h>

#include <charconv>
#include <exception>
#include <fstream>
#include <iterator>
#include <utility>

#include <brood/platform/control_group.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// Several that were killed at once are asked about one after the other, within this time.
constexpr auto kAtOnce = 1s;

std::vector<std::string> counting_files() {
  std::vector<std::string> files;
  for (const ControlGroup& group : own_control_groups("memory")) {
    const auto file =
        group.folder() / (group.version == 2 ? "memory.events" : "memory.oom_control");
    if (::access(file.c_str(), R_OK) == 0) files.push_back(file.string());
  }
  if (files.empty()) files.emplace_back("/proc/vmstat");
  return files;
}

}  // namespace

std::optional<std::uint64_t> oom_kills_in(std::string_view text) {
  static constexpr std::string_view kName = "oom_kill ";
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(kName)) continue;
    std::uint64_t count = 0;
    const char* end = line.data() + line.size();
    const auto parsed = std::from_chars(line.data() + kName.size(), end, count);
    if (parsed.ec == std::errc() && parsed.ptr == end) return count;
  }
  return std::nullopt;
}

OomWatch::OomWatch() noexcept {
  try {
    files_ = counting_files();
    seen_ = count();
  } catch (const std::exception& e) {
    static_cast<void>(e);
    files_.clear();
  }
}

OomWatch::OomWatch(std::vector<std::string> files) : files_(std::move(files)), seen_(count()) {}

std::uint64_t OomWatch::count() const {
  std::uint64_t sum = 0;
  for (const std::string& name : files_) {
    std::ifstream file(name);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    sum += oom_kills_in(text).value_or(0);
  }
  return sum;
}

bool OomWatch::has_killed() noexcept {
  try {
    const auto now = std::chrono::steady_clock::now();
    const std::uint64_t kills = count();
    if (kills > seen_) {
      left_ = kills - seen_;
      left_since_ = now;
    } else if (now - left_since_ > kAtOnce) {
      left_ = 0;
    }
    seen_ = kills;
    if (left_ == 0) return false;
    --left_;
    return true;
  } catch (const std::exception& e) {
    static_cast<void>(e);
    return false;
  }
}

}  // namespace brood::detail
