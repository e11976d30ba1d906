#include <brood/platform/unix_socket.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <thread>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/system_error.hpp>

namespace brood::detail {
namespace {

constexpr std::size_t kLongestName = sizeof(sockaddr_un::sun_path) - 1;

struct Name {
  explicit Name(const UnixName& of) {
    check_unix_name(of);
    address.sun_family = AF_UNIX;
    const std::size_t skip = of.abstract ? 1 : 0;
    std::memcpy(address.sun_path + skip, of.name.data(), of.name.size());
    // An abstract name is as long as it is said to be; a path ends with its NUL.
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + of.name.size() + 1);
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }

  sockaddr_un address{};
  socklen_t size;
};

std::string describe(const UnixName& name) {
  return fmt::format("{}={}", name.abstract ? "abstract" : "path", name.name);
}

int type_of(SocketKind kind) { return kind == SocketKind::packets ? SOCK_SEQPACKET : SOCK_STREAM; }

Fd new_socket(int type) {
  return Fd(check(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0), "socket", "AF_UNIX"));
}

/// Whether nobody has the socket of this path open any more. A socket of a kind that nobody listens
/// with is refused in another way while one is open, and its owner does not notice.
bool is_left_behind(const std::string& path, const Name& address) {
  if (!find_socket(path)) return false;
  const Fd probe = new_socket(SOCK_DGRAM);
  return ::connect(probe.get(), address.get(), address.size) != 0 && errno == ECONNREFUSED;
}

/// Excludes others who replace a name in the same directory: of two that find the same dead socket,
/// the later would take the name from the living one of the earlier.
Fd lock_directory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  Fd directory(
      check(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
            "open", "path={}", parent));
  // NOTE: anybody who may read the directory may hold this for ever.
  const Deadline deadline = Deadline::after(std::chrono::seconds(2));
  while (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EINTR && (errno != EWOULDBLOCK || deadline.passed())) {
      throw SystemError("flock", fmt::format("the directory of {}", path), errno);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return directory;
}

}  // namespace

void check_unix_name(const UnixName& name) {
  const char* const what = name.abstract ? "abstract name" : "path";
  if (name.name.empty()) throw ArgumentError(fmt::format("the {} of a socket is empty", what));
  if (name.name.find('\0') != std::string::npos) {
    throw ArgumentError(fmt::format("there is a NUL in the {} of a socket", what));
  }
  if (name.name.size() > kLongestName) {
    throw ArgumentError(
        fmt::format("the {} of a socket has {} bytes, and no more than {} are possible: {}", what,
                    name.name.size(), kLongestName, name.name));
  }
}

ListeningUnix listen_unix(const UnixName& name, SocketKind kind, int backlog) {
  const Name address(name);
  ListeningUnix made{.socket = new_socket(type_of(kind) | SOCK_NONBLOCK)};
  const int fd = made.socket.get();
  // The file gets the mode of the socket.
  if (!name.abstract) check(::fchmod(fd, S_IRUSR | S_IWUSR), "fchmod", "a socket");
  if (::bind(fd, address.get(), address.size) != 0) {
    const int error = errno;
    if (error != EADDRINUSE || name.abstract) throw SystemError("bind", describe(name), error);
    const Fd lock = lock_directory(name.name);
    if (is_left_behind(name.name, address)) ::unlink(name.name.c_str());
    check(::bind(fd, address.get(), address.size), "bind", "{}", describe(name));
  }
  if (!name.abstract) made.file = find_socket(name.name);
  check(::listen(fd, backlog), "listen", "{}", describe(name));
  return made;
}

std::optional<FileIdentity> find_socket(const std::string& path) noexcept {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return std::nullopt;
  return FileIdentity{.device = info.st_dev, .inode = info.st_ino};
}

void unlink_socket_if(const std::string& path, const FileIdentity& file) noexcept {
  if (find_socket(path) == file) ::unlink(path.c_str());
}

Fd connect_unix(const UnixName& name, SocketKind kind, Deadline deadline) {
  const Name address(name);
  Fd socket = new_socket(type_of(kind));
  for (;;) {
    // NOTE: poll() does not tell when a full queue has room again; the call itself waits so long.
    timeval wait{};
    if (!deadline.is_never()) {
      const auto left = deadline.remaining();
      wait.tv_sec = left.tv_sec;
      wait.tv_usec = left.tv_nsec / 1000 + 1;  // zero would be for ever
      if (wait.tv_usec >= 1'000'000) wait.tv_usec = 999'999;
    }
    check(::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait), "setsockopt",
          "SO_SNDTIMEO");
    if (::connect(socket.get(), address.get(), address.size) == 0) break;
    if (errno != EINTR && errno != EAGAIN) throw SystemError("connect", describe(name), errno);
    if (deadline.passed()) {
      throw TimeoutError(fmt::format("the queue of those who connect to {} is full", name.name));
    }
  }
  const timeval none{};
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none), "setsockopt",
        "SO_SNDTIMEO");
  return socket;
}

PeerIds peer_ids(int socket) {
  ucred ids{};
  socklen_t size = sizeof ids;
  check(::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &ids, &size), "getsockopt", "SO_PEERCRED");
  return {.pid = ids.pid, .user = ids.uid, .group = ids.gid};
}

std::uint32_t current_user() noexcept { return ::geteuid(); }

std::optional<Fd> accept_socket(int listening) {
  Fd socket(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
  if (socket.valid()) return socket;
  switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
      throw SystemError("accept4", "", errno);
    default:
      return std::nullopt;  // EAGAIN; and on Linux, what went wrong with that peer already
  }
}

}  // namespace brood::detail
