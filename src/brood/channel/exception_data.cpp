// Layer: channel
#include <fmt/format.h>
#include <brood/channel/error_bytes.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/channel/exception_types.hpp>
#include <brood/platform/stack_trace.hpp>
#include <brood/platform/write_text.hpp>

#include <algorithm>
#include <memory>

namespace brood::detail {

namespace {

// Limits of an encoded record, so that an error always fits where results go. An exception with
// more to keep than kMaxPayload comes back as RemoteError.
constexpr std::uint8_t kFormat = 1;
constexpr std::size_t kMaxName = 1024;
constexpr std::size_t kMaxMessage = 16 * 1024;
constexpr std::size_t kMaxFrame = 512;
constexpr std::size_t kMaxFrames = 2 * StackTrace::kMaxFrames;  // one exception passed on once
constexpr std::size_t kMaxPayload = 32 * 1024;
constexpr std::size_t kMaxDepth = 7;
constexpr std::size_t kMaxCauses = 7;  // in all
static_assert((kMaxCauses + 1) *
                  (3 * kMaxName + kMaxMessage + kMaxFrames * (kMaxFrame + 4) + kMaxPayload + 64) <=
              kMaxEncodedError);

constexpr std::string_view kPassedOn = "-- passed on by another process --";

ErrorRecord record_of_failure(const RemoteFailure& failure) {
  ErrorRecord record{.type = failure.type,
                     .message = failure.message,
                     .stack = failure.stack,
                     .process = failure.process,
                     .item = failure.item};
  for (const RemoteFailure& cause : failure.causes) {
    record.causes.push_back(record_of_failure(cause));
  }
  return record;
}

void keep_type(ErrorRecord& record, const CaughtException& exception) {
  const ExceptionType* known = find_exception_type(exception);
  if (known == nullptr) return;
  if (record.type.empty()) record.type = readable_type(*known->type);
  if (known->encode != nullptr) {
    try {
      record.payload = known->encode(exception.as(*known->type));
    } catch (...) {  // the user's function gave up: it becomes a RemoteError
      return;
    }
  }
  record.key = known->type->name();
}

ErrorRecord record_of(const CaughtException& exception, const StackTrace& stack,
                      std::size_t depth) {
  ErrorRecord record;
  if (exception.type() == nullptr) {
    record.type = "an exception that is not of C++";
    return record;
  }
  const auto* remote = exception.as<RemoteTrace>();
  if (remote != nullptr) {
    record = record_of_failure(remote->failure());
  } else if (const auto* standard = exception.as<std::exception>()) {
    if (const char* message = standard->what()) record.message = message;
  }
  keep_type(record, exception);
  if (record.type.empty()) record.type = readable_type(*exception.type());

  if (const auto* nested = exception.as<std::nested_exception>()) {
    const std::exception_ptr cause = nested->nested_ptr();
    if (cause && depth < kMaxDepth) {
      // What was thrown again here still knows its own type; a failure's causes are only text.
      if (!record.causes.empty()) record.causes.erase(record.causes.begin());
      record.causes.insert(record.causes.begin(),
                           record_of(CaughtException(cause), StackTrace(), depth + 1));
    }
  }

  std::vector<std::string> lines = symbolize(stack);
  if (!lines.empty() && !record.stack.empty()) record.stack.emplace_back(kPassedOn);
  std::move(lines.begin(), lines.end(), std::back_inserter(record.stack));
  return record;
}

ErrorRecord out_of_memory() noexcept {
  // Every text is short enough to need no memory.
  ErrorRecord record;
  record.type = record.message = "std::bad_alloc";
  record.key = typeid(std::bad_alloc).name();
  return record;
}

// `text`, or its beginning and how much is missing.
std::string cut(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return std::string(text);
  static constexpr std::size_t kNote = 40;
  std::size_t kept = limit - kNote;
  while (kept > 0 && (static_cast<unsigned char>(text[kept]) & 0xC0) == 0x80) --kept;  // UTF-8
  return fmt::format("{}... ({} bytes more)", text.substr(0, kept), text.size() - kept);
}

void put_record(ErrorWriter& out, const ErrorRecord& record, std::size_t depth,
                std::size_t& causes_left) {
  const bool fits = record.payload.size() <= kMaxPayload && record.key.size() <= kMaxName;
  out.text(cut(record.type, kMaxName));
  out.text(cut(record.message, kMaxMessage));
  out.text(fits ? record.key : std::string());
  out.text(fits ? record.payload : std::string());
  out.text(cut(record.process, kMaxName));
  out.number(std::uint8_t{record.item.has_value()});
  out.number(std::uint64_t{record.item.value_or(0)});
  const std::size_t frames = std::min(record.stack.size(), kMaxFrames);
  out.number(static_cast<std::uint16_t>(frames));
  for (std::size_t i = 0; i < frames; ++i) out.text(cut(record.stack[i], kMaxFrame));
  // The first cause's own causes come before a second cause.
  std::size_t causes =
      depth < kMaxDepth ? std::min(record.causes.size(), causes_left) : std::size_t{0};
  causes_left -= causes;
  out.number(static_cast<std::uint8_t>(causes));
  for (std::size_t i = 0; i < causes; ++i) {
    put_record(out, record.causes[i], depth + 1, causes_left);
  }
}

ErrorRecord get_record(ErrorReader& in, std::size_t depth, std::size_t& causes_left) {
  ErrorRecord record;
  record.type = in.text(kMaxName);
  record.message = in.text(kMaxMessage);
  record.key = in.text(kMaxName);
  record.payload = in.text(kMaxPayload);
  record.process = in.text(kMaxName);
  const auto has_item = in.number<std::uint8_t>();
  const auto item = in.number<std::uint64_t>();
  if (has_item > 1) throw DecodeError("bytes of an error do not decode: neither item nor none");
  if (has_item == 1) record.item = item;
  const std::size_t frames = in.number<std::uint16_t>();
  if (frames > kMaxFrames) throw DecodeError("bytes of an error do not decode: stack too deep");
  for (std::size_t i = 0; i < frames; ++i) record.stack.push_back(in.text(kMaxFrame));
  const std::size_t causes = in.number<std::uint8_t>();
  if (causes > causes_left || (causes > 0 && depth >= kMaxDepth)) {
    throw DecodeError("bytes of an error do not decode: too many causes");
  }
  causes_left -= causes;
  for (std::size_t i = 0; i < causes; ++i) {
    record.causes.push_back(get_record(in, depth + 1, causes_left));
  }
  return record;
}

[[noreturn]] void throw_one(const ErrorRecord& record, bool nested) {
  const auto failure = std::make_shared<const RemoteFailure>(remote_failure(record));
  if (!record.key.empty()) {
    if (const ExceptionType* known = find_exception_type(record.key)) {
      known->raise(*known, failure, record.payload, nested);
    }
  }
  if (nested) throw WithCause<RemoteError>(RemoteError(failure));
  throw RemoteError(failure);
}

[[noreturn]] void throw_chain(const ErrorRecord& record, std::size_t depth) {
  if (!record.causes.empty() && depth < kMaxDepth) {
    try {
      throw_chain(record.causes.front(), depth + 1);
    } catch (...) {  // what is thrown in its handler gets it as its cause
      throw_one(record, true);
    }
  }
  throw_one(record, false);
}

}  // namespace

ErrorRecord record_current_exception() noexcept try {
  const CaughtException exception;
  return record_of(exception, exception.take_stack(), 0);
} catch (...) {
  return out_of_memory();
}

ErrorRecord record_exception(std::exception_ptr exception) noexcept try {
  return record_of(CaughtException(std::move(exception)), StackTrace(), 0);
} catch (...) {
  return out_of_memory();
}

void encode_error(std::vector<std::byte>& out, const ErrorRecord& record) {
  ErrorWriter writer;
  std::size_t causes_left = kMaxCauses;
  writer.number(kFormat);
  put_record(writer, record, 0, causes_left);
  const std::string bytes = writer.take();
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  out.insert(out.end(), begin, begin + bytes.size());
}

ErrorRecord decode_error(std::span<const std::byte> bytes) {
  ErrorReader in({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (const auto format = in.number<std::uint8_t>(); format != kFormat) {
    throw DecodeError(
        fmt::format("bytes of an error do not decode: format {} is not {}", format, kFormat));
  }
  std::size_t causes_left = kMaxCauses;
  ErrorRecord record = get_record(in, 0, causes_left);
  in.end();
  return record;
}

void throw_error(const ErrorRecord& record) { throw_chain(record, 0); }

RemoteFailure remote_failure(const ErrorRecord& record) {
  RemoteFailure failure{.type = record.type,
                        .message = record.message,
                        .stack = record.stack,
                        .process = record.process,
                        .item = record.item};
  for (const ErrorRecord& cause : record.causes) failure.causes.push_back(remote_failure(cause));
  return failure;
}

void report_uncaught(int fd, std::string_view process_name, int pid, const ErrorRecord& record) {
  write_text(fd, fmt::format("Process {} (pid {}): uncaught {}\n", process_name, pid,
                             remote_failure(record).describe()));
}

}  // namespace brood::detail
