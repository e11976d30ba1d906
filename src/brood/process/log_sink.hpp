#pragma once

#include <memory>
#include <string>

#include <brood/log.hpp>

namespace brood::detail {

/// Where records become text. Any thread may use it. What put() cannot write it throws.
class LogSink {
 public:
  LogSink() = default;
  LogSink(const LogSink&) = delete;
  LogSink& operator=(const LogSink&) = delete;
  virtual ~LogSink() = default;
  virtual void put(const log::Record& record) = 0;

  /// Lines to descriptor 2, one write(2) each.
  static std::unique_ptr<LogSink> to_stderr();
  /// Lines appended to a file, each in the kernel when put() returns. Throws SystemError.
  static std::unique_ptr<LogSink> to_file(const std::string& path, log::Rotation rotation);
};

}  // namespace brood::detail
