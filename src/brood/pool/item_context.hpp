// What is being computed by a thread: which item, with which random numbers, with which state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <typeindex>
#include <utility>
#include <vector>

#include <brood/process/current_task.hpp>

namespace brood::detail {

/// A thread computes items from the constructor to the destructor. Where the item's number is, is
/// said once, so that going on to the next costs nothing. Lives on the thread's stack; scopes nest.
class ItemScope {
 public:
  using Index = std::size_t (*)(const void* from);
  using Attempt = std::uint32_t (*)(const void* from);

  /// `index(from)` is the number of the item; null: what is computed has none. Without a seed its
  /// random numbers are by chance. `which(from)` is the attempt, 1 the first time; null: what an
  /// outer scope says.
  ItemScope(const void* from, Index index, std::optional<std::uint64_t> seed,
            Attempt which = nullptr) noexcept
      : from_(from),
        index_(index),
        attempt_(which),
        seed_(seed),
        outer_(std::exchange(current_, this)),
        in_log_(&describe, this) {}
  /// The number is a variable of the caller.
  template <class Integer>
  ItemScope(const Integer* number, std::optional<std::uint64_t> seed) noexcept
      : ItemScope(
            number,
            [](const void* at) {
              return static_cast<std::size_t>(*static_cast<const Integer*>(at));
            },
            seed) {}
  ItemScope(const ItemScope&) = delete;
  ItemScope& operator=(const ItemScope&) = delete;
  ~ItemScope() { current_ = outer_; }

  /// The innermost of the calling thread, or null.
  static ItemScope* current() noexcept { return current_; }

  [[nodiscard]] std::optional<std::size_t> item() const {
    return index_ != nullptr ? std::optional(index_(from_)) : std::nullopt;
  }
  [[nodiscard]] std::uint32_t attempt() const {
    if (attempt_ != nullptr) return attempt_(from_);
    return outer_ != nullptr ? outer_->attempt() : 1;
  }
  [[nodiscard]] std::optional<std::uint64_t> seed() const { return seed_; }
  /// The generator of the item that is computed now.
  std::mt19937_64& stream();
  /// The next item may have the number of the last: it is computed again, or has none.
  void begin_again() noexcept { streaming_ = false; }
  /// The same for whatever the calling thread computes.
  static void current_begins_again() noexcept {
    if (current_ != nullptr) current_->begin_again();
  }

 private:
  static inline thread_local ItemScope* current_ = nullptr;

  static bool describe(const void* scope, TaskNote& note) {
    const auto& self = *static_cast<const ItemScope*>(scope);
    note = {.item = self.item(), .attempt = self.attempt()};
    return true;
  }

  const void* from_;
  Index index_;
  Attempt attempt_;
  std::optional<std::uint64_t> seed_;
  ItemScope* outer_;
  CurrentTask::Scope in_log_;
  bool streaming_ = false;  // stream_ is that of item streamed_
  std::size_t streamed_ = 0;
  std::unique_ptr<std::mt19937_64> stream_;
};

/// A seed that nobody can guess, for a call that was given none. Throws SystemError.
std::uint64_t fresh_seed();

/// What a worker keeps from one item to the next: objects, one of each type, destroyed in reverse.
/// Used by one thread at a time.
class WorkerStates {
 public:
  WorkerStates() = default;
  WorkerStates(const WorkerStates&) = delete;
  WorkerStates& operator=(const WorkerStates&) = delete;
  ~WorkerStates() {
    while (!states_.empty()) states_.pop_back();
  }

  /// The calling thread works with `states` until this ends.
  class Use {
   public:
    explicit Use(WorkerStates& states) noexcept : outer_(std::exchange(current_, &states)) {}
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { current_ = outer_; }

   private:
    WorkerStates* outer_;
  };

  /// The calling thread's; outside of a pool its own, which end with it.
  static WorkerStates& current();

  template <class T, class... Args>
  T& get(Args&&... args) {
    const std::type_index type(typeid(T));
    for (const State& state : states_) {
      if (state.type == type) return static_cast<Of<T>&>(*state.object).value;
    }
    auto made = std::make_unique<Of<T>>(std::forward<Args>(args)...);
    T& value = made->value;
    states_.push_back({type, std::move(made)});
    return value;
  }

 private:
  static inline thread_local WorkerStates* current_ = nullptr;

  struct Any {
    virtual ~Any() = default;
  };
  template <class T>
  struct Of final : Any {
    template <class... Args>
    explicit Of(Args&&... args) : value(std::forward<Args>(args)...) {}
    T value;
  };
  struct State {
    std::type_index type;
    std::unique_ptr<Any> object;
  };
  std::vector<State> states_;
};

}  // namespace brood::detail
