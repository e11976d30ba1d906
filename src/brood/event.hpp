// Layer: channel
// A flag that processes wait for.
#pragma once

#include <chrono>
#include <functional>
#include <utility>

#include <brood/channel/handle_codec.hpp>
#include <brood/sync/event_word.hpp>

namespace brood {

/// A flag that is clear at first, and that processes wait for.
///
///     void work(brood::Event ready) { ready.wait(); }
///     brood::Event ready;
///     brood::Process worker(work, ready);
///     worker.start();
///     ready.set();
///
/// A handle: copies are the same event, and it travels as an argument, in a message, in a
/// container. At once: any process of the family, any thread. Bytes: one word in the family's
/// shared memory, gone with the last handle. Death: who is killed in set() has set it or not, and
/// whoever waits learns that it is set; a
///   waiter's death concerns nobody.
/// Across fork: nothing special.
/// Memory ordering: what was done before set() is visible to who sees it set.
/// Errors: SharedMemoryFull from the constructor; StateError for a handle that was moved from.
class Event {
 public:
  Event() : handle_(detail::Handle::create(kObjectType, kLeastBytes)) {}

  [[nodiscard]] bool is_set() const { return word().is_set(); }
  /// Lets all go who wait now, even if it is cleared at once.
  void set() { word().set(); }
  void clear() { word().clear(); }

  /// Returns as soon as it is set, or has been set since the call began.
  void wait() const { word().wait(); }
  /// The same; false when it was not in time.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> time) const {
    return word().wait_until(detail::Deadline::after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(std::chrono::time_point<Clock, Duration> when) const {
    return word().wait_until(detail::Deadline::until(when));
  }

  /// Whether both are the same event.
  friend bool operator==(const Event&, const Event&) = default;

 private:
  friend detail::HandleAccess;
  using Word = detail::EventWord<>;
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<Word>(detail::ObjectKind::event);
  static constexpr std::size_t kLeastBytes = sizeof(Word);
  explicit Event(detail::Handle handle) : handle_(std::move(handle)) {}
  [[nodiscard]] Word& word() const { return *reinterpret_cast<Word*>(handle_.payload().data()); }

  detail::Handle handle_;
};

}  // namespace brood

template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::Event> = true;
template <>
struct std::hash<brood::Event> : brood::detail::HandleHash<brood::Event> {};
