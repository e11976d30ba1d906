#include <brood/process/log_sink.hpp>

#include <cerrno>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>

#include <brood/errors.hpp>
#include <brood/platform/fd.hpp>
#include <brood/platform/write_text.hpp>

namespace brood::detail {
namespace {

constexpr const char* kPattern = "%Y-%m-%d %H:%M:%S.%f %l %n: %v";

class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (!write_text(2, {line.data(), line.size()})) throw std::runtime_error("stderr");
  }
  void flush_() override {}
};

/// Formats and writes by one of spdlog's sinks. There is no spdlog::logger and nothing in spdlog's
/// registry: those are the program's.
class SpdlogSink final : public LogSink {
 public:
  explicit SpdlogSink(std::unique_ptr<spdlog::sinks::sink> sink) : sink_(std::move(sink)) {
    sink_->set_formatter(std::make_unique<spdlog::pattern_formatter>(kPattern));
  }
  void put(const log::Record& record) override {
    fmt::memory_buffer who;
    const auto out = std::back_inserter(who);
    fmt::format_to(out, "{}[{}]", record.process, record.pid);
    if (record.task && record.task->item) fmt::format_to(out, " item {}", *record.task->item);
    if (record.task && record.task->attempt > 1)
      fmt::format_to(out, " attempt {}", record.task->attempt);
    const spdlog::details::log_msg message(
        record.time, spdlog::source_loc{}, spdlog::string_view_t(who.data(), who.size()),
        static_cast<spdlog::level::level_enum>(record.level),
        spdlog::string_view_t(record.text.data(), record.text.size()));
    sink_->log(message);
    sink_->flush();  // out of stdio's buffer: what the kernel has, no death takes away
  }

 private:
  std::unique_ptr<spdlog::sinks::sink> sink_;
};
static_assert(static_cast<int>(log::Level::critical) == spdlog::level::critical &&
              static_cast<int>(log::Level::trace) == spdlog::level::trace);

}  // namespace

std::unique_ptr<LogSink> LogSink::to_stderr() {
  return std::make_unique<SpdlogSink>(std::make_unique<StderrSink>());
}

std::unique_ptr<LogSink> LogSink::to_file(const std::string& path, log::Rotation rotation) {
  spdlog::file_event_handlers handlers;
  handlers.after_open = [](const spdlog::filename_t& /*name*/, std::FILE* file) {
    close_on_exec(file);
  };
  try {
    std::unique_ptr<spdlog::sinks::sink> sink;
    if (rotation.bytes == 0) {
      sink = std::make_unique<spdlog::sinks::basic_file_sink_mt>(path, false, handlers);
    } else {
      sink = std::make_unique<spdlog::sinks::rotating_file_sink_mt>(path, rotation.bytes,
                                                                    rotation.keep, false, handlers);
    }
    return std::make_unique<SpdlogSink>(std::move(sink));
  } catch (const spdlog::spdlog_ex& e) {
    const int error = errno;
    throw SystemError("open", fmt::format("path={}", path), error != 0 ? error : EIO);
  }
}

}  // namespace brood::detail
