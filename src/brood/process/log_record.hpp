#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <brood/channel/bytes.hpp>
#include <brood/log.hpp>
#include <brood/memory/object_table.hpp>

namespace brood::detail {

/// Where the family's log goes, as it stands in LogCell.
struct LogDestination {
  enum class Kind : std::uint32_t {
    nowhere,
    own_stderr,
    own_file,
    root_stderr,
    root_file,
    root_call
  };

  Kind kind = Kind::nowhere;
  std::uint32_t keep = 0;          // Rotation
  std::uint64_t rotate_bytes = 0;  // Rotation
  ObjectRef queue{};               // of a root_...
  std::string path{};              // absolute: of the folder, or the file

  [[nodiscard]] bool to_root() const { return kind >= Kind::root_stderr; }
  /// Throws ArgumentError when the path is too long.
  [[nodiscard]] std::string encode() const;
  /// Of bytes that others may have written over: then it is nowhere.
  static LogDestination decode(std::string_view bytes);
};

/// A record as a message: for the root.
void encode_log_record(ByteSink& sink, const log::Record& record);
/// Its views lie in the source's bytes. Throws DecodeError.
log::Record decode_log_record(ByteSource& source);

}  // namespace brood::detail
