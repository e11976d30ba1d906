#pragma once

#include <brood/platform/fd.hpp>

namespace brood::detail {

/// A descriptor that is readable from signal() to clear() (eventfd). Any threads at once.
class EventFd {
 public:
  /// Throws SystemError.
  EventFd();
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
  void signal() const noexcept;
  void clear() const noexcept;

 private:
  Fd fd_;
};

}  // namespace brood::detail
