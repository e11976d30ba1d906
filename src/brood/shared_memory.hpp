// Layer: memory
// Shared memory with a name, for processes that are no family.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace brood {

class ShareableList;

namespace detail {
struct NamedFile;
class NamedMapping;
class Fd;
struct FileIdentity;
struct SharedMemoryAccess;
}  // namespace detail

/// How long a name lives. The memory itself lives as long as anybody has it mapped.
enum class Lifetime : std::uint8_t {
  family,          ///< at most until the creator's family ends, however it does
  object,          ///< until the creating process has no handle of it any more, or is dead
  until_unlinked,  ///< until somebody calls unlink(), or the machine is started anew
};

struct SharedMemoryOptions {
  /// At most 254 bytes without a slash; "brood_<32 random digits>" if empty.
  std::string name = {};
  Lifetime lifetime = Lifetime::family;
};

/// What may lie in memory that others write: values of which a copy of the bytes is a copy, and
/// atomics of such that need no lock. No pointers, they mean nothing elsewhere; and beware of types
/// for which not all bytes are a value (bool, enumerations) where strangers are not trusted.
template <class T>
concept SharableBytes =
    std::is_object_v<T> && !std::is_pointer_v<T> && (std::is_trivially_copyable_v<T> || requires {
      typename T::value_type;
      requires std::same_as<std::remove_cv_t<T>, std::atomic<typename T::value_type>>;
      requires T::is_always_lock_free;
    });

/// A piece of memory with a name, which any process of the same user may attach: other programs,
/// other languages (it is what shm_open makes: a file in /dev/shm).
///
///     auto picture = brood::SharedMemory::create(1 << 20, {.name = "picture"});
///     picture.as_span<std::uint32_t>()[17] = 0xff0000;
///     // elsewhere, in this program or in a stranger:
///     auto same = brood::SharedMemory::attach("picture");
///
/// An object is a handle: copies are cheap and mean the same memory, which is unmapped with the
/// last of them here. It can be passed to another process as an argument or in any value; it goes
/// by its name, and is refused there if the name means other memory by then.
///
/// Creating is one step for everybody else: whoever can attach sees all of the memory, taken and
/// filled. The size is exact, also of what others made, and readable and writable for this user
/// alone (0600). A machine or a /dev/shm without room is an error of create(), not a SIGBUS later.
///
/// Who takes the name away: never those who attach. The creator says it (Lifetime). By default the
/// family does when it ends, whoever was killed, the root included; unlink() does it sooner. Only
/// when all that watch a family are killed at one stroke with it (a container is stopped, the power
/// fails) does a name stay.
///
/// Who may use it at once: a handle one thread, as a std::shared_ptr; the memory whoever agrees.
/// There is no lock in it. Where its bytes live: in a tmpfs, counted there and as the memory of who
/// touched them first. A holder's death: unmaps, no more; what it was writing is half written. In a
/// forked copy handles stay usable, and their destruction takes no name away. Memory ordering: none
/// but that what the creator wrote in `fill` is visible to whoever attaches. Who may open it may
/// also truncate it, and then everybody's access raises SIGBUS: no kernel call prevents that for
/// memory with a name. Memory which others made sparse is not taken by attach().
///
/// Errors: ArgumentError for a bad name, size 0, a T that does not fit; StateError after close()
/// and without a Runtime where none can do without; SharedMemoryFull when the family has too many
/// names; SystemError with the code of the system: EEXIST (the name is taken), ENOENT (no such
/// name; also no /dev/shm, which the text says), EACCES, ENOSPC and ENOMEM (no room), EFBIG (ulimit
/// -f), EMFILE, EROFS, ELOOP and ENODEV (the name of a symbolic link, of a device).
class SharedMemory {
 public:
  using Bytes = std::span<std::byte>;

  /// Makes `bytes` bytes of zeros, and calls `fill` with them before anybody else can have them.
  static SharedMemory create(std::size_t bytes, const SharedMemoryOptions& options = {},
                             const std::function<void(Bytes)>& fill = {});

  /// Finds what has that name.
  static SharedMemory attach(std::string_view name);
  /// The same; ArgumentError if it has not that size.
  static SharedMemory attach(std::string_view name, std::size_t bytes);

  /// Takes the name away: nobody finds it any more, who has it keeps it. Throws SystemError, ENOENT
  /// if there is none.
  static void unlink(std::string_view name);
  /// The same, for this memory's name: ENOENT also if that means other memory by now. After close()
  /// too.
  void unlink() const;

  /// Lets go of the memory; the handle is good for name(), unlink() and assignment afterwards.
  void close() noexcept;
  [[nodiscard]] bool closed() const noexcept;

  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] Bytes bytes() const;

  /// The T at `offset`, which must be a multiple of its alignment.
  template <SharableBytes T>
  [[nodiscard]] T& as(std::size_t offset = 0) const {
    return *static_cast<T*>(place(offset, 1, sizeof(T), alignof(T)));
  }
  /// All of it as Ts: the size must be a multiple of T's.
  template <SharableBytes T>
  [[nodiscard]] std::span<T> as_span() const {
    const std::size_t count = count_of(sizeof(T));
    return {static_cast<T*>(place(0, count, sizeof(T), alignof(T))), count};
  }
  /// `count` Ts from `offset` on.
  template <SharableBytes T>
  [[nodiscard]] std::span<T> as_span(std::size_t offset, std::size_t count) const {
    return {static_cast<T*>(place(offset, count, sizeof(T), alignof(T))), count};
  }

  /// Whether both mean the same memory.
  friend bool operator==(const SharedMemory& a, const SharedMemory& b) noexcept {
    return same(a, b);
  }

 private:
  friend struct detail::SharedMemoryAccess;
  SharedMemory(std::shared_ptr<const detail::NamedFile> file,
               std::shared_ptr<const detail::NamedMapping> mapping) noexcept;

  static bool same(const SharedMemory& a, const SharedMemory& b) noexcept;
  [[nodiscard]] const detail::NamedFile& file() const;
  [[nodiscard]] const detail::NamedMapping& open() const;
  [[nodiscard]] void* place(std::size_t offset, std::size_t count, std::size_t size,
                            std::size_t alignment) const;
  [[nodiscard]] std::size_t count_of(std::size_t size) const;

  std::shared_ptr<const detail::NamedFile> file_;
  std::shared_ptr<const detail::NamedMapping> mapping_;  // none after close()
};

namespace detail {

/// What others need of it: to send it, to lock it.
struct SharedMemoryAccess {
  /// As SharedMemory::create and attach, but keeps a descriptor of the file.
  static SharedMemory create_with_file(std::size_t bytes, const SharedMemoryOptions& options,
                                       const std::function<void(SharedMemory::Bytes)>& fill);
  static SharedMemory attach_with_file(std::string_view name, const FileIdentity* identity);
  /// Throws SystemError, ENOENT, if the name means other memory now.
  static SharedMemory attach(std::string_view name, const FileIdentity& identity);
  static ShareableList attach_list(std::string_view name, const FileIdentity& identity);

  static const FileIdentity& identity(const SharedMemory& memory);
  static const Fd& descriptor(const SharedMemory& memory);
};

}  // namespace detail
}  // namespace brood
