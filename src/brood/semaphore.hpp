// Layer: channel
// How many may do something at once.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/handle_codec.hpp>
#include <brood/errors.hpp>
#include <brood/sync/semaphore_word.hpp>

namespace brood {

/// What becomes of the permits of a process that dies.
enum class PermitsOfDead : std::uint8_t {
  come_back,  ///< others may have them: permits limit how many do something at once
  stay_taken  ///< nobody holds a permit, it is only counted: permits are signals
};

struct SemaphoreOptions {
  PermitsOfDead permits_of_dead = PermitsOfDead::come_back;
  /// Permits that there may ever be, 1 .. 1,000,000; 0: twice as many as at first, 1024 at least.
  /// Each takes 4 bytes.
  int most = 0;
};

/// A number of permits, of which processes acquire and release one at a time. BoundedSemaphore is
/// one that never has more than at first.
///
///     void visit(brood::Semaphore seats) {
///       brood::Permit permit(seats);     // released at the end of the scope, or by death
///       ...
///     }
///     brood::Semaphore seats(2);
///     brood::Semaphore items(0, {.permits_of_dead = brood::PermitsOfDead::stay_taken});  //
///     signals
///
/// A handle: copies are the same semaphore, and it travels as an argument, in a message, in a
///   container.
/// At once: any process of the family, any thread. A permit may be released by another than who
///   acquired it; who holds none and releases adds one.
/// Bytes: 4 for each permit that there may be, in the family's shared memory, gone with the last
///   handle.
/// Death: a holder's permits can be acquired by others, exactly, and value() counts them; unless
///   they are to stay taken. A waiter's death loses no permit and no wake-up. A stopped holder
///   keeps its permits.
/// Across fork: the child holds none of its parent's permits.
/// Memory ordering: what was done before release() is visible to who acquires the permit.
/// Errors: ArgumentError for numbers that make no sense; SharedMemoryFull from the constructor;
///   StateError from release() when there would be more permits than there may be, and for a handle
///   that was moved from.
template <bool Bounded>
class BasicSemaphore {
 public:
  static constexpr int kMost = 1'000'000;

  explicit BasicSemaphore(int value = 1, SemaphoreOptions options = {})
    requires(!Bounded)
      : BasicSemaphore(value,
                       options.most != 0
                           ? options.most
                           : std::min(kMost, std::max(1024, value > kMost / 2 ? kMost : 2 * value)),
                       options.permits_of_dead) {}
  explicit BasicSemaphore(int value = 1, PermitsOfDead permits_of_dead = PermitsOfDead::come_back)
    requires Bounded
      : BasicSemaphore(value, value, permits_of_dead) {}

  void acquire() { word().acquire(); }
  /// False when there is no permit; now and then also when one changes hands just then.
  [[nodiscard]] bool try_acquire() { return word().try_acquire(); }
  /// False when there was none in time.
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(std::chrono::duration<Rep, Period> time) {
    return word().try_acquire_until(detail::Deadline::after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(std::chrono::time_point<Clock, Duration> when) {
    return word().try_acquire_until(detail::Deadline::until(when));
  }
  /// Gives permits back: first those of the calling thread. Throws StateError, for the first that
  /// would be one too many; those before it are released.
  void release(int permits = 1) {
    if (permits < 1) {
      throw ArgumentError(fmt::format("release of {} permits: at least 1", permits));
    }
    for (; permits > 0; --permits) word().release();
  }

  /// How many could be acquired at this moment.
  [[nodiscard]] int value() const { return static_cast<int>(word().value()); }
  /// How many there may ever be.
  [[nodiscard]] int max() const { return static_cast<int>(word().capacity()); }

  /// Whether both are the same semaphore.
  friend bool operator==(const BasicSemaphore&, const BasicSemaphore&) = default;

 private:
  friend detail::HandleAccess;
  using Word = detail::SemaphoreWord<>;
  static constexpr detail::ObjectType kObjectType = detail::object_type<Word>(
      Bounded ? detail::ObjectKind::bounded_semaphore : detail::ObjectKind::semaphore);
  static constexpr std::size_t kLeastBytes = Word::bytes_needed(1);

  BasicSemaphore(int value, int most, PermitsOfDead permits_of_dead)
      : handle_(make(value, most, permits_of_dead)) {}
  explicit BasicSemaphore(detail::Handle handle) : handle_(std::move(handle)) {
    if (Word::bytes_needed(word().capacity()) > handle_.payload().size()) {
      throw DecodeError("a semaphore whose permits are more than its memory has room for");
    }
  }

  static detail::Handle make(int value, int most, PermitsOfDead permits_of_dead) {
    if (value < 0 || most < 1 || most > kMost || value > most) {
      throw ArgumentError(fmt::format(
          "a semaphore of {} permits, {} at most: there may be 1 to {}, and at first not more",
          value, most, kMost));
    }
    const auto capacity = static_cast<std::uint32_t>(most);
    detail::Handle handle = detail::Handle::create(kObjectType, Word::bytes_needed(capacity));
    Word::format(handle.payload().data(), static_cast<std::uint32_t>(value), capacity,
                 permits_of_dead == PermitsOfDead::come_back ? detail::DeadPermits::kReturn
                                                             : detail::DeadPermits::kStay);
    return handle;
  }

  [[nodiscard]] Word& word() const { return *reinterpret_cast<Word*>(handle_.payload().data()); }

  detail::Handle handle_;
};

using Semaphore = BasicSemaphore<false>;
using BoundedSemaphore = BasicSemaphore<true>;

/// A permit for the length of a scope: acquired by the constructor, released by the destructor.
/// Belongs to the thread that made it. Does not keep the semaphore: the handle must outlive it.
template <class S>
class Permit {
 public:
  explicit Permit(S& semaphore) : semaphore_(&semaphore) { semaphore.acquire(); }
  Permit(const Permit&) = delete;
  Permit& operator=(const Permit&) = delete;
  ~Permit() { semaphore_->release(); }

 private:
  S* semaphore_;
};

}  // namespace brood

template <bool Bounded>
inline constexpr bool brood::detail::kIsSharedObject<brood::BasicSemaphore<Bounded>> = true;
template <bool Bounded>
struct std::hash<brood::BasicSemaphore<Bounded>>
    : brood::detail::HandleHash<brood::BasicSemaphore<Bounded>> {};
