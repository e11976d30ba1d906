#include <brood/process/log_record.hpp>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/log_cell.hpp>

namespace brood::detail {
namespace {

struct DestinationHead {
  LogDestination::Kind kind;
  std::uint32_t keep;
  std::uint64_t rotate_bytes;
  ObjectRef queue;
};
constexpr std::size_t kLongestPath =
    decltype(LogCell::destination)::kMostBytes - sizeof(DestinationHead);

struct RecordHead {
  std::int64_t time;      // nanoseconds of the system clock
  std::uint64_t item;     // kNoItem: none
  std::uint32_t attempt;  // 0: no task
  std::int32_t pid;
  std::uint32_t text_bytes;
  std::uint16_t name_bytes;
  std::uint8_t level;
  std::uint8_t reserved;
};
static_assert(sizeof(RecordHead) == 32);
constexpr std::uint64_t kNoItem = ~std::uint64_t{0};

std::string_view take_text(ByteSource& source, std::size_t bytes) {
  return {reinterpret_cast<const char*>(source.take(bytes)), bytes};
}

}  // namespace

std::string LogDestination::encode() const {
  if (path.size() > kLongestPath) {
    throw ArgumentError(fmt::format("a path of {} bytes for the log: it may have {}: {}",
                                    path.size(), kLongestPath, path));
  }
  const DestinationHead head{
      .kind = kind, .keep = keep, .rotate_bytes = rotate_bytes, .queue = queue};
  std::string bytes(sizeof head, '\0');
  std::memcpy(bytes.data(), &head, sizeof head);
  return bytes + path;
}

LogDestination LogDestination::decode(std::string_view bytes) {
  DestinationHead head{};
  if (bytes.size() < sizeof head) return {};
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.kind > Kind::root_call) return {};
  return {.kind = head.kind,
          .keep = head.keep,
          .rotate_bytes = head.rotate_bytes,
          .queue = head.queue,
          .path = std::string(bytes.substr(sizeof head))};
}

void encode_log_record(ByteSink& sink, const log::Record& record) {
  constexpr std::size_t kLongestText = std::size_t{1} << 20U;
  const std::string_view text = record.text.substr(0, kLongestText);
  const std::string_view name = record.process.substr(0, 255);
  const RecordHead head{.time = std::chrono::nanoseconds(record.time.time_since_epoch()).count(),
                        .item = record.task ? record.task->item.value_or(kNoItem) : kNoItem,
                        .attempt = record.task ? std::max(record.task->attempt, 1U) : 0,
                        .pid = record.pid,
                        .text_bytes = static_cast<std::uint32_t>(text.size()),
                        .name_bytes = static_cast<std::uint16_t>(name.size()),
                        .level = static_cast<std::uint8_t>(record.level),
                        .reserved = 0};
  sink.write(&head, sizeof head);
  sink.write(name.data(), name.size());
  sink.write(text.data(), text.size());
}

log::Record decode_log_record(ByteSource& source) {
  RecordHead head{};
  source.read(&head, sizeof head);
  if (head.level >= static_cast<std::uint8_t>(log::Level::off)) source.throw_corrupt("a log level");
  log::Record record{.time = std::chrono::system_clock::time_point(
                         std::chrono::duration_cast<std::chrono::system_clock::duration>(
                             std::chrono::nanoseconds(head.time))),
                     .level = static_cast<log::Level>(head.level),
                     .pid = head.pid,
                     .process = {},
                     .task = std::nullopt,
                     .text = {}};
  if (head.attempt != 0) {
    record.task = log::Task{.item = {}, .attempt = head.attempt};
    if (head.item != kNoItem) record.task->item = head.item;
  }
  record.process = take_text(source, head.name_bytes);
  record.text = take_text(source, head.text_bytes);
  return record;
}

}  // namespace brood::detail
