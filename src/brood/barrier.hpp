// Layer: channel
// A point that processes pass together.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/handle_codec.hpp>
#include <brood/errors.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/sync/barrier_word.hpp>

namespace brood {

struct BarrierOptions {
  /// How long wait() waits that is not told how long.
  std::optional<std::chrono::nanoseconds> timeout = std::nullopt;
};

/// A point that so many threads, of any processes, pass together, again and again: who comes waits
/// until all have come.
///
///     void simulate(brood::Barrier barrier, brood::SharedArray<double> field) {
///       for (int step = 0; step < 100; ++step) {
///         compute(field, step);
///         barrier.wait([&] { std::printf("step %d is done\n", step); });
///       }
///     }
///
/// A handle: copies are the same barrier, and it travels as an argument, in a message, in a
///   container.
/// At once: any process of the family, any thread; who comes while as many as there are parties
///   wait already, waits for the next time.
/// Bytes: 32 and 12 for each party, in the family's shared memory, gone with the last handle.
/// Death: a party that dies while it waits, or while it runs the action, breaks the barrier: all
///   others have a BrokenBarrierError that names the dead, instead of waiting for ever. A barrier
///   cannot know who will not come, unless told: who has called enlist() breaks it also by dying
///   elsewhere. Who has been let go breaks nothing. A stopped party is waited for.
/// Across fork: the child has not come and is not enlisted.
/// Memory ordering: what each did before it waited is visible to the action, and what the action
///   did to all that are let go.
/// Errors: BrokenBarrierError; ArgumentError for a number of parties that makes no sense;
///   SharedMemoryFull from the constructor; StateError when more enlist than there are parties, and
///   for a handle that was moved from.
///
///     state  | wait                          | abort   | reset | the deadline or death of a party
///     -------|-------------------------------|---------|-------|---------------------------------
///     whole  | an index once all have come   | broken  | whole | broken
///     broken | BrokenBarrierError, at once   | broken  | whole | broken
///
/// abort() and reset() end the waiting of all, with a BrokenBarrierError.
class Barrier {
 public:
  static constexpr int kMost = 4096;

  explicit Barrier(int parties, BarrierOptions options = {}) : handle_(make(parties, options)) {}

  /// Waits until all have come. Returns which of the parties this one is: 0 .. parties() - 1, each
  /// once.
  int wait() { return arrive(own_deadline(), Word::NoAction()); }
  /// The same, and one of them, in its process, runs its `action` when all have come and before any
  /// is let go. Either all give one or nobody does. An exception from it goes on to the caller, and
  /// the barrier is broken.
  template <std::invocable Action>
  int wait(Action action) {
    return arrive(own_deadline(), action);
  }
  /// With a deadline: when it passes before all have come, and the action was run, the barrier is
  /// broken, for all.
  template <class Rep, class Period>
  int wait_for(std::chrono::duration<Rep, Period> time) {
    return arrive(detail::Deadline::after(time), Word::NoAction());
  }
  template <class Rep, class Period, std::invocable Action>
  int wait_for(std::chrono::duration<Rep, Period> time, Action action) {
    return arrive(detail::Deadline::after(time), action);
  }
  template <class Clock, class Duration>
  int wait_until(std::chrono::time_point<Clock, Duration> when) {
    return arrive(detail::Deadline::until(when), Word::NoAction());
  }
  template <class Clock, class Duration, std::invocable Action>
  int wait_until(std::chrono::time_point<Clock, Duration> when, Action action) {
    return arrive(detail::Deadline::until(when), action);
  }

  /// From now on the calling thread's end, by whatever death or in order, breaks the barrier, until
  /// it withdraws. Once is enough.
  void enlist() { word().enlist(); }
  void withdraw() { word().withdraw(); }

  /// Breaks it: all who wait, and who come, have a BrokenBarrierError.
  void abort() { word().abort(); }
  /// As new, whole and empty; the enlisted who have died are forgotten.
  void reset() { word().reset(); }

  [[nodiscard]] int parties() const { return static_cast<int>(word().parties()); }
  /// How many wait at this moment; 0 when it is broken.
  [[nodiscard]] int n_waiting() const { return static_cast<int>(word().n_waiting()); }
  [[nodiscard]] bool broken() const { return word().broken(); }

  /// Whether both are the same barrier.
  friend bool operator==(const Barrier&, const Barrier&) = default;

 private:
  friend detail::HandleAccess;
  using Word = detail::BarrierWord<>;
  /// What lies before the word.
  struct Head {
    std::int64_t timeout;  // nanoseconds; negative: none
  };
  static_assert(sizeof(Head) == 8);
  static constexpr detail::ObjectType kObjectType =
      detail::object_type<Word>(detail::ObjectKind::barrier);
  static constexpr std::size_t bytes_needed(std::uint32_t parties) {
    return sizeof(Head) + Word::bytes_needed(parties);
  }
  static constexpr std::size_t kLeastBytes = sizeof(Head) + Word::bytes_needed(1);

  explicit Barrier(detail::Handle handle) : handle_(std::move(handle)) {
    const std::uint32_t parties = word().parties();
    if (parties == 0 || bytes_needed(parties) > handle_.payload().size()) {
      throw DecodeError("a barrier whose parties are none, or more than its memory has room for");
    }
  }

  static detail::Handle make(int parties, BarrierOptions options) {
    if (parties < 1 || parties > kMost) {
      throw ArgumentError(
          fmt::format("a barrier for {} parties: there may be 1 to {}", parties, kMost));
    }
    if (options.timeout && *options.timeout < std::chrono::nanoseconds::zero()) {
      throw ArgumentError(
          fmt::format("a barrier with a timeout of {} ns: at least 0", options.timeout->count()));
    }
    const auto count = static_cast<std::uint32_t>(parties);
    detail::Handle handle = detail::Handle::create(kObjectType, bytes_needed(count));
    std::byte* memory = handle.payload().data();
    new (memory) Head{options.timeout ? options.timeout->count() : -1};
    Word::format(memory + sizeof(Head), count);
    return handle;
  }

  template <class Action>
  int arrive(detail::Deadline deadline, Action&& action) {
    return static_cast<int>(word().arrive_and_wait_until(deadline, action));
  }
  [[nodiscard]] detail::Deadline own_deadline() const {
    const std::int64_t timeout = reinterpret_cast<Head*>(handle_.payload().data())->timeout;
    return timeout < 0 ? detail::Deadline::never()
                       : detail::Deadline::after(std::chrono::nanoseconds(timeout));
  }
  [[nodiscard]] Word& word() const {
    return *reinterpret_cast<Word*>(handle_.payload().data() + sizeof(Head));
  }

  detail::Handle handle_;
};

}  // namespace brood

template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::Barrier> = true;
template <>
struct std::hash<brood::Barrier> : brood::detail::HandleHash<brood::Barrier> {};
