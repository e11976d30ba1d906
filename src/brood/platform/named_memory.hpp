#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <brood/platform/fd.hpp>

namespace brood::detail {

// Shared memory with a name: files of a tmpfs, where shm_open of the C library has them too.

/// What tells one file from all others, also from a later one of the same name.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// What shm_open takes, without the slash in front.
inline constexpr std::size_t kLongestMemoryName = 254;

/// Throws ArgumentError unless it is a name: not empty, not too long, without slash and NUL, and no
/// "." or "..".
void check_memory_name(std::string_view name);

/// 128 random bits in hexadecimal digits.
std::string random_digits();

/// A file of `bytes` zeros that has no name yet, for this user alone, whose memory has been taken
/// already. It is gone with its last descriptor and mapping until publish() gives it a name. Throws
/// SystemError; invalid where files without names are impossible.
Fd create_unnamed_memory(std::size_t bytes);
/// The same under a name that nobody else has yet. Throws SystemError; what it made is gone then.
Fd create_named_memory(const std::string& name, std::size_t bytes);

enum class Published : std::uint8_t { yes, taken, impossible };
/// Gives a file without a name one, in one step. `taken`: something else has it. `impossible` where
/// the system cannot do that, for instance without /proc. Throws SystemError for anything else.
[[nodiscard]] Published publish_memory(const Fd& unnamed, const std::string& name);
/// The same for one that has another name, which it loses.
[[nodiscard]] Published rename_memory(const std::string& from, const std::string& to);

/// Another description of the same open file: locks of one do not count for the other. Throws
/// SystemError.
Fd reopen_memory(const Fd& file);

/// Opens it, readable and writable. Throws SystemError: ENOENT, EACCES, ELOOP for a symbolic link,
/// ENODEV for what cannot be memory.
Fd open_named_memory(const std::string& name);

/// Throws SystemError.
FileIdentity identity_of(const Fd& file);
/// Which file has the name; none if it is no file's, or nobody can tell.
std::optional<FileIdentity> find_memory(const std::string& name);

/// Takes the name away; mappings and descriptors stay as they are. Throws SystemError, ENOENT if
/// there is none.
void unlink_memory(const std::string& name);

/// Takes the name away if it is that file's. False if it is not, or may not be.
bool unlink_memory_if(const std::string& name, FileIdentity identity);

}  // namespace brood::detail
