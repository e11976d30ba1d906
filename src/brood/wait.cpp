#include <brood/wait.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <thread>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/platform/event_fd.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/quiet_thread.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// Of those that a thread can sleep on, some are the member's own.
constexpr std::size_t kMostWords = kMaxFutexWords - 4;
/// How often it looks when there are more.
constexpr auto kBetweenLooks = 5ms;

/// One call of wait() for objects of which some have no descriptor. See docs/design/wait.md.
class Waiting {
 public:
  explicit Waiting(std::span<const Waitable> objects)
      : objects_(objects), member_(Member::current()) {
    for (const Waitable& object : objects) {
      if (WaitableParts::watch(object) == nullptr) {
        fds_.push_back(WaitableParts::descriptor(object));
      }
    }
  }

  std::vector<std::size_t> run(Deadline deadline) {
    for (bool slept = false;; slept = true) {
      // Before any object that has one there is a family; without, nobody's death matters.
      const std::optional<Member::Glance> glance =
          member_ ? std::optional(member_->look()) : std::nullopt;
      words_.assign(fds_.empty() ? 0 : 1, FutexWord{&stop_, 0});  // first: see futex_wait_any
      soon_ = deadline;
      std::vector<std::size_t> ready = look(slept);
      if (!ready.empty() || deadline.passed()) return ready;
      if (words_.size() > kMostWords) soon_ = soon_.sooner(Deadline::after(kBetweenLooks));
      if (fds_.empty()) {
        sleep(glance);
      } else {
        sleep_beside_descriptors(glance);
      }
    }
  }

 private:
  /// Once at everything.
  std::vector<std::size_t> look(bool slept) {
    std::vector<bool> readable;
    if (!fds_.empty()) readable = wait_readable(fds_, Deadline::now());
    std::vector<std::size_t> ready;
    std::size_t fd = 0;
    std::exception_ptr error;
    for (std::size_t i = 0; i < objects_.size(); ++i) {
      Watch* const watch = WaitableParts::watch(objects_[i]);
      if (watch == nullptr ? readable[fd++] : look_at(*watch, error)) ready.push_back(i);
      // SUBTLE: a sleeper of several words may have been woken on more than the one that the kernel
      // names; so all of them are asked, whatever is wrong with others.
      if (watch != nullptr && slept) watch->pass_on();
    }
    if (error) std::rethrow_exception(error);
    return ready;
  }

  bool look_at(Watch& watch, std::exception_ptr& error) {
    const auto before = static_cast<std::ptrdiff_t>(words_.size());
    bool ready = false;
    try {
      ready = watch.look(words_, soon_);
    } catch (...) {
      error = std::current_exception();
    }
    // Futures of one pool have the same words.
    const auto is_known = [&](const FutexWord& word) {
      return std::any_of(words_.begin(), words_.begin() + before, [&](const FutexWord& known) {
        return known.word == word.word && known.expected == word.expected;
      });
    };
    words_.erase(std::remove_if(words_.begin() + before, words_.end(), is_known), words_.end());
    return ready;
  }

  void sleep(std::optional<Member::Glance> glance) {
    if (member_ && glance) return member_->sleep(*glance, words_, soon_);
    futex_wait_any(std::span(words_).first(std::min(words_.size(), kMostWords)), soon_);
  }

  /// This thread sleeps for the descriptors, another for the words. That one looks at nothing: what
  /// there is to do (a pool may fork a worker) is done by this one when it is alone again.
  void sleep_beside_descriptors(std::optional<Member::Glance> glance) {
    EventFd& event = event_ ? *event_ : event_.emplace();
    stop_.store(0);
    struct Helper {
      Waiting& waiting;
      EventFd& event;
      std::thread thread;
      ~Helper() {
        waiting.stop_.store(1);
        futex_wake_all(waiting.stop_);
        thread.join();
        event.clear();
      }
    } const helper{*this, event, start_quiet_thread([this, glance, &event] {
                     sleep(glance);
                     event.signal();
                   })};
    std::vector<int> all = fds_;
    all.push_back(event.descriptor());
    static_cast<void>(wait_readable(all, soon_));
  }

  std::span<const Waitable> objects_;
  std::shared_ptr<Member> member_;
  std::vector<int> fds_;
  std::vector<FutexWord> words_;
  Deadline soon_ = Deadline::never();
  std::atomic<std::uint32_t> stop_{0};  // the helper sleeps on it too
  std::optional<EventFd> event_;        // the helper has ended its sleep
};

std::vector<std::size_t> wait_for_descriptors(std::span<const Waitable> objects,
                                              Deadline deadline) {
  std::vector<int> fds;
  fds.reserve(objects.size());
  for (const Waitable& object : objects) fds.push_back(WaitableParts::descriptor(object));
  const std::vector<bool> readable = wait_readable(fds, deadline);
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < readable.size(); ++i) {
    if (readable[i]) ready.push_back(i);
  }
  return ready;
}

}  // namespace

std::vector<std::size_t> wait_until(std::span<const Waitable> objects, Deadline deadline) {
  if (objects.empty() && deadline.is_never()) {
    throw StateError("wait: there is nothing to wait for, and no timeout");
  }
  const bool any = std::any_of(objects.begin(), objects.end(), [](const Waitable& object) {
    return WaitableParts::watch(object) != nullptr;
  });
  return any ? Waiting(objects).run(deadline) : wait_for_descriptors(objects, deadline);
}

}  // namespace brood::detail
