// Layer: platform
// Where a thread is: return addresses, taken cheaply, and made readable later.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace brood::detail {

/// The call stack of one thread as raw addresses, innermost first.
///
/// A plain value of fixed size: taking one allocates nothing and cannot fail; what lies beyond
/// kMaxFrames is cut off. The addresses mean something only in the process that took them (or in
/// one forked from the same parent), so symbolize() before they leave it.
class StackTrace {
 public:
  static constexpr std::size_t kMaxFrames = 64;

  constexpr StackTrace() noexcept = default;
  /// Of addresses taken elsewhere, for instance by a signal handler. `first_is_exact`: the first is
  /// the address of an instruction, not a return address.
  explicit StackTrace(std::span<const std::uintptr_t> addresses,
                      bool first_is_exact = false) noexcept;

  /// The caller's stack without its `skip` innermost frames: 0 starts with the caller itself.
  static StackTrace here(std::size_t skip = 0) noexcept;

  [[nodiscard]] std::span<const std::uintptr_t> addresses() const noexcept {
    return {addresses_.data(), size_};
  }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] bool first_is_exact() const noexcept { return first_is_exact_; }

 private:
  std::array<std::uintptr_t, kMaxFrames> addresses_{};
  std::size_t size_ = 0;
  bool first_is_exact_ = false;
};

/// One line for each frame: "function(args) at file.cpp:12 (module+0x1f)", without what is not
/// known; the offset is what `addr2line -e module` takes. Where the trace began in the C++ runtime
/// (a throw), the runtime's own frames are left out, so the first line is the function that threw.
///
/// Any thread may call it, at any time except in a signal handler. It opens files, and takes
/// milliseconds the first time an address is seen; later the line comes from a cache. It leaves no
/// descriptor open, does not need /proc, and never throws: when memory or descriptors run out, the
/// lines say less, or there are fewer.
std::vector<std::string> symbolize(const StackTrace& trace) noexcept;

/// "std::vector<int>" of a mangled name, which may also be typeid(T).name(); the name itself where
/// it is not mangled.
std::string demangle(const char* name);

}  // namespace brood::detail
