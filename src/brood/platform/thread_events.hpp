#pragma once

namespace brood::detail {

/// What is to be done when a thread ends: once for each thread that called `arm`, in that thread,
/// after its thread_local objects are gone. Not when the whole process ends.
class AtThreadEnd {
 public:
  /// `end` gets what was given to arm(). Throws SystemError when the system has no keys left.
  explicit AtThreadEnd(void (*end)(void*));
  AtThreadEnd(const AtThreadEnd&) = delete;
  AtThreadEnd& operator=(const AtThreadEnd&) = delete;

  /// For the calling thread, instead of what was said before; null disarms.
  void arm(void* argument) const noexcept;
  /// What the calling thread is armed with.
  [[nodiscard]] void* argument() const noexcept;

 private:
  unsigned key_;
};

/// From now on every fork() calls `before` in the parent, then `parent` there and `child` in the
/// child. Not for a raw clone().
void on_fork(void (*before)(), void (*parent)(), void (*child)()) noexcept;

}  // namespace brood::detail
