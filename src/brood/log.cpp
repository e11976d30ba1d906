#include <brood/log.hpp>

#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/log_cell.hpp>
#include <brood/process/family.hpp>
#include <brood/process/log_output.hpp>

namespace brood {
namespace {

using detail::LogDestination;
using detail::LogOutput;
using Kind = LogDestination::Kind;

constexpr std::array<std::string_view, 7> kNames{"trace", "debug",    "info", "warn",
                                                 "error", "critical", "off"};
static_assert(static_cast<std::uint32_t>(log::Level::off) == detail::LogCell::kOff);

// Members may be elsewhere when they write.
std::string absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  if (error) throw SystemError("getcwd", fmt::format("path={}", path), error.value());
  return whole.string();
}

}  // namespace

namespace log {

std::string_view to_string(Level level) noexcept {
  return kNames[std::min<std::size_t>(static_cast<std::size_t>(level), kNames.size() - 1)];
}

void to_stderr(Level level) { LogOutput::mine().set({.kind = Kind::own_stderr}, {}, level); }

void to_files(const std::string& folder, Level level, Rotation rotation) {
  const std::string path = absolute(folder);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw SystemError("mkdir", fmt::format("path={}", path), error.value());
  LogOutput::mine().set(
      {.kind = Kind::own_file, .keep = rotation.keep, .rotate_bytes = rotation.bytes, .path = path},
      {}, level);
}

void to_root(Level level) { LogOutput::mine().set({.kind = Kind::root_stderr}, {}, level); }

void to_root(const std::string& file, Level level, Rotation rotation) {
  LogOutput::mine().set({.kind = Kind::root_file,
                         .keep = rotation.keep,
                         .rotate_bytes = rotation.bytes,
                         .path = absolute(file)},
                        {}, level);
}

void to_root(std::function<void(const Record&)> take, Level level) {
  LogOutput::mine().set({.kind = Kind::root_call}, std::move(take), level);
}

void off() { LogOutput::mine().off(); }

void set_level(Level level) {
  const auto family = detail::Family::require();
  family->segment().header().log.level.store(static_cast<std::uint32_t>(level));
}

Level level() noexcept {
  return static_cast<Level>(std::min(detail::log_level_word.load()->load(), detail::LogCell::kOff));
}

bool flush(std::chrono::milliseconds patience) { return LogOutput::mine().flush(patience); }

std::uint64_t lost() noexcept {
  const auto member = detail::Member::current();
  return member ? member->segment().header().log.lost.load() : 0;
}

void write(Level level, std::string_view text) noexcept {
  if (level != Level::off && enabled(level)) LogOutput::mine().write(level, text);
}

}  // namespace log

namespace detail {

void write_formatted(log::Level level, fmt::string_view format, fmt::format_args args) noexcept {
  if (level == log::Level::off) return;
  try {
    fmt::memory_buffer text;
    fmt::vformat_to(std::back_inserter(text), format, args);
    LogOutput::mine().write(level, {text.data(), text.size()});
  } catch (...) {
    // An argument that cannot be formatted: said in its place.
    LogOutput::mine().write(level, {format.data(), format.size()});
  }
}

}  // namespace detail
}  // namespace brood
