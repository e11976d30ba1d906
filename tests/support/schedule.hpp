// Runs code written against an `Atom` policy under a scheduler that we control.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define BROOD_TEST_FIBER_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define BROOD_TEST_FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BROOD_TEST_FIBER_ASAN 1
#elif __has_feature(thread_sanitizer)
#define BROOD_TEST_FIBER_TSAN 1
#endif
#endif
#ifdef BROOD_TEST_FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef BROOD_TEST_FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace brood::testing {

/// Where the scheduler's decisions come from. All runs with the same decisions are the same.
class Choices {
 public:
  virtual ~Choices() = default;
  /// At an atomic step of a running fiber: true to let another one run first.
  virtual bool preempt() = 0;
  /// At an atomic step of a mortal fiber: true to end it there for ever.
  virtual bool crash() = 0;
  /// Which of `count` fibers is next, or any other free choice.
  virtual std::size_t pick(std::size_t count) = 0;
  /// Which of the fibers that can go on is next; `ready` holds their numbers.
  virtual std::size_t pick_fiber(const std::vector<int>& ready) { return pick(ready.size()); }
};

/// Decisions drawn from a seed, which also decides how often to switch and to crash.
class RandomChoices final : public Choices {
 public:
  RandomChoices(std::uint64_t seed, int crashes) : random_(seed), crashes_(crashes) {
    static constexpr std::uint32_t kOneIn[] = {2, 3, 8, 30};
    switch_one_in_ = kOneIn[random_() % 4];
    crash_one_in_ = static_cast<std::uint32_t>(20 + random_() % 200);
  }
  bool preempt() override { return random_() % switch_one_in_ == 0; }
  bool crash() override {
    if (crashes_ == 0 || random_() % crash_one_in_ != 0) return false;
    --crashes_;
    return true;
  }
  std::size_t pick(std::size_t count) override { return random_() % count; }

 private:
  std::mt19937_64 random_;
  int crashes_;
  std::uint32_t switch_one_in_;
  std::uint32_t crash_one_in_;
};

/// All decisions with at most so many preemptions and crashes, one after the other:
///
///     ExhaustiveChoices all({.preemptions = 2, .crashes = 1});
///     do { run_once(all); } while (all.advance());
class ExhaustiveChoices final : public Choices {
 public:
  struct Bounds {
    int preemptions = 1;
    int crashes = 0;
  };
  explicit ExhaustiveChoices(Bounds bounds) : bounds_(bounds), left_(bounds) {}

  bool preempt() override { return spend(left_.preemptions); }
  bool crash() override { return spend(left_.crashes); }
  std::size_t pick(std::size_t count) override { return count < 2 ? 0 : decide(count); }

  /// Goes on to the next set of decisions. False: there is none.
  bool advance() {
    while (!taken_.empty() && taken_.back().now + 1 == taken_.back().count) taken_.pop_back();
    if (taken_.empty()) return false;
    ++taken_.back().now;
    at_ = 0;
    left_ = bounds_;
    return true;
  }

  /// The decisions other than the first alternative, as "step:choice", to be printed at a failure.
  std::string str() const {
    std::string text;
    for (std::size_t i = 0; i != at_ && i < taken_.size(); ++i) {
      if (taken_[i].now != 0) text += std::to_string(i) + ":" + std::to_string(taken_[i].now) + " ";
    }
    return text;
  }

 private:
  bool spend(int& budget) {
    if (budget == 0) return false;
    const bool yes = decide(2) != 0;
    if (yes) --budget;
    return yes;
  }
  std::size_t decide(std::size_t count) {
    if (at_ == taken_.size()) taken_.push_back({0, count});
    if (taken_[at_].count != count) throw std::logic_error("the run depends on more than choices");
    return taken_[at_++].now;
  }

  struct Decision {
    std::size_t now;
    std::size_t count;
  };
  Bounds bounds_;
  Bounds left_;
  std::vector<Decision> taken_;
  std::size_t at_ = 0;
};

/// One order, told turn by turn: who goes on, and until when.
class ScriptedChoices final : public Choices {
 public:
  struct Turn {
    int fiber;
    /// Looked at before each of its steps. Without: until it waits, or is over.
    std::function<bool()> until = nullptr;
  };
  explicit ScriptedChoices(std::vector<Turn> turns) : turns_(std::move(turns)) {}

  bool preempt() override;
  bool crash() override { return false; }
  std::size_t pick(std::size_t) override { return 0; }
  std::size_t pick_fiber(const std::vector<int>& ready) override {
    for (; at_ != turns_.size(); next()) {
      const auto found = std::find(ready.begin(), ready.end(), turns_[at_].fiber);
      if (found != ready.end()) {
        begun_ = true;
        return static_cast<std::size_t>(found - ready.begin());
      }
      followed_ = followed_ && begun_ && !turns_[at_].until;
    }
    return 0;
  }
  /// All turns were taken, and ended as they should.
  [[nodiscard]] bool followed() const { return followed_ && at_ == turns_.size(); }

 private:
  void next() {
    ++at_;
    begun_ = false;
  }

  std::vector<Turn> turns_;
  std::size_t at_ = 0;
  bool begun_ = false;
  bool followed_ = true;
};

/// Fibers that stand for processes. One runs at a time; at each atomic step (`ScheduledAtom`, or
/// `Schedule::point()`) the choices decide whether another goes on, or whether this one dies there.
///
/// For one thread; one Schedule at a time runs in it. A dead fiber's stack is dropped without
/// unwinding, like that of a killed process, so what mortal fibers hold on it must need no
/// destructor.
class Schedule {
 public:
  explicit Schedule(Choices& choices) : choices_(choices) {}
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;
  ~Schedule() {
    if (current_schedule() == this) current_schedule() = nullptr;
  }

  /// Adds a fiber; also from within a fiber. `on_death` runs in the scheduler if it is crashed.
  void spawn(std::function<void()> body, std::function<void()> on_death = nullptr) {
    auto fiber = std::make_unique<Fiber>();
    fiber->body = std::move(body);
    fiber->on_death = std::move(on_death);
    fiber->number = spawned_++;
    fiber->stack = take_stack();
#ifdef BROOD_TEST_FIBER_TSAN
    // Of its own, or the frames that the dead never leave pile up on the thread's shadow stack.
    fiber->shadow = __tsan_create_fiber(0);
#endif
    fibers_.push_back(std::move(fiber));
  }

  /// Runs until no fiber can go on. Throws what a fiber throws, and std::runtime_error when the
  /// fibers do not come to rest within `most_steps`.
  void run(std::uint64_t most_steps = 1'000'000) {
    Schedule* const outer = current_schedule();
    current_schedule() = this;
    most_steps_ = most_steps;
    for (;;) {
      std::vector<Fiber*> ready;
      for (const auto& f : fibers_) {
        if (!f->over && (!f->ready || f->ready())) ready.push_back(f.get());
      }
      if (ready.empty()) break;
      if (last_ != nullptr && ready.size() > 1 && preempted_) {
        std::erase(ready, last_);  // a preemption lets another one run
      }
      std::vector<int> numbers;
      for (const Fiber* f : ready) numbers.push_back(f->number);
      Fiber* next = ready[choices_.pick_fiber(numbers)];
      preempted_ = false;
      next->ready = nullptr;
      resume(*next);
      if (error_) break;
      if (steps_ > most_steps_) error_ = std::make_exception_ptr(std::runtime_error("no end"));
      if (error_) break;
    }
    current_schedule() = outer;
    for (const auto& f : fibers_) {
#ifdef BROOD_TEST_FIBER_TSAN
      __tsan_destroy_fiber(f->shadow);
#endif
      give_stack(std::move(f->stack));
    }
    fibers_.clear();
    if (error_) std::rethrow_exception(error_);
  }

  std::uint64_t steps() const { return steps_; }

  /// An atomic step: here others may come in between, or this fiber die. No-op outside of fibers.
  static void point() {
    Schedule* self = current_schedule();
    if (self == nullptr || self->running_ == nullptr) return;
    Fiber& me = *self->running_;
    if (++self->steps_ > self->most_steps_) self->leave_fiber(me);
    if (me.on_death && self->choices_.crash()) {
      me.over = true;
      me.on_death();
      self->leave_fiber(me);
    }
    if (self->choices_.preempt()) {
      self->preempted_ = true;
      self->leave_fiber(me);
    }
  }

  /// Lets another fiber run first, if one can.
  static void yield() {
    Schedule& self = *current_schedule();
    self.preempted_ = true;
    self.leave_fiber(*self.running_);
  }

  /// Which fiber runs, by the order of spawning; -1 outside of fibers.
  static int current() {
    const Schedule* self = current_schedule();
    return self == nullptr || self->running_ == nullptr ? -1 : self->running_->number;
  }

  /// Ends the calling fiber's turn until `ready` says true. It must not change anything.
  static void wait_until(std::function<bool()> ready) {
    Schedule& self = *current_schedule();
    Fiber& me = *self.running_;
    me.ready = std::move(ready);
    self.leave_fiber(me);
  }

 private:
  static constexpr std::size_t kStackBytes = 256 * 1024;
  using Stack = std::unique_ptr<std::byte[]>;

  struct Fiber {
    std::function<void()> body;
    std::function<void()> on_death;  // set: mortal
    std::function<bool()> ready;     // unset: may go on at any time
    ucontext_t context{};
    Stack stack;
    int number = 0;
    bool started = false;
    bool over = false;
    void* fake_stack = nullptr;  // AddressSanitizer's
    void* shadow = nullptr;      // ThreadSanitizer's
  };

  static Schedule*& current_schedule() {
    static thread_local Schedule* current = nullptr;
    return current;
  }
  static std::vector<Stack>& spare_stacks() {
    static thread_local std::vector<Stack> spare;
    return spare;
  }
  static Stack take_stack() {
    auto& spare = spare_stacks();
    if (spare.empty()) return Stack(new std::byte[kStackBytes]);
    Stack stack = std::move(spare.back());
    spare.pop_back();
    return stack;
  }
  static void give_stack(Stack stack) {
#ifdef BROOD_TEST_FIBER_ASAN
    __asan_unpoison_memory_region(stack.get(), kStackBytes);  // frames that were never left
#endif
    spare_stacks().push_back(std::move(stack));
  }

  static void entry() {
    Schedule& self = *current_schedule();
    Fiber& me = *self.running_;
#ifdef BROOD_TEST_FIBER_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &self.main_bottom_, &self.main_size_);
#endif
    try {
      me.body();
    } catch (...) {
      self.error_ = std::current_exception();
    }
    me.over = true;
    self.leave_fiber(me);
  }

  void resume(Fiber& fiber) {
    running_ = last_ = &fiber;
    if (!fiber.started) {
      fiber.started = true;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &Schedule::entry, 0);
    }
#ifdef BROOD_TEST_FIBER_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStackBytes);
#endif
#ifdef BROOD_TEST_FIBER_TSAN
    main_shadow_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber.shadow, 0);
#endif
    swapcontext(&main_, &fiber.context);
#ifdef BROOD_TEST_FIBER_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    running_ = nullptr;
  }

  void leave_fiber(Fiber& me) {
#ifdef BROOD_TEST_FIBER_ASAN
    __sanitizer_start_switch_fiber(me.over ? nullptr : &me.fake_stack, main_bottom_, main_size_);
#endif
#ifdef BROOD_TEST_FIBER_TSAN
    __tsan_switch_to_fiber(main_shadow_, 0);
#endif
    swapcontext(&me.context, &main_);
#ifdef BROOD_TEST_FIBER_ASAN
    __sanitizer_finish_switch_fiber(me.fake_stack, &main_bottom_, &main_size_);
#endif
  }

  Choices& choices_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  int spawned_ = 0;
  Fiber* running_ = nullptr;
  Fiber* last_ = nullptr;
  bool preempted_ = false;
  std::uint64_t steps_ = 0;
  std::uint64_t most_steps_ = 0;
  std::exception_ptr error_;
  ucontext_t main_{};
#ifdef BROOD_TEST_FIBER_ASAN
  const void* main_bottom_ = nullptr;
  std::size_t main_size_ = 0;
#endif
#ifdef BROOD_TEST_FIBER_TSAN
  void* main_shadow_ = nullptr;
#endif
};

inline bool ScriptedChoices::preempt() {
  if (at_ == turns_.size() || turns_[at_].fiber != Schedule::current()) return false;
  if (!turns_[at_].until || !turns_[at_].until()) return false;
  next();
  return true;
}

/// Stands in for std::atomic<T>: each operation is one step of the Schedule. Sequentially
/// consistent whatever it is told; weaker orders are ThreadSanitizer's business.
template <class T>
class ScheduledAtom {
 public:
  static constexpr bool is_always_lock_free = true;
  constexpr ScheduledAtom() = default;
  constexpr ScheduledAtom(T value) : value_(value) {}  // NOLINT: as std::atomic
  ScheduledAtom(const ScheduledAtom&) = delete;
  ScheduledAtom& operator=(const ScheduledAtom&) = delete;

  T load(std::memory_order = std::memory_order_seq_cst) const {
    Schedule::point();
    return value_;
  }
  void store(T value, std::memory_order = std::memory_order_seq_cst) {
    Schedule::point();
    value_ = value;
  }
  T exchange(T value, std::memory_order = std::memory_order_seq_cst) {
    Schedule::point();
    return std::exchange(value_, value);
  }
  T fetch_add(T value, std::memory_order = std::memory_order_seq_cst) {
    Schedule::point();
    return std::exchange(value_, static_cast<T>(value_ + value));
  }
  bool compare_exchange_strong(T& expected, T value, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) {
    Schedule::point();
    if (value_ == expected) {
      value_ = value;
      return true;
    }
    expected = value_;
    return false;
  }
  bool compare_exchange_weak(T& expected, T value, std::memory_order = std::memory_order_seq_cst,
                             std::memory_order = std::memory_order_seq_cst) {
    return compare_exchange_strong(expected, value);
  }

 private:
  T value_{};
};

}  // namespace brood::testing
