// Layer: channel
// What is waited for by words in shared memory instead of a descriptor.
#pragma once

#include <concepts>
#include <memory>
#include <vector>

#include <brood/platform/deadline.hpp>
#include <brood/platform/futex.hpp>

namespace brood::detail {

/// A queue, a future, while somebody waits for it. Keeps what it looks at alive. Used by one thread
/// at a time.
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  virtual ~Watch() = default;

  /// Does what must be done so that it becomes ready (looks for the dead), and says whether it is.
  /// If not, adds the words of which one changes when it is worth another look. `soon` is brought
  /// forward if there must be one anyway. To be called between Member::look() and sleep().
  /// Throws what a look at it throws.
  virtual bool look(std::vector<FutexWord>& words, Deadline& soon) = 0;

  /// After a sleep: a wake-up that was for one sleeper only may have come to this one, who takes
  /// nothing. Another gets it.
  virtual void pass_on() noexcept {}
};

/// How wait() gets at what a public class keeps to itself.
struct WatchAccess {
  template <class T>
  static auto watch(const T& object) -> decltype(object.watch()) {
    return object.watch();
  }
};

template <class T>
concept Watched = requires(const T& object) {
  { WatchAccess::watch(object) } -> std::same_as<std::shared_ptr<Watch>>;
};

}  // namespace brood::detail
