// Layer: channel
#pragma once

#include <cstddef>

#include <brood/channel/archive.hpp>
#include <brood/channel/crossing.hpp>
#include <brood/channel/descriptor_box.hpp>
#include <brood/platform/fd.hpp>

namespace brood {

/// An open file, socket or the like, as a value that can go to another process: as an argument of a
/// Process, or through a Connection. There it is another number for the same open file.
///
///     connection.send(brood::Descriptor(open("log", O_WRONLY | O_APPEND)));
///     auto file = other_end.recv<brood::Descriptor>();
///     write(file.get(), "hello\n", 6);
///
/// Owns the descriptor: closes it once, moves, never copies. Used by one thread at a time. It is a
/// number of this process; nothing of it is shared but the open file, which the kernel keeps as
/// long as anybody has it. A copy of the process made by StartMethod::fork has it too, as any open
/// file. Errors: SystemError.
class Descriptor {
 public:
  Descriptor() = default;
  /// Takes `fd` over, closed-on-exec or not. A negative one is none.
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  /// A copy of `fd`, which stays the caller's; close-on-exec.
  static Descriptor copy_of(int fd);

  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
  [[nodiscard]] bool valid() const noexcept { return fd_.valid(); }
  /// The caller closes it from now on.
  [[nodiscard]] int release() noexcept { return fd_.release(); }
  void close() noexcept { fd_.reset(); }

 private:
  detail::Fd fd_;
};

namespace detail {

template <>
struct Codec<Descriptor> {
  using Parts = TypeList<>;
  static constexpr std::size_t kLeast = 1;
  static constexpr bool kCarriesDescriptors = true;
  static void write(Encoder& to, const Descriptor& descriptor);
  static Descriptor read(Decoder& from);
};

}  // namespace detail
}  // namespace brood
