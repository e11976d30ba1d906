#include <brood/channel/callback_threads.hpp>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

#include <brood/errors.hpp>
#include <brood/platform/quiet_thread.hpp>
#include <brood/platform/thread_events.hpp>

namespace brood::detail {
namespace {

/// All of this process. Never destroyed: its threads may outlast every object of the program.
class CallbackThreads {
 public:
  static CallbackThreads& instance() {
    static auto* const threads = new CallbackThreads;
    return *threads;
  }

  void post(std::function<void()> callback) {
    std::unique_lock lock(mutex_);
    queue_.push_back(std::move(callback));
    if (idle_ >= queue_.size()) {
      wake_.notify_one();  // lint: condition_variable
      return;
    }
    ++threads_;
    try {
      start_quiet_thread([this] { work(); }).detach();
    } catch (const SystemError&) {
      if (--threads_ > 0) return;  // one of the others does it when it can
      const std::function<void()> last = std::move(queue_.back());
      queue_.pop_back();
      lock.unlock();
      last();
    }
  }
  void expect() {
    const std::lock_guard lock(mutex_);
    ++expected_;
  }
  void expect_no_more() {
    const std::lock_guard lock(mutex_);
    if (--expected_ == 0) wake_.notify_all();  // lint: condition_variable
  }

 private:
  CallbackThreads() {
    // A copy of the process has none of the threads, and wants none of what they were to do.
    on_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
            [] {
              CallbackThreads& copy = instance();
              copy.queue_.clear();
              copy.threads_ = copy.idle_ = copy.expected_ = 0;
              copy.mutex_.unlock();
            });
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      while (queue_.empty() && expected_ > 0) wake_.wait(lock);
      --idle_;
      if (queue_.empty()) break;
      std::function<void()> callback = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      callback();
      callback = nullptr;
      lock.lock();
    }
    --threads_;
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::size_t threads_ = 0;
  std::size_t idle_ = 0;
  std::size_t expected_ = 0;
};

}  // namespace

void post_callback(std::function<void()> callback) {
  CallbackThreads::instance().post(std::move(callback));
}

ExpectedCallback::ExpectedCallback() { CallbackThreads::instance().expect(); }
ExpectedCallback::~ExpectedCallback() { CallbackThreads::instance().expect_no_more(); }

}  // namespace brood::detail
