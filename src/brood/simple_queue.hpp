// Layer: channel
// A queue with nothing but put and get.
#pragma once

#include <functional>
#include <utility>

#include <brood/queue.hpp>

namespace brood {

/// Python's SimpleQueue: no limit, no time-outs, no tasks. All else is as with Queue: who may touch
/// it, where its bytes lie, what a death means, its order and its errors.
///
///     brood::SimpleQueue<int> numbers;
///     numbers.put(1);
///     int one = numbers.get();
template <class T>
class SimpleQueue : private Queue<T> {
 public:
  SimpleQueue() : Queue<T>(kObjectType, {}) { detail::require_sendable<T>(); }
  using Queue<T>::put;
  using Queue<T>::get;
  using Queue<T>::empty;
  using Queue<T>::close;

  friend bool operator==(const SimpleQueue& a, const SimpleQueue& b) noexcept {
    return a.handle_ == b.handle_;
  }

 private:
  friend detail::HandleAccess;
  friend detail::WatchAccess;
  using Queue<T>::watch;
  using Queue<T>::handle_;
  using Queue<T>::kLeastBytes;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<SimpleQueue>(detail::ObjectKind::queue);
  explicit SimpleQueue(detail::Handle handle) : Queue<T>(std::move(handle)) {}
};

}  // namespace brood

template <class T>
inline constexpr bool brood::detail::kIsSharedObject<brood::SimpleQueue<T>> = true;
template <class T>
struct std::hash<brood::SimpleQueue<T>> : brood::detail::HandleHash<brood::SimpleQueue<T>> {};
