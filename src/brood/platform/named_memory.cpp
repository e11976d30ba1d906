#include <brood/platform/named_memory.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/memory_file.hpp>
#include <brood/platform/random.hpp>
#include <brood/platform/system_error.hpp>

namespace brood::detail {
namespace {

constexpr const char* kFolder = "/dev/shm";

std::string path_of(const std::string& name) { return fmt::format("{}/{}", kFolder, name); }

/// What to say about an error that may be the folder's rather than the name's.
std::string about(const std::string& name, int error) {
  std::string text = fmt::format("path={}/{}", kFolder, name);
  struct stat status {};
  if (error == ENOENT && (::stat(kFolder, &status) != 0 || !S_ISDIR(status.st_mode))) {
    text += fmt::format(": there is no {} here, mount a tmpfs in its place", kFolder);
  } else if (error == EROFS) {
    text += fmt::format(": {} is mounted read-only here", kFolder);
  }
  return text;
}

/// Takes memory for all of the file, so that nobody meets a lack of it later (SIGBUS).
void take_memory(const Fd& file, std::size_t bytes) {
  const auto refuse = [bytes](int error) {
    throw SystemError("fallocate", fmt::format("{} bytes in {}", bytes, kFolder), error);
  };
  // NOTE: asked first. The kernel takes page by page until there are no more, which is slow and
  // starves everybody else, though it gives them back at the end.
  struct statvfs space {};
  if (::fstatvfs(file.get(), &space) == 0 && space.f_blocks != 0 &&
      bytes / space.f_frsize > space.f_bavail) {
    refuse(ENOSPC);
  }
  struct sysinfo machine {};
  if (::sysinfo(&machine) == 0 &&
      bytes / machine.mem_unit > std::size_t{machine.totalram} + machine.totalswap) {
    refuse(ENOMEM);
  }
  // In steps: a signal makes the kernel undo and begin a call again.
  constexpr std::size_t kStep = std::size_t{64} << 20U;
  for (std::size_t at = 0; at < bytes; at += kStep) {
    int error = EINTR;
    while (error == EINTR) {
      error = ::posix_fallocate(file.get(), static_cast<off_t>(at),
                                static_cast<off_t>(std::min(kStep, bytes - at)));
    }
    if (error != 0) refuse(error);
  }
}

void check_limit(std::size_t bytes) {
  // NOTE: the kernel would not only refuse, but send SIGXFSZ.
  constexpr std::size_t kLargest = std::size_t{1} << 62U;
  if (bytes > std::min(file_size_limit(), kLargest)) {
    throw SystemError(
        "fallocate",
        fmt::format("{} bytes in {}: raise the limit on file sizes (ulimit -f)", bytes, kFolder),
        EFBIG);
  }
}

void fill_new(const Fd& file, std::size_t bytes) {
  check(::fchmod(file.get(), 0600), "fchmod", "0600");  // whatever the umask takes away
  take_memory(file, bytes);
}

}  // namespace

void check_memory_name(std::string_view name) {
  const auto refuse = [name](std::string_view why) {
    throw ArgumentError(
        fmt::format("\"{}\" is no name for shared memory: {}", name.substr(0, 300), why));
  };
  if (name.empty()) refuse("it is empty");
  if (name.size() > kLongestMemoryName) {
    refuse(fmt::format("it has {} bytes, and {} are the most", name.size(), kLongestMemoryName));
  }
  if (name.find('/') != std::string_view::npos) refuse("it has a slash, leave it out");
  if (name.find('\0') != std::string_view::npos) refuse("it has a NUL in it");
  if (name == "." || name == "..") refuse("that is a folder");
}

std::string random_digits() {
  std::array<std::uint64_t, 2> bits{};
  // NOTE: up to 256 bytes come at once or not at all.
  fill_random(std::as_writable_bytes(std::span(bits)));
  return fmt::format("{:016x}{:016x}", bits[0], bits[1]);
}

Fd create_unnamed_memory(std::size_t bytes) {
  check_limit(bytes);
  Fd file(::open(kFolder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.valid()) {
    // EISDIR from kernels and EOPNOTSUPP from file systems that do not know of it.
    if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL) return file;
    throw SystemError("open", about("", errno), errno);
  }
  fill_new(file, bytes);
  return file;
}

Fd create_named_memory(const std::string& name, std::size_t bytes) {
  check_limit(bytes);
  const std::string path = path_of(name);
  Fd file(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) throw SystemError("open", about(name, errno), errno);
  try {
    fill_new(file, bytes);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
  return file;
}

Published publish_memory(const Fd& unnamed, const std::string& name) {
  const std::string path = path_of(name);
  const std::string source = fmt::format("/proc/self/fd/{}", unnamed.get());
  if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
    return Published::yes;
  }
  if (errno == EEXIST) return Published::taken;
  // Without /proc; before Linux 6.10 it asks for CAP_DAC_READ_SEARCH.
  if (::linkat(unnamed.get(), "", AT_FDCWD, path.c_str(), AT_EMPTY_PATH) == 0) {
    return Published::yes;
  }
  switch (errno) {
    case EEXIST:
      return Published::taken;
    case ENOENT:  // also what a missing permission or /proc is called here
    case EXDEV:
    case EPERM:
    case EACCES:
    case EINVAL:
    case EOPNOTSUPP:
      return Published::impossible;
    default:
      throw SystemError("linkat", about(name, errno), errno);
  }
}

Published rename_memory(const std::string& from, const std::string& to) {
  const std::string source = path_of(from);
  const std::string target = path_of(to);
  if (::renameat2(AT_FDCWD, source.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) == 0) {
    return Published::yes;
  }
  if (errno == EEXIST) return Published::taken;
  if (errno != EINVAL && errno != ENOSYS) throw SystemError("renameat2", about(to, errno), errno);
  if (::link(source.c_str(), target.c_str()) != 0) {
    if (errno == EEXIST) return Published::taken;
    throw SystemError("link", about(to, errno), errno);
  }
  ::unlink(source.c_str());
  return Published::yes;
}

Fd open_named_memory(const std::string& name) {
  // O_NONBLOCK: a FIFO of that name must not keep anybody waiting.
  Fd file(::open(path_of(name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.valid()) throw SystemError("open", about(name, errno), errno);
  struct stat status {};
  check(::fstat(file.get(), &status), "fstat", "path={}/{}", kFolder, name);
  if (!S_ISREG(status.st_mode)) {
    throw SystemError("open", about(name, 0) + " is no regular file", ENODEV);
  }
  return file;
}

Fd reopen_memory(const Fd& file) {
  const std::string path = fmt::format("/proc/self/fd/{}", file.get());
  return Fd(check(::open(path.c_str(), O_RDWR | O_CLOEXEC), "open", "path={}", path));
}

FileIdentity identity_of(const Fd& file) {
  struct stat status {};
  check(::fstat(file.get(), &status), "fstat", "a file of shared memory");
  return {status.st_dev, status.st_ino};
}

void unlink_memory(const std::string& name) {
  if (::unlink(path_of(name).c_str()) != 0) throw SystemError("unlink", about(name, errno), errno);
}

std::optional<FileIdentity> find_memory(const std::string& name) {
  struct stat status {};
  if (::lstat(path_of(name).c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return FileIdentity{status.st_dev, status.st_ino};
}

// NOTE: between the look and the call the name may become another file's. Linux has no way to take
// a name away by what it names; a name does not change hands so fast unless somebody means harm,
// and who can do that can remove the other file himself.
bool unlink_memory_if(const std::string& name, FileIdentity identity) {
  return find_memory(name) == identity && ::unlink(path_of(name).c_str()) == 0;
}

}  // namespace brood::detail
