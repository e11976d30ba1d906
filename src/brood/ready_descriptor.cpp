#include <brood/ready_descriptor.hpp>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/platform/event_fd.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/quiet_thread.hpp>

namespace brood {

using detail::Deadline;
using detail::FutexWord;
using detail::Member;

/// The thread. It watches from when `orders_` changes until the object is ready, then sleeps until
/// the next change.
class ReadyDescriptor::Sleeper {
 public:
  explicit Sleeper(const Waitable& object)
      : object_(object), member_(Member::require()), pid_(detail::current_pid()) {
    thread_ = detail::start_quiet_thread([this] { run(); });
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() {
    if (pid_ != detail::current_pid()) {
      thread_.detach();  // it is another process's
    } else {
      give_order(kStop);
      thread_.join();
    }
  }

  [[nodiscard]] int descriptor() const { return event_.descriptor(); }
  void rearm() {
    event_.clear();
    give_order(kWatch);
  }

 private:
  static constexpr std::uint32_t kStop = 1;
  static constexpr std::uint32_t kWatch = 2;  // counted in the bits above

  void give_order(std::uint32_t order) {
    orders_.fetch_add(order);
    detail::futex_wake_all(orders_);
  }

  void run() noexcept {
    for (std::uint32_t done = 0;;) {
      const std::uint32_t orders = orders_.load();
      if ((orders & kStop) != 0) return;
      if (orders == done) {
        detail::futex_wait({&orders_, orders}, Deadline::never());
      } else if (watch(orders)) {
        done = orders;
        event_.signal();
      }
    }
  }

  /// Until it is ready: true; or until the orders change.
  bool watch(std::uint32_t orders) noexcept {
    detail::Watch& watch = *detail::WaitableParts::watch(object_);
    bool ready = false;
    try {
      for (bool slept = false; !ready; slept = true) {
        const Member::Glance glance = member_->look();
        std::vector<FutexWord> words{{&orders_, orders}};
        Deadline soon = Deadline::never();
        ready = watch.look(words, soon);
        if (slept) watch.pass_on();
        if (orders_.load() != orders) break;
        if (!ready) member_->sleep(glance, words, soon);
      }
    } catch (...) {
      watch.pass_on();
      ready = true;  // whoever looks finds the same
    }
    return ready;
  }

  Waitable object_;
  std::shared_ptr<Member> member_;
  int pid_;
  detail::EventFd event_;
  std::atomic<std::uint32_t> orders_{kWatch};
  std::thread thread_;
};

ReadyDescriptor::ReadyDescriptor(const Waitable& object)
    : descriptor_(detail::WaitableParts::descriptor(object)) {
  if (detail::WaitableParts::watch(object) == nullptr) return;
  sleeper_ = std::make_unique<Sleeper>(object);
  descriptor_ = sleeper_->descriptor();
}

ReadyDescriptor::ReadyDescriptor(ReadyDescriptor&& other) noexcept
    : sleeper_(std::move(other.sleeper_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

ReadyDescriptor& ReadyDescriptor::operator=(ReadyDescriptor&& other) noexcept {
  if (this == &other) return *this;
  sleeper_ = std::move(other.sleeper_);
  descriptor_ = std::exchange(other.descriptor_, -1);
  return *this;
}

ReadyDescriptor::~ReadyDescriptor() = default;

int ReadyDescriptor::descriptor() const {
  if (descriptor_ < 0) throw StateError("this ReadyDescriptor was moved elsewhere");
  return descriptor_;
}

void ReadyDescriptor::rearm() {
  static_cast<void>(descriptor());
  if (sleeper_) sleeper_->rearm();
}

}  // namespace brood
