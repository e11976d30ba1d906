#pragma once

#include <brood/platform/fork_local_fd.hpp>

namespace brood::detail {

/// A descriptor that is readable while another is, or while a sign is given. For an object that may
/// have taken from its socket what its user has not yet seen. Used by one thread at a time.
class ReadySign {
 public:
  /// Throws SystemError.
  explicit ReadySign(int socket);

  [[nodiscard]] int descriptor() const noexcept { return both_.get(); }
  void set(bool ready) noexcept;

 private:
  ForkLocalFd event_;
  ForkLocalFd both_;
  bool ready_ = false;
};

}  // namespace brood::detail
