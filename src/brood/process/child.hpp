#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <brood/channel/bytes.hpp>
#include <brood/channel/thunk.hpp>
#include <brood/memory/tag.hpp>
#include <brood/platform/fd.hpp>
#include <brood/start_method.hpp>

namespace brood::detail {

class Family;

/// What a child finds in shared memory.
struct StartInfo {
  FunctionId function;                                  // a thunk of kind `process`
  std::uint8_t default_method;                          // StartMethod
  std::optional<std::vector<std::string>> environment;  // nullopt: as inherited
  std::uint64_t payload_at;  // what the function reads: its callable and arguments
  std::uint64_t payload_bytes;
};

/// Reads the callable and its arguments, calls `decoded`, then runs it.
using ProcessThunk = void (*)(ByteSource& source, void (*decoded)());

/// Does what the record of this process says, and exits: 0, or 1 after an exception, which is
/// reported on stderr. `descriptors`: those of the arguments.
[[noreturn]] void run_child(Family& family, Tag tag, StartMethod method,
                            std::vector<Fd> descriptors);

/// Does in advance what children would do each for themselves; for the process that forks them.
void warm_up() noexcept;

/// Writes out what is buffered in stdio's and iostream's standard streams, and in all of stdio's.
void flush_standard_streams() noexcept;

}  // namespace brood::detail
