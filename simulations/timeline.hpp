#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <queue>
#include <type_traits>
#include <vector>

namespace brood::simulation {

/// Virtual time: what is to happen, in its order; at the same time in the order in which it was
/// added.
class Timeline {
 public:
  using Time = std::chrono::nanoseconds;

  [[nodiscard]] Time now() const { return now_; }
  /// `action`: a small closure over plain values.
  template <class Action>
  void at(Time time, Action action) {
    static_assert(std::is_trivially_copyable_v<Action> && sizeof(Action) <= kBytes &&
                  alignof(Action) <= 8);
    Event event{.at = time, .order = added_++, .run = nullptr, .bytes = {}};
    ::new (static_cast<void*>(event.bytes.data())) Action(action);
    event.run = [](std::byte* bytes) { (*std::launder(reinterpret_cast<Action*>(bytes)))(); };
    events_.push(event);
  }
  template <class Action>
  void after(Time delay, Action action) {
    at(now_ + delay, action);
  }
  /// False: nothing is left to happen.
  bool step() {
    if (events_.empty()) return false;
    Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.run(event.bytes.data());
    return true;
  }
  [[nodiscard]] std::uint64_t added() const { return added_; }

 private:
  static constexpr std::size_t kBytes = 40;
  struct Event {
    Time at;
    std::uint64_t order;
    void (*run)(std::byte*);
    alignas(8) std::array<std::byte, kBytes> bytes;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  Time now_{0};
  std::uint64_t added_ = 0;
};

}  // namespace brood::simulation
